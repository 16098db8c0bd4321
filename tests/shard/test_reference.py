"""Shards of addresses: the same rows, a fraction of the bytes, and every address answered for."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import CountingStore, World, make_world, publish_world, write_world
from mixed_rows import mixed_world
from PIL import Image

from weave_data.errors import StoreError, VerificationError
from weave_data.records import WOVEN_SCHEMA
from weave_data.shard import (
    ADDRESS_SCHEMA,
    Manifest,
    ShardRequest,
    find_sample,
    iter_rows,
    num_row_groups,
    open_dataset,
    read_row_group,
    verify_output,
    write_shard,
)
from weave_data.storage import Store, open_store
from weave_data.tables import sha256_hex, table_bytes


def with_pixels(world: World, pixels: str, recipe: str = "l4") -> World:
    settings = {**world.configuration["recipe"], "pixels": pixels, "name": recipe}
    plan = world.plan.set_column(
        world.plan.column_names.index("recipe"),
        world.plan.schema.field("recipe"),
        pa.array([recipe] * world.plan.num_rows),
    )
    return dataclasses.replace(world, plan=plan, configuration={**world.configuration, "recipe": settings})


@pytest.fixture
def reference(world: World, store: Store) -> Manifest:
    return publish_world(with_pixels(world, "reference"), store)


def problems(store: Store, **options: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_output(store, **options)
    return str(caught.value)


def overwrite(store: Store, key: str, data: bytes) -> None:
    store.delete(key)
    store.put_new(key, data)


def first_tar(world: World) -> str:
    return world.addresses["frame_tar"][0][0].as_py()


@pytest.mark.parametrize("columns", [None, ["frames"], ["frames", "sample_id"], ["width", "clips"]])
def test_rows_are_equal_byte_for_byte(tmp_path: Path, columns: list[str] | None) -> None:
    stores = {kind: open_store(str(tmp_path / kind)) for kind in ("inline", "reference")}
    manifests = {kind: publish_world(mixed_world(pixels=kind), store) for kind, store in stores.items()}
    assert {kind: manifest.pixels for kind, manifest in manifests.items()} == {kind: kind for kind in stores}
    assert manifests["inline"].fingerprint != manifests["reference"].fingerprint
    for inline, reference in zip(*(manifest.shards for manifest in manifests.values()), strict=True):
        for index in range(num_row_groups(inline.rows, 4)):
            rows = read_row_group(stores["inline"], inline, index, columns=columns)
            same = read_row_group(stores["reference"], reference, index, columns=columns)
            assert same.equals(rows, check_metadata=True)
            if columns is None:
                assert same.schema.equals(WOVEN_SCHEMA, check_metadata=True)
                assert table_bytes(same) == table_bytes(rows)


def test_addresses_are_less_than_a_twentieth_of_pixels_at_336_px(store: Store) -> None:
    world = make_world(rows=16, clips_per_sample=4, frames_per_sample=16, image_px=16, row_group_rows=16)
    noise = np.random.default_rng(1).integers(0, 256, (21, 37, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(noise).resize((596, 336), Image.Resampling.BICUBIC).save(sink, "JPEG", quality=85)
    jpeg, rows, tars = sink.getvalue(), [], {}
    for number, row in enumerate(
        world.addresses.to_pylist()
    ):  # every clip in a tar of its own: the worst case
        key = f"frames/{'0123456789abcdef' * 2}/{number % 256:02x}/part-{number:05d}/{number:012x}.tar"
        tars[key] = jpeg
        count = len(row["frame_index"])
        rows.append({**row, "frame_tar": [key] * count, "frame_offset": [0] * count})
        rows[-1]["frame_bytes"] = [len(jpeg)] * count
    addresses = pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)
    write_world(dataclasses.replace(world, tars=tars), store)
    size = {}
    for pixels in ("inline", "reference"):
        request = ShardRequest(f"l4/{pixels}/train/epoch=0/shard-00000.parquet", "train", 0, 16, pixels)
        size[pixels] = write_shard(request, world.plan, addresses, store).entry.bytes
    assert size["reference"] < 0.05 * size["inline"], f"{size} ({len(jpeg)} bytes a frame)"


def test_writing_addresses_reads_no_frame(world: World, store: Store) -> None:
    counting = CountingStore(store)
    request = ShardRequest("l4/abc/train/epoch=0/shard-00000.parquet", "train", 0, 4, "reference")
    write_shard(request, world.plan.slice(0, 8), world.addresses, counting)
    assert not counting.named("get_range", "get")


def test_a_row_group_is_one_request_and_those_of_its_frames(store: Store, reference: Manifest) -> None:
    shard = reference.shards[0]
    read_row_group(store, shard, 0)  # the footer is known now
    counting = CountingStore(store)
    table = read_row_group(counting, shard, 0)
    assert (
        len(counting.named("get_range")) == len(counting.calls) == 2
    )  # 16 clips lie side by side in one tar
    assert [call[1].startswith("frames/") for call in counting.calls] == [False, True]
    counting = CountingStore(store)
    assert read_row_group(counting, shard, 0, columns=["conversations"]).num_rows == table.num_rows
    assert len(counting.calls) == 1


def test_a_sample_is_found_by_its_own_frames_only(world: World, store: Store, reference: Manifest) -> None:
    wanted = world.plan["sample_id"][20].as_py()
    counting = CountingStore(store)
    sample = find_sample(counting, reference, wanted)
    assert sample == next(row for row in iter_rows(store, reference) if row.sample_id == wanted)
    (frames,) = [call for call in counting.named("get_range") if call[1].startswith("frames/")]
    assert frames[3] - frames[2] < sum(len(frame) for frame in sample.frames) + 8 * 1024


def test_a_moved_output_is_read_where_it_is(store: Store, reference: Manifest, tmp_path: Path) -> None:
    moved = open_store(str(tmp_path / "elsewhere"))
    for info in store.list(""):
        moved.put_new(info.key, store.get(info.key))
    opened = open_dataset(f"{moved.uri}/l4")
    assert list(iter_rows(opened.store, opened.manifest)) == list(iter_rows(store, reference))
    assert verify_output(moved).recipes == verify_output(store).recipes


def test_an_inline_and_a_reference_recipe_share_an_output(world: World, store: Store) -> None:
    publish_world(world, store)
    publish_world(with_pixels(world, "reference", recipe="l4-lean"), store)
    inline, lean = verify_output(store).recipes
    assert (inline.num_frames, inline.num_rows) == (lean.num_frames, lean.num_rows)


def test_a_missing_tar_is_named_with_what_is_lost(world: World, store: Store, reference: Manifest) -> None:
    tar = first_tar(world)
    store.delete(tar)
    text = problems(store, quick=True)
    first = world.plan["sample_id"][0].as_py()
    assert (
        f"{reference.shards[0].path}: {tar} is missing: 4 samples have frames in it, the first is {first}"
        in text
    )
    with pytest.raises(StoreError, match=tar):
        read_row_group(store, reference.shards[0], 0)


def test_a_tar_cut_short_is_found(world: World, store: Store, reference: Manifest) -> None:
    tar = first_tar(world)
    overwrite(store, tar, store.get(tar)[:50_000])
    assert "beyond the tar's end" in problems(store, quick=True)


def _shift(table: pa.Table, by: int) -> pa.Table:
    rows = table.to_pylist()
    rows[0]["frame_offset"][1] += by
    return pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)


def _shorten(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    rows[0]["frame_bytes"][0] -= 2
    return pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)


def _neighbour(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    for name in ("frame_offset", "frame_bytes"):
        rows[0][name][0] = rows[0][name][1]
    return pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda table: _shift(table, 512), "does not begin a member of its tar"),
        (_shorten, "the tar's member"),
        (_neighbour, "is the tar's member"),
    ],
)
def test_an_address_that_is_not_one_whole_frame_is_found(
    world: World, store: Store, edit: Any, expected: str
) -> None:
    wrong = dataclasses.replace(with_pixels(world, "reference"), addresses=edit(world.addresses))
    publish_world(wrong, store)
    text = problems(store, quick=True)
    assert expected in text
    assert f"clip {world.addresses['clip_id'][0].as_py()}: frame " in text


def test_a_spoilt_frame_is_found_by_decoding_and_by_the_sum_of_its_tar(
    world: World, store: Store, reference: Manifest
) -> None:
    tar = first_tar(world)
    data = bytearray(store.get(tar))
    index = pa.table({"x": [1]}).replace_schema_metadata(
        {"weave_layer": json.dumps({"tar_sha256": sha256_hex(bytes(data))})}
    )
    store.put_new(tar.removesuffix(".tar") + ".parquet", table_bytes(index))
    (note,) = verify_output(store).notes
    assert note.startswith(f"{len(world.tars) - 1} frame tars have no index to compare their sums with")
    offset = world.addresses["frame_offset"][0][0].as_py()
    data[offset + 300 : offset + 420] = bytes(120)
    overwrite(store, tar, bytes(data))
    text = problems(store, quick=True)
    assert f"{tar}: stored bytes have sha256 {sha256_hex(bytes(data))}" in text
    data[offset + 3 :] = bytes(data[offset + 3 :]).replace(b"\xff\xda", b"\xff\x00", 1)  # no picture begins
    overwrite(store, tar, bytes(data))
    assert "does not decode" in problems(store)


def test_tar_members_are_where_the_addresses_say(world: World, store: Store, reference: Manifest) -> None:
    (sample, *_) = iter_rows(store, reference)
    with tarfile.open(fileobj=io.BytesIO(store.get(first_tar(world)))) as tar:
        name = f"{sample.clips[0].clip_id}/{sample.frame_index[1]:06d}.jpg"
        assert tar.extractfile(name).read() == sample.frames[1]
