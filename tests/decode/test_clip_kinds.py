"""Images, clips inside tars, lossless frames, second chances: what `decode_part` takes besides videos."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from clips import rendered
from PIL import Image
from rendering import Rendering, draw_frame, render_video

from weave_data.config import FramesConfig
from weave_data.decode import DecodeReceipt, DecodeRequest, DecodeSettings, decode_part
from weave_data.decode.images import MAX_PIXELS, read_image
from weave_data.decode.job import ClipJob
from weave_data.decode.picture import SWSCALE_EXACT
from weave_data.errors import DecodeError
from weave_data.frame_policy import FrameAsk
from weave_data.records import QUALITY_SCHEMA, clips_table
from weave_data.storage import open_source, open_store

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}


def image_bytes(kind: str, *, mode: str = "RGB", **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(draw_frame(5, width=96, height=64)).convert(mode).save(sink, kind, **options)
    return sink.getvalue()


def decode(
    folder: Path,
    rows: list[dict[str, Any]],
    *counts: int,
    m: int | None = None,
    retries: dict[str, int] | None = None,
    **frames: Any,
) -> DecodeReceipt:
    asks = tuple(FrameAsk("linspace", count) for count in counts)
    request = DecodeRequest("part", clips_table(pa.Table.from_pylist(rows)), asks, m, retries=retries or {})
    config = FramesConfig().model_copy(update={"short_side_px": 48, **frames})
    settings = DecodeSettings(frames=config, clip_timeout_seconds=120.0)
    source = open_source(str(folder / "source"))
    return decode_part(request, store=open_store(str(folder / "out")), source=source, settings=settings)


def put(folder: Path, clip_id: str, data: bytes, *, media: str = "video") -> dict[str, Any]:
    path = folder / "source" / clip_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"clip_id": clip_id, "key": clip_id, "caption": "c", "size_bytes": len(data), "media": media}


def stored(folder: Path, receipt: DecodeReceipt) -> dict[str, list[bytes]]:
    store = open_store(str(folder / "out"))
    found = {}
    for row in receipt.addresses().to_pylist():
        places = zip(row["frame_tar"], row["frame_offset"], row["frame_bytes"], strict=True)
        found[row["clip_id"]] = [store.get_range(tar, at, at + size) for tar, at, size in places]
    return found


@pytest.mark.process
def test_images_are_stored_as_they_are_and_embedded_themselves(tmp_path: Path) -> None:
    images = {f"i.{suffix}": image_bytes(kind) for kind, suffix in FORMATS.items()}
    rows = [put(tmp_path, name, data, media="image") for name, data in images.items()]
    rows += [put(tmp_path, "bad", images["i.png"][:-30], media="image"), put(tmp_path, "v", rendered("h264"))]
    receipt = decode(tmp_path, rows, 1, 4, m=4)
    frames = stored(tmp_path, receipt)
    assert {name: frames[name] for name in images} == {name: [data] for name, data in images.items()}
    assert receipt.embedding_jpegs is not None
    assert receipt.embedding_jpegs[:4] == [[data] for data in images.values()]
    assert receipt.index["source_frames"].to_pylist() == [1, 1, 1, 1, 40]
    assert receipt.index["source_seconds"].to_pylist() == pytest.approx([0, 0, 0, 0, 39 / 25])
    assert set(receipt.index["width"].to_pylist()[:4]) == {96}
    assert receipt.count.rejected == {"not_an_image": 1}
    (tar,) = (tmp_path / "out").rglob("*.tar")
    with tarfile.open(tar) as archive:
        names = archive.getnames()
    assert names[:4] == [f"i.{suffix}/000000.{suffix}" for suffix in FORMATS.values()]
    again = decode(tmp_path, rows, 1, 4, m=4)
    assert (again.files_written, again.quality) == (0, receipt.quality)
    assert receipt.quality.schema.equals(QUALITY_SCHEMA)
    still = receipt.quality.to_pylist()[1]
    assert (still["duration_seconds"], still["frame_rate"], still["motion"]) == (0.0, 0.0, 0.0)
    assert (still["width"], still["height"]) == (96, 64)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"<html>not found</html>" * 9, "not_an_image"),
        (image_bytes("JPEG")[:900], "not_an_image"),
        (image_bytes("PNG")[:-30], "not_an_image"),
        (image_bytes("BMP"), "not_an_image"),
        (rendered("h264"), "not_an_image"),
    ],
)
def test_what_pillow_can_not_load_is_no_image(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read_image(data, ClipJob((), media="image"))
    assert caught.value.reason == reason
    assert " at 0x" not in caught.value.detail


def test_an_image_of_too_many_pixels_is_refused_before_it_is_loaded() -> None:
    data = bytearray(image_bytes("GIF"))
    data[6:10] = (60_000).to_bytes(2, "little") * 2
    with pytest.raises(DecodeError, match=f"60000 x 60000 px, {MAX_PIXELS} px are allowed|DecompressionBomb"):
        read_image(bytes(data), ClipJob((), media="image"))


def test_a_jpeg_of_hundreds_of_scans_is_refused_and_what_follows_a_jpeg_does_not_count() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (3000, 3000), (90, 20, 200)).save(sink, "JPEG", progressive=True)
    good = sink.getvalue()
    scan = good[good.rindex(b"\xff\xda") : -2]
    job = ClipJob((), media="image")
    with pytest.raises(DecodeError, match="not_an_image: 310 scans of 3000 x 3000 px"):
        read_image(good[:-2] + scan * 300 + good[-2:], job)
    moving = good + scan * 300  # as telephones append a video
    assert read_image(moving, job).frames[0][2] == moving


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1"])
def test_images_of_any_mode_are_measured(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    clip = read_image(image_bytes(kind, mode=mode), ClipJob((), media="image", measure=True))
    assert clip.quality is not None
    assert 0 < clip.quality["sharpness"] < 1


@pytest.mark.process
def test_clips_inside_a_tar_are_read_by_their_range(tmp_path: Path) -> None:
    videos = {name: render_video(Rendering(num_frames=count)) for name, count in (("a", 20), ("b", 31))}
    (tmp_path / "source" / "deep").mkdir(parents=True)
    with tarfile.open(tmp_path / "source" / "deep" / "x.tar", "w") as archive:
        for name, data in videos.items():
            entry = tarfile.TarInfo(f"{name}.mp4")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    with tarfile.open(tmp_path / "source" / "deep" / "x.tar") as archive:
        offsets = {entry.name: entry.offset_data for entry in archive.getmembers()}
    rows = [
        {
            "clip_id": name,
            "key": f"deep/x.tar/{name}.mp4",
            "caption": "c",
            "size_bytes": len(data),
            "offset": offsets[f"{name}.mp4"],
        }
        for name, data in videos.items()
    ]
    receipt = decode(tmp_path, rows, 2)
    assert receipt.index["source_frames"].to_pylist() == [20, 31]
    moved = [{**rows[1], "offset": rows[0]["offset"], "size_bytes": rows[0]["size_bytes"]}]
    assert decode(tmp_path, moved, 2).index["source_frames"].to_pylist() == [20]  # another clip by now
    past = [{**rows[1], "clip_id": "c", "offset": 10**6}]
    assert [reason.split(":")[0] for _, reason in decode(tmp_path, past, 2).open_clips] in (
        ["source_changed"],
        ["store_error"],
    )


@pytest.mark.process
def test_png_frames_are_the_decoded_pixels(tmp_path: Path) -> None:
    rows = [put(tmp_path, "v", rendered("h264"))]
    receipt = decode(tmp_path, rows, 4, format="png", short_side_px=336)
    frames = stored(tmp_path, receipt)["v"]
    import av

    with av.open(io.BytesIO(rendered("h264"))) as container:
        shown = [f.to_ndarray(format="rgb24", interpolation=SWSCALE_EXACT) for f in container.decode(video=0)]
    for index, data in zip((0, 13, 26, 39), frames, strict=True):
        assert data.startswith(b"\x89PNG")
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), shown[index])
    (tar,) = (tmp_path / "out").rglob("*.tar")
    with tarfile.open(tar) as archive:
        assert archive.getnames()[0] == "v/000000.png"


@pytest.mark.process
def test_a_retried_reject_is_decoded_again_and_stays_a_reject_for_who_did_not_retry(tmp_path: Path) -> None:
    video = rendered("h264")
    rows = [put(tmp_path, "good", video), put(tmp_path, "bad", bytes(len(video)))]
    assert decode(tmp_path, rows, 4).count.rejected == {"not_a_video": 1}
    files = len(list((tmp_path / "out").rglob("*.*")))
    assert decode(tmp_path, rows, 4, retries={"bad": 1}).count.rejected == {"not_a_video": 1}
    assert len(list((tmp_path / "out").rglob("*.*"))) > files  # it was really looked at again
    assert decode(tmp_path, rows, 4, retries={"bad": 1}).files_written == 0
    put(tmp_path, "bad", video)  # repaired, same size
    assert decode(tmp_path, rows, 4, retries={"bad": 1}).count.rejected == {"not_a_video": 1}
    mended = decode(tmp_path, rows, 4, retries={"bad": 2, "unknown": 5})
    assert mended.index["clip_id"].to_pylist() == ["good", "bad"]
    assert mended.quality["clip_id"].to_pylist() == ["good", "bad"]
    assert decode(tmp_path, rows, 4).count.rejected == {"not_a_video": 1}
