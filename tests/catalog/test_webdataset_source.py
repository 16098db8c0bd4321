"""Tars as video2dataset and img2dataset write them: clips by offset, broken samples counted."""

from __future__ import annotations

import io
import json
import tarfile

import pyarrow as pa
import pytest

from weave_data.catalog import build_catalog, catalog_key, preview_catalog
from weave_data.catalog.tars import RangedFile
from weave_data.config import SourceConfig
from weave_data.errors import SourceError
from weave_data.storage import SourceRoot, open_source, open_store


def tar_bytes(members, **how):
    """A tar of (name, bytes) in order; None instead of bytes is a folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **how) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def sample(name, *, suffix="mp4", data=b"video", text=b"a caption", facts=None):
    members = [(f"{name}.{suffix}", data), (f"{name}.txt", text)]
    if facts is not None:
        members.append((f"{name}.json", facts if isinstance(facts, bytes) else json.dumps(facts).encode()))
    return [(member, content) for member, content in members if content is not None]


def counted_reads(monkeypatch):
    """Ranges (key, length) read from now on."""
    asked, read = [], SourceRoot.read_range

    def counting(self, key, start, stop):
        asked.append((key, stop - start))
        return read(self, key, start, stop)

    monkeypatch.setattr(SourceRoot, "read_range", counting)
    return asked


def built(tmp_path, tars):
    """Catalog, clips and rejects of tars (key -> bytes)."""
    for key, data in tars.items():
        path = tmp_path / "tars" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    store = open_store(str(tmp_path / "output"))
    catalog = build_catalog(SourceConfig(kind="webdataset", videos=str(tmp_path / "tars")), store)
    tables = [catalog.read_part(store, part) for part in catalog.parts]
    clips = pa.concat_tables(tables).to_pylist() if tables else []
    return catalog, clips, catalog.read_rejects(store).to_pylist()


def test_clips_are_addressed_inside_their_tar(tmp_path):
    facts = {"key": "k1", "url": "https://example.org/1", "caption": "from json", "license": "CC-BY"}
    tars = {
        "a/00000.tar": tar_bytes(
            [*sample("0000", data=b"one" * 700, facts=facts), *sample("0001", data=b"two")]
        ),
        "a/00001.tar": tar_bytes(
            sample("0100", suffix="JPG", data=b"picture", text=None, facts={"caption": "x"})
        ),
        "a/00001_stats.json": b"{}",
    }
    _, clips, rejects = built(tmp_path, tars)
    assert rejects == []
    found = [(clip["clip_id"], clip["key"], clip["caption"], clip["media"]) for clip in clips]
    assert found == [
        ("k1", "a/00000.tar/0000.mp4", "a caption", "video"),
        ("0001", "a/00000.tar/0001.mp4", "a caption", "video"),
        ("0100", "a/00001.tar/0100.JPG", "x", "image"),
    ]
    assert (clips[0]["page"], clips[0]["licence"]) == ("https://example.org/1", "CC-BY")
    source = open_source(str(tmp_path / "tars"))
    for clip, data in zip(clips, (b"one" * 700, b"two", b"picture"), strict=True):
        tar = clip["key"].partition(".tar/")[0] + ".tar"
        assert source.read_range(tar, clip["offset"], clip["offset"] + clip["size_bytes"]) == data


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_any_order_of_members_are_read(tmp_path, form):
    long = "d/" + "n" * 80  # beyond what a ustar header holds in its first field with the folder
    members = [
        ("./d", None),
        (f"./{long}.txt", b"late"),
        ("x.txt", b"x"),
        (f"./{long}.webm", b"w"),
        ("x.mkv", b"k"),
    ]
    _, clips, rejects = built(tmp_path, {"t.tar": tar_bytes(members, format=form)})
    assert rejects == []
    assert [(clip["clip_id"], clip["key"]) for clip in clips] == [
        (long.replace("/", "_"), f"t.tar/{long}.webm"),
        ("x", "t.tar/x.mkv"),
    ]


GOOD = sample("good")


@pytest.mark.parametrize(
    ("members", "clip_id", "reason", "detail"),
    [
        pytest.param(sample("a", text=None), "a", "empty_caption", "no text in .txt", id="no caption"),
        pytest.param(sample("a", text=b" \n"), "a", "empty_caption", "no text in .txt", id="blank caption"),
        pytest.param(sample("a", data=None), "a", "missing", "no video or image", id="caption alone"),
        pytest.param(
            sample("a", data=None, text=None, facts={"key": "k"}), "k", "missing", "no video", id="json alone"
        ),
        pytest.param(sample("a", data=b""), "a", "empty_file", "0 bytes", id="empty video"),
        pytest.param(sample("a", text=b"caf\xe9"), "a", "bad_record", "not UTF-8", id="latin-1 caption"),
        pytest.param(sample("a", facts=b"{"), "a", "bad_record", "not JSON", id="broken json"),
        pytest.param(
            sample("a", facts=b"\xff"), "a", "bad_record", "not JSON", id="json of another encoding"
        ),
        pytest.param(sample("a", facts=[1]), "a", "bad_record", "holds list", id="json of another shape"),
        pytest.param(
            sample("a", text=None, facts={"caption": ["x"]}),
            "a",
            "bad_record",
            "caption is list",
            id="caption list",
        ),
        pytest.param(sample("../a"), "_a", "missing", "leads out", id="member leads out"),
        pytest.param(sample("/etc/a"), "_etc_a", "missing", "leads out", id="absolute member"),
        pytest.param(sample("b\\..\\a"), "b_.._a", "missing", "leads out", id="backslashes"),
    ],
)
def test_a_broken_sample_is_a_counted_reject(tmp_path, members, clip_id, reason, detail):
    catalog, clips, rejects = built(tmp_path, {"t.tar": tar_bytes([*GOOD, *members])})
    assert [clip["clip_id"] for clip in clips] == ["good"]
    [found] = rejects
    assert (found["clip_id"], found["reason"]) == (clip_id, reason)
    assert detail in found["detail"]
    assert catalog.count.to_json()["rejected"] == {reason: 1}


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        pytest.param(b"", "empty_file", "0 bytes", id="empty"),
        pytest.param(b"<html>not here</html>" * 100, "corrupt", "not a tar", id="a web page"),
        pytest.param(
            tar_bytes(sample("a", data=b"v" * 5000))[:3000],
            "truncated",
            "after 1 samples",
            id="cut in a member",
        ),
        pytest.param(
            tar_bytes(sample("a"))[:2048], "truncated", "without an end mark", id="cut between members"
        ),
        pytest.param(
            tar_bytes(sample("a"))[:2048] + b"x" * 1024, "corrupt", "no header at byte 2048", id="garbage"
        ),
        pytest.param(
            tar_bytes(sample("a"))[:1024] + bytes(100), "truncated", "after 1 samples", id="cut in a header"
        ),
    ],
)
def test_a_damaged_tar_is_a_counted_reject_of_its_own(tmp_path, data, reason, detail):
    _, clips, rejects = built(tmp_path, {"bad.tar": data, "good.tar": tar_bytes(GOOD)})
    assert "good" in [clip["clip_id"] for clip in clips]
    [found] = [item for item in rejects if item["clip_id"] == "bad.tar"]
    assert (found["key"], found["reason"]) == ("bad.tar", reason)
    assert detail in found["detail"]


def test_of_two_samples_with_one_id_the_first_is_kept(tmp_path):
    again = sample("b", facts={"key": "good"})
    catalog, clips, _ = built(tmp_path, {"t.tar": tar_bytes([*GOOD, *again, *sample("c")])})
    assert [clip["key"] for clip in clips] == ["t.tar/good.mp4", "t.tar/c.mp4"]
    assert catalog.count.duplicates == 1


def test_a_thumbnail_belongs_to_its_video(tmp_path):
    members = [("a.jpg", b"small"), ("a.mp4", b"video"), ("a.txt", b"text")]
    _, clips, _ = built(tmp_path, {"t.tar": tar_bytes(members)})
    assert [clip["key"] for clip in clips] == ["t.tar/a.mp4"]


@pytest.mark.parametrize(
    ("tars", "message"),
    [
        pytest.param({"readme.txt": b"x"}, r"holds no \.tar file", id="no tar"),
        pytest.param({"a.tar.gz": b"x"}, r"a\.tar\.gz is compressed; .*unpack", id="compressed"),
        pytest.param(
            {"x.tar/b.tar": tar_bytes(GOOD)}, r"folder's name may not end with \.tar", id="folder.tar"
        ),
        pytest.param({"a.tar": tar_bytes([("a.pdf", b"x")])}, "holds no rows", id="other members"),
        pytest.param(
            {"a.tar": tar_bytes([("a.txt", b"x")])}, r"no clip in the 1 tars .*missing 1", id="no pairs"
        ),
        pytest.param({"a.tar": b""}, r"no clip in the 1 tars .*empty_file 1", id="only an empty tar"),
        pytest.param(
            {f"{name}.tar": tar_bytes([*sample("0"), *sample("1")]) for name in "abc"},
            r"4 of 6 samples repeat the name",
            id="numbered per tar",
        ),
    ],
)
def test_tars_that_are_no_source_are_one_line(tmp_path, tars, message):
    with pytest.raises(SourceError, match=message) as caught:
        built(tmp_path, tars)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "output").exists()


def test_the_address_of_a_single_tar_says_to_give_its_folder(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar_bytes(GOOD))
    with pytest.raises(SourceError, match=r"is a tar; give the folder that holds it"):
        catalog_key(SourceConfig(kind="webdataset", videos=str(tmp_path / "a.tar")))


def test_a_rewritten_tar_of_the_same_size_is_another_catalog(tmp_path):
    built(tmp_path, {"t.tar": tar_bytes(GOOD)})
    config = SourceConfig(kind="webdataset", videos=str(tmp_path / "tars"))
    before = catalog_key(config)
    assert catalog_key(config) == before
    (tmp_path / "tars" / "t.tar").write_bytes(tar_bytes(sample("good", text=b"b caption")))
    assert catalog_key(config) != before


def test_a_committed_catalog_reads_only_heads_of_tars(tmp_path, monkeypatch):
    first, _, _ = built(tmp_path, {"t.tar": tar_bytes(sample("a", data=b"v" * 200_000))})
    asked = counted_reads(monkeypatch)
    assert built(tmp_path, {})[0] == first
    assert asked == [("t.tar", 1 << 16)]


def test_large_members_are_stepped_over_and_small_ones_share_requests(tmp_path, monkeypatch):
    large = tar_bytes([member for index in range(8) for member in sample(f"{index}", data=bytes(1 << 20))])
    small = tar_bytes([member for index in range(500) for member in sample(f"s{index}", data=bytes(900))])
    asked = counted_reads(monkeypatch)
    _, clips, _ = built(tmp_path, {"large.tar": large, "small.tar": small})
    assert len(clips) == 508
    assert sum(size for key, size in asked if key == "large.tar") < len(large) / 4
    assert len([key for key, _ in asked if key == "small.tar"]) < 12


def test_preview_estimates_from_some_of_the_tars(tmp_path):
    tars = {f"{n:02d}.tar": tar_bytes([m for i in range(5) for m in sample(f"{n}-{i}")]) for n in range(12)}
    built(tmp_path, tars)
    assert preview_catalog(SourceConfig(kind="webdataset", videos=str(tmp_path / "tars"))) == 60


def test_the_window_gives_the_bytes_of_the_file(tmp_path):
    data = bytes(range(256)) * 1000
    (tmp_path / "f.tar").write_bytes(data)
    file = RangedFile(open_source(str(tmp_path)), "f.tar", len(data))
    for at, size in ((0, 10), (255_990, 100), (5, 70_000), (70_005, 512), (0, 512), (300_000, 1)):
        file.seek(at)
        assert file.read(size) == data[at : at + size]
        assert file.tell() == min(at + size, max(at, len(data)))
    file.seek(-4, 2)
    assert file.read() == data[-4:]
