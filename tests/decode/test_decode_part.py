"""`decode_part`: exact accounting, layers that only ever add, nothing decoded twice."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bad_decoders import CRASH, ONCE
from clips import packet_places, rendered
from PIL import Image
from rendering import Rendering, audio_only_bytes, read_bar_code, render_video

from weave_data.config import FramesConfig
from weave_data.decode import DecodeReceipt, DecodeRequest, DecodeSettings, decode_part
from weave_data.decode.layers import LAYER_SCHEMA
from weave_data.errors import AccountingError, DeviceError, StoreError
from weave_data.frame_policy import FrameAsk
from weave_data.records import REJECT_SCHEMA, clips_table
from weave_data.shard.addresses import ADDRESS_SCHEMA
from weave_data.storage import Store, open_source, open_store
from weave_data.tables import read_table_bytes, sha256_hex

pytestmark = pytest.mark.process

COUNTING, MISBEHAVING = "bad_decoders:CountingDecoder", "bad_decoders:MisbehavingDecoder"


def settings(decoder: str = "pyav", **changes: Any) -> DecodeSettings:
    # the configuration knows two decoders only; tests bring theirs past its validation
    frames = FramesConfig().model_copy(update={"short_side_px": 48, "decoder": decoder})
    return DecodeSettings(frames=frames, clip_timeout_seconds=120.0, **changes)


@dataclass
class Bench:
    """A source folder with its catalog rows, and an output."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def put(self, clip_id: str, data: bytes) -> None:
        key = f"page/{len(self.rows)}.mp4"
        path = self.folder / "videos" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.rows.append({"clip_id": clip_id, "key": key, "caption": "c", "size_bytes": len(data)})

    def store(self, name: str = "out") -> Store:
        return open_store(str(self.folder / name))

    def decode(
        self,
        *frame_counts: int,
        m: int | None = None,
        out: str = "out",
        quarantine: tuple[str, ...] = (),
        how: DecodeSettings | None = None,
        store: Store | None = None,
        asks: tuple[FrameAsk, ...] = (),
        retries: dict[str, int] | None = None,
    ) -> DecodeReceipt:
        clips = clips_table(pa.Table.from_pylist(self.rows))
        wanted = (*(FrameAsk("linspace", count) for count in frame_counts), *asks)
        request = DecodeRequest("part-00000", clips, wanted, m, frozenset(quarantine), retries or {})
        source = open_source(str(self.folder / "videos"))
        return decode_part(request, store=store or self.store(out), source=source, settings=how or settings())

    def files(self, name: str = "out") -> dict[str, str]:
        root = self.folder / name
        return {str(path.relative_to(root)): sha256_hex(path) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def num_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many clips CountingDecoder has decoded since the last call."""
    log = tmp_path / "decoded.txt"
    log.touch()
    monkeypatch.setenv("WEAVE_TEST_DECODED", str(log))

    def count() -> int:
        lines = len(log.read_text().splitlines())
        log.write_text("")
        return lines

    return count


def frames_of(receipt: DecodeReceipt, store: Store) -> dict[tuple[str, int], bytes]:
    """Every stored JPEG of a receipt, through its addresses."""
    found = {}
    for row in receipt.addresses(receipt.frames_key).to_pylist():
        lists = (row["frame_index"], row["frame_tar"], row["frame_offset"], row["frame_bytes"])
        for index, tar, offset, num_bytes in zip(*lists, strict=True):
            found[row["clip_id"], index] = store.get_range(tar, offset, offset + num_bytes)
    return found


def number_in(jpeg: bytes) -> int:
    return read_bar_code(np.asarray(Image.open(io.BytesIO(jpeg))))


def without_places(receipt: DecodeReceipt) -> list[dict[str, Any]]:
    return receipt.index.drop_columns(["frame_layer", "frame_offset"]).to_pylist()


def damaged_late() -> bytes:
    """MPEG-4 whose third group is damaged after the frame that is measured of it."""
    data = bytearray(render_video(Rendering(codec="mpeg4")))
    position, size = packet_places(bytes(data))[31]
    data[position + 8 : position + size] = bytes(byte ^ 0xFF for byte in data[position + 8 : position + size])
    return bytes(data)


def fill(bench: Bench) -> None:
    for index in range(3):
        bench.put(f"good/{index}", render_video(Rendering(num_frames=30 + index)))
    bench.put("short", render_video(Rendering(num_frames=3)))
    bench.put("empty", b"")
    bench.put("text", b"not found\n" * 50)
    bench.put("sound", audio_only_bytes())
    bench.put("cut", rendered("h264")[:6000])
    bench.put("damaged", damaged_late())
    bench.put("given-up", CRASH)


def test_clips_in_are_clips_out_filtered_or_rejected_with_a_reason(bench: Bench) -> None:
    fill(bench)
    receipt = bench.decode(4, 16, m=2, quarantine=("given-up",))
    assert receipt.count.to_json() == {
        "stage": "decode",
        "in": 10,
        "out": 4,
        "filtered": {"quarantined": 1},
        "rejected": {
            "corrupt": 1,
            "empty_file": 1,
            "no_video_stream": 1,
            "not_a_video": 1,
            "truncated": 1,
        },
        "duplicates": 0,
    }
    assert receipt.open_clips == ()
    assert receipt.rejects.schema.equals(REJECT_SCHEMA)
    reasons = {row["clip_id"]: (row["reason"], row["key"]) for row in receipt.rejects.to_pylist()}
    assert reasons["text"] == ("not_a_video", "page/5.mp4")
    assert reasons["damaged"][0] == "corrupt"
    assert receipt.index["clip_id"].to_pylist() == ["good/0", "good/1", "good/2", "short"]
    again = bench.decode(4, 16, m=2, quarantine=("given-up",))
    assert (again.count, again.rejects) == (receipt.count, receipt.rejects)


def test_stored_frames_are_the_numbered_ones_at_linspace(bench: Bench) -> None:
    fill(bench)
    bench.rows.pop()
    receipt = bench.decode(4, 16, m=2)
    frames = frames_of(receipt, bench.store())
    for row in receipt.index.to_pylist():
        n = row["source_frames"]
        needed = {i for k in (2, 4, 16) for i in np.linspace(0, n - 1, min(k, n)).astype(int).tolist()}
        assert set(row["frame_index"]) == needed
        assert row["frame_index"][:2] == [0, n - 1]  # the embedding's two are a prefix
        assert row["frame_seconds"] == pytest.approx([index / 25 for index in row["frame_index"]])
        assert (row["width"], row["height"]) == (72, 48)
    assert len(frames) == sum(len(row["frame_index"]) for row in receipt.index.to_pylist())
    for (_, index), jpeg in frames.items():
        assert number_in(jpeg) == index


def test_the_tar_holds_each_clip_contiguous_and_the_index_comes_last(bench: Bench) -> None:
    fill(bench)
    bench.rows.pop()
    receipt = bench.decode(1, 4)
    tar, rejects, index = sorted(bench.files(), key=lambda key: (".parquet" in key, ".rejects" not in key))
    assert (tar[-4:], rejects[-16:], index[-8:]) == (".tar", ".rejects.parquet", ".parquet")
    with tarfile.open(bench.folder / "out" / tar) as archive:
        names = archive.getnames()
    assert names[:4] == [f"good%2F0/{index:06d}.jpg" for index in (0, 9, 19, 29)]
    folders = [name.split("/")[0] for name in names]
    assert folders == sorted(folders, key=folders.index)
    stored = read_table_bytes((bench.folder / "out" / index).read_bytes(), schema=LAYER_SCHEMA)
    description = json.loads(stored.schema.metadata[b"weave_layer"])
    assert description["tar_sha256"] == bench.files()[tar]
    assert description["count"] == receipt.count.to_json()
    assert description["request"]["asks"] == [{"policy": "linspace", "count": k} for k in (1, 4)]


def test_a_second_call_decodes_nothing(bench: Bench, num_decoded: Callable[[], int]) -> None:
    fill(bench)
    bench.rows.pop()
    how = settings(COUNTING)
    first = bench.decode(2, 16, m=3, how=how)
    assert num_decoded() == 9
    files = bench.files()
    again = bench.decode(2, 16, m=3, how=how)
    assert num_decoded() == 0
    assert again.index.equals(first.index)
    assert (first.files_written, first.files_reused, first.reused_layers) == (3, 0, 0)
    assert (again.files_written, again.files_reused, again.reused_layers) == (0, 3, 1)
    subset = bench.decode(1, how=how)
    assert num_decoded() == 1  # only the damaged clip: its first frame lies before the damage
    assert subset.count.num_out == 5
    assert set(files) <= set(bench.files())


def test_an_added_k_decodes_only_missing_frames_and_gives_what_a_straight_build_gives(
    bench: Bench, num_decoded: Callable[[], int]
) -> None:
    for name in ("h264", "vp8", "hevc", "vp9"):
        bench.put(name, rendered(name))
    bench.put("of-4-frames", render_video(Rendering(num_frames=4)))
    how = settings(COUNTING)
    bench.decode(4, m=2, how=how)
    num_decoded()
    grown = bench.decode(4, 16, m=2, how=how)
    assert num_decoded() == 4  # the clip of 4 frames has them all
    straight = bench.decode(4, 16, m=2, how=how, out="straight")
    assert without_places(grown) == without_places(straight)
    assert frames_of(grown, bench.store()) == frames_of(straight, bench.store("straight"))
    layers = {name for names in grown.index["frame_layer"].to_pylist() for name in names}
    assert len(layers) == 2
    assert grown.load_embedding_jpegs(bench.store()) == straight.load_embedding_jpegs(bench.store("straight"))


def test_two_runs_commit_the_same_bytes(bench: Bench) -> None:
    fill(bench)
    bench.rows.pop()
    bench.decode(4, 16, m=2, out="one")
    bench.decode(16, 4, m=2, out="two", how=settings(prefetch_clips=1, recycle_clips=2))
    assert bench.files("one") == bench.files("two")


def test_damage_counts_where_the_request_needs_the_frames_whatever_was_stored_before(bench: Bench) -> None:
    bench.put("damaged", damaged_late())
    bench.put("good", rendered("mpeg4"))
    assert bench.decode(1).index["clip_id"].to_pylist() == ["damaged", "good"]
    assert bench.decode(1, 16).index["clip_id"].to_pylist() == ["good"]
    assert bench.decode(16).index["clip_id"].to_pylist() == ["good"]
    alone = bench.decode(1)
    assert alone.index["clip_id"].to_pylist() == ["damaged", "good"]
    assert alone.files_written == 0
    assert bench.decode(1, 16, out="other").index["clip_id"].to_pylist() == ["good"]
    assert bench.decode(1, out="other").index["clip_id"].to_pylist() == ["damaged", "good"]


def test_a_clip_shorter_than_k_keeps_all_its_frames(bench: Bench) -> None:
    bench.put("short", render_video(Rendering(num_frames=3)))
    rows = {
        name: receipt.index.to_pylist()[0]
        for name, receipt in {
            "both": bench.decode(2, 16),
            "long": bench.decode(16, out="long"),
            "embedded": bench.decode(16, m=8, out="embedded"),
        }.items()
    }
    assert [rows[name]["frame_index"] for name in rows] == [[0, 2, 1], [0, 1, 2], [0, 1, 2]]
    assert {row["source_frames"] for row in rows.values()} == {3}
    assert {(row["width"], row["height"]) for row in rows.values()} == {(72, 48)}


def test_embedding_jpegs_are_the_same_fresh_and_from_the_tar(bench: Bench) -> None:
    fill(bench)
    bench.rows.pop()
    fresh = bench.decode(2, m=4)
    assert fresh.embedding_jpegs is not None
    stored = replace(bench.decode(2, m=4), embedding_jpegs=None)
    assert stored.load_embedding_jpegs(bench.store()) == fresh.embedding_jpegs
    numbers = [[number_in(jpeg) for jpeg in jpegs] for jpegs in fresh.embedding_jpegs]
    lengths = fresh.index["source_frames"].to_pylist()
    assert numbers == [np.linspace(0, n - 1, min(n, 4)).astype(int).tolist() for n in lengths]


def test_a_lost_clip_leaves_the_part_open_and_the_same_call_resumes(bench: Bench, tmp_path: Path) -> None:
    bench.put("good", rendered("h264"))
    bench.put("crashes", CRASH)
    bench.put("once", ONCE + str(tmp_path / "seen").encode() + b"\n" + rendered("h264"))
    receipt = bench.decode(4, how=settings(MISBEHAVING))
    assert [clip_id for clip_id, _ in receipt.open_clips] == ["crashes"]
    assert receipt.open_clips[0][1].startswith("killed: ")
    assert (receipt.index.num_rows, receipt.count.num_in, bench.files()) == (0, 0, {})
    assert receipt.addresses(receipt.frames_key).num_rows == 0
    done = bench.decode(4, how=settings(MISBEHAVING), quarantine=("crashes",))
    assert (done.count.num_out, done.count.filtered) == (2, {"quarantined": 1})


def test_a_source_that_changed_or_can_not_be_read_is_a_circumstance(bench: Bench) -> None:
    for clip_id in ("grown", "gone", "unreadable"):
        bench.put(clip_id, rendered("h264"))
    videos = bench.folder / "videos"
    (videos / bench.rows[0]["key"]).write_bytes(rendered("h264") + b"x")
    (videos / bench.rows[1]["key"]).unlink()
    (videos / bench.rows[2]["key"]).unlink()
    (videos / bench.rows[2]["key"]).mkdir()  # reading it fails, for root too
    receipt = bench.decode(4)
    reasons = {clip_id: reason.split(":")[0] for clip_id, reason in receipt.open_clips}
    assert reasons == {"grown": "source_changed", "gone": "source_changed", "unreadable": "store_error"}
    assert bench.files() == {}


def test_frames_of_another_file_under_the_same_id_are_not_reused(bench: Bench) -> None:
    bench.put("a", render_video(Rendering(num_frames=20)))
    bench.put("b", render_video(Rendering(num_frames=20)))
    bench.decode(4)
    bench.rows.clear()
    bench.put("a", render_video(Rendering(num_frames=31)))
    bench.put("b", (bench.folder / "videos/page/1.mp4").read_bytes())
    receipt = bench.decode(4)
    assert receipt.index["source_frames"].to_pylist() == [31, 20]
    numbers = [number_in(jpeg) for jpeg in frames_of(receipt, bench.store()).values()]
    assert numbers == [0, 10, 20, 30, 0, 6, 12, 19]
    assert receipt.reused_layers == 1


def test_a_tar_past_the_limit_is_cut_into_layers(bench: Bench) -> None:
    for index in range(4):
        bench.put(f"c{index}", render_video(Rendering(num_frames=20 + index)))
    cut = bench.decode(4, m=2, how=settings(max_tar_bytes=9000))
    whole = bench.decode(4, m=2, out="whole")
    assert sum(name.endswith(".tar") for name in bench.files()) == 2
    assert without_places(cut) == without_places(whole)
    assert frames_of(cut, bench.store()) == frames_of(whole, bench.store("whole"))
    assert cut.embedding_jpegs == whole.embedding_jpegs
    assert bench.decode(4, m=2, how=settings(max_tar_bytes=9000)).files_written == 0


class LosingStore:
    """A store whose index writes fail, as when a run is killed after the tar's PUT."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_new(self, key: str, data: bytes | Path, *, sha256: str | None = None) -> Any:
        if key.endswith(".parquet"):
            raise StoreError("the link is down")
        return self._store.put_new(key, data, sha256=sha256)


def test_a_run_that_ended_between_tar_and_index_is_resumed_with_the_same_bytes(bench: Bench) -> None:
    bench.put("a", rendered("h264"))
    with pytest.raises(StoreError, match="link is down"):
        bench.decode(4, store=LosingStore(bench.store()))
    assert [name[-4:] for name in bench.files()] == [".tar"]
    receipt = bench.decode(4)
    assert (receipt.count.num_out, receipt.files_written) == (1, 1)  # the tar is there and equal
    bench.decode(4, out="straight")
    assert bench.files() == bench.files("straight")


def test_addresses_are_what_shards_are_gathered_by(bench: Bench) -> None:
    bench.put("a", rendered("h264"))
    addresses = bench.decode(4).addresses("0123abcd")
    assert addresses.schema.names == ADDRESS_SCHEMA.names
    assert addresses.drop_columns(["frame_tar"]).schema.equals(
        pa.schema([field for field in ADDRESS_SCHEMA if field.name != "frame_tar"])
    )
    tars = set(addresses["frame_tar"].to_pylist()[0])
    assert len(tars) == 1
    assert tars.pop().startswith("frames/0123abcd/")


def test_a_clip_named_twice_in_a_part_is_an_accounting_error(bench: Bench) -> None:
    bench.put("a", rendered("h264"))
    bench.put("a", rendered("h264"))
    with pytest.raises(AccountingError, match="must be distinct"):
        bench.decode(4)


def test_scratch_is_below_the_work_folder_and_left_empty(bench: Bench) -> None:
    bench.put("a", rendered("h264"))
    work = bench.folder / "scratch" / "deep"
    bench.decode(4, how=settings(work_dir=work))
    assert list(work.iterdir()) == []


def test_a_missing_decoder_stops_before_anything_is_committed(bench: Bench) -> None:
    bench.put("a", rendered("h264"))
    with pytest.raises(DeviceError, match="can't be loaded"):
        bench.decode(4, how=settings("no_such_package:Decoder"))
    assert bench.files() == {}
