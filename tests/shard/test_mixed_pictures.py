"""Rows without frames, with one image, with many frames; JPEG, PNG, WebP and GIF."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from builders import make_world, publish_world
from mixed_rows import IMAGES, encoded, mixed_world
from PIL import Image

from weave_data.errors import VerificationError
from weave_data.records import PLAN_SCHEMA
from weave_data.shard import ShardRequest, find_sample, iter_rows, verify_output, write_shard
from weave_data.shard.images import image_format, image_problem, load_image
from weave_data.storage import Store


@pytest.mark.parametrize("pixels", ["inline", "reference"])
def test_images_keep_their_bytes_and_texts_have_no_frames(store: Store, pixels: str) -> None:
    world = mixed_world(pixels=pixels)
    manifest = publish_world(world, store)
    samples = list(iter_rows(store, manifest))
    assert [sample.sample_id for sample in samples] == world.plan["sample_id"].to_pylist()
    images = {sample.clips[0].clip_id: sample for sample in samples if sample.num_frames == 1}
    assert {name: sample.frames for name, sample in images.items()} == {k: (v,) for k, v in IMAGES.items()}
    assert {(sample.width, sample.height) for sample in images.values()} == {(20, 14)}
    texts = [sample for sample in samples if not sample.num_frames]
    assert len(texts) == 5
    assert all(not (text.frames or text.clips or text.width or text.height) for text in texts)
    assert find_sample(store, manifest, texts[3].sample_id) == texts[3]
    (report,) = verify_output(store).recipes
    assert (report.num_rows, report.num_frames) == (18, 6 * 4 + 7)


@pytest.mark.parametrize("pixels", ["inline", "reference"])
def test_a_shard_may_hold_text_alone(store: Store, pixels: str) -> None:
    world = mixed_world()
    texts = pa.Table.from_pylist(
        [row for row in world.plan.to_pylist() if not row["num_frames"]], schema=PLAN_SCHEMA
    )
    request = ShardRequest("l4/abc/train/epoch=0/shard-00000.parquet", "train", 0, 4, pixels)
    no_addresses = world.addresses.slice(0, 0)
    assert write_shard(request, texts, no_addresses, store).entry.rows == 5


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("GIF", {})])
def test_every_kind_of_picture_is_known_by_its_bytes_and_missed_when_cut(kind: str, options: dict) -> None:
    sink = io.BytesIO()
    Image.effect_noise((64, 48), 90).convert("RGB").save(sink, kind, **options)
    data = sink.getvalue()
    assert image_format(data) == kind.lower()
    assert image_problem(data) is None
    assert image_problem(data + b"written after the end") is None
    for cut in (30, len(data) // 2):
        assert f"no whole {kind}" in image_problem(data[:-cut])
    assert "no JPEG, PNG, WebP or GIF" in image_problem(b"\0" + data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_what_can_be_shown_is_never_refused(kind: str) -> None:
    """Decoding accepts images that lost their last bytes but no pixel: a build must not stop at them."""
    sink = io.BytesIO()
    Image.effect_noise((16, 12), 90).convert("RGB").save(sink, kind)
    shown = 0
    for cut in range(1, 40):
        try:
            load_image(sink.getvalue()[:-cut])
        except ValueError:
            continue
        shown += 1
        assert image_problem(sink.getvalue()[:-cut]) is None
    assert shown or kind in ("JPEG", "WEBP")  # these two need every byte


def test_lossless_and_odd_webp_files_are_whole() -> None:
    for width in range(1, 12):
        for lossless in (True, False):
            assert image_problem(encoded("WEBP", size=(width, 5), lossless=lossless)) is None


def test_an_image_that_is_not_what_its_index_says_is_refused(store: Store) -> None:
    world = mixed_world()
    key = "frames/images/00/part-images/layer.tar"
    world.tars[key] = world.tars[key].replace(b"\x89PNG", b"\x88PNG")
    with pytest.raises(VerificationError, match=r"clip drawing: frame 0 in .*: no JPEG, PNG, WebP or GIF"):
        publish_world(world, store)


def test_a_png_frame_store_is_read_like_one_of_jpegs(store: Store) -> None:
    world = make_world(rows=4, clips_per_sample=1, frames_per_sample=2, image_px=24)
    pictures = [encoded("PNG", size=(24, 24), colour=colour) for colour in ("red", "blue")]
    data, rows = b"", world.addresses.to_pylist()
    for row in rows:
        row["frame_bytes"] = [len(picture) for picture in pictures]
        row["frame_offset"] = [len(data), len(data) + len(pictures[0])]
        data += b"".join(pictures)
    (key,) = world.tars
    world.tars[key] = data
    world = type(world)(
        world.plan, pa.Table.from_pylist(rows, schema=world.addresses.schema), world.tars, world.configuration
    )
    manifest = publish_world(world, store)
    for sample in iter_rows(store, manifest):
        assert list(sample.frames) == pictures
        assert Image.open(io.BytesIO(sample.frames[1])).getpixel((3, 3)) == (0, 0, 255)
    verify_output(store)
