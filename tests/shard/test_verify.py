from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import World, publish_world, write_woven_dataset
from PIL import Image

from weave_data.errors import VerificationError
from weave_data.records import WOVEN_SCHEMA, StageCount
from weave_data.shard import Manifest, ShardEntry, verify_output
from weave_data.shard.layout import footer_span, open_writer
from weave_data.storage import Store, open_store
from weave_data.tables import sha256_hex


@pytest.fixture
def manifest(world: World, store: Store) -> Manifest:
    return publish_world(world, store)


def overwrite(store: Store, key: str, data: bytes) -> None:
    store.delete(key)
    store.put_new(key, data)


def install(store: Store, manifest: Manifest) -> None:
    """Make a manifest current, whatever it says."""
    overwrite(store, f"{manifest.recipe}/manifests/{manifest.fingerprint}.json", manifest.to_bytes())
    overwrite(store, f"{manifest.recipe}/manifest.json", manifest.to_bytes())


def rewrite_shard(
    store: Store,
    manifest: Manifest,
    edit: Callable[[list[dict[str, Any]]], None],
    *,
    index: int = 0,
    rows: int = 4,
) -> None:
    """Replace a shard by one with edited rows, with a manifest that fits its bytes."""
    shard = manifest.shards[index]
    values = pq.read_table(pa.BufferReader(store.get(shard.path))).to_pylist()
    edit(values)
    sink = io.BytesIO()
    with open_writer(sink) as writer:
        for start in range(0, len(values), rows):
            writer.write_table(pa.Table.from_pylist(values[start : start + rows], schema=WOVEN_SCHEMA))
    data = sink.getvalue()
    start, stop = footer_span(data[-8:], len(data), name="")
    entry = dataclasses.replace(
        shard,
        rows=len(values),
        bytes=len(data),
        sha256=sha256_hex(data),
        footer_offset=start,
        footer_bytes=stop - start,
    )
    overwrite(store, shard.path, data)
    shards = list(manifest.shards)
    shards[index] = entry
    install(store, dataclasses.replace(manifest, shards=tuple(shards)))


def problems(store: Store, **options: Any) -> str:
    with pytest.raises(VerificationError) as caught:
        verify_output(store, **options)
    return str(caught.value)


def test_a_fresh_output_verifies(world: World, store: Store, manifest: Manifest) -> None:
    report = verify_output(store)
    (recipe,) = report.recipes
    assert (recipe.num_rows, recipe.num_frames, recipe.num_shards) == (27, 27 * 8, 4)
    assert recipe.num_bytes == sum(len(store.get(shard.path)) for shard in manifest.shards)
    assert report.notes == ()
    assert "l4: ok, 27 samples, 216 frames, 4 shards" in report.lines()[0]


def test_every_recipe_of_an_output_is_checked(tmp_path: Path) -> None:
    for recipe, clips in (("l1", 1), ("l2", 2)):
        write_woven_dataset(tmp_path, rows=4, clips_per_sample=clips, frames_per_sample=2, recipe=recipe)
    store = open_store(str(tmp_path))
    assert [item.recipe for item in verify_output(store).recipes] == ["l1", "l2"]
    assert [item.recipe for item in verify_output(store, recipes=["l2"]).recipes] == ["l2"]
    assert "l9: no l9/manifest.json" in problems(store, recipes=["l9"])


def test_a_place_without_recipes_is_no_success(store: Store) -> None:
    assert "no published recipe" in problems(store)


def test_a_missing_shard_is_found(store: Store, manifest: Manifest) -> None:
    store.delete(manifest.shards[1].path)
    assert f"{manifest.shards[1].path}: missing" in problems(store)


def test_one_changed_byte_anywhere_is_found_also_by_the_quick_check(store: Store, manifest: Manifest) -> None:
    shard = manifest.shards[0]
    data = store.get(shard.path)
    for position in (5_000, shard.footer_offset - 3, shard.footer_offset + 40, shard.bytes - 2):
        broken = bytearray(data)
        broken[position] ^= 0x40
        overwrite(store, shard.path, bytes(broken))
        assert f"{shard.path}: stored bytes have sha256 {sha256_hex(bytes(broken))}" in problems(
            store, quick=True
        )


def test_a_shard_of_other_length_is_found(store: Store, manifest: Manifest) -> None:
    shard = manifest.shards[0]
    overwrite(store, shard.path, store.get(shard.path)[:-1])
    assert f"{shard.bytes - 1} bytes stored, the manifest says {shard.bytes}" in problems(store)


def test_every_problem_is_listed_not_only_the_first(store: Store, manifest: Manifest) -> None:
    for shard in manifest.shards[:3]:
        store.delete(shard.path)
    text = problems(store)
    assert text.count("missing") == 3
    assert "3 problems" in text


def _repeat_sample(rows: list[dict[str, Any]]) -> None:
    rows[1]["sample_id"] = rows[0]["sample_id"]


def _spoil_jpeg(rows: list[dict[str, Any]]) -> None:
    rows[2]["frames"][3] = rows[2]["frames"][3][: len(rows[2]["frames"][3]) // 2]


def _other_size(rows: list[dict[str, Any]]) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (10, 10)).save(sink, "JPEG")
    rows[2]["frames"][0] = sink.getvalue()


def _lose_frame(rows: list[dict[str, Any]]) -> None:
    rows[0]["frames"].pop()


def _wrong_sum(rows: list[dict[str, Any]]) -> None:
    rows[0]["clips"][1]["num_frames"] = 3


def _swap_clips(rows: list[dict[str, Any]]) -> None:
    rows[0]["frame_clip"] = [1, 1, 0, 0, 2, 2, 3, 3]


def _other_split(rows: list[dict[str, Any]]) -> None:
    rows[1]["split"] = "val"


def _other_epoch(rows: list[dict[str, Any]]) -> None:
    rows[1]["epoch"] = 3


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (_repeat_sample, "1 sample ids occur more than once"),
        (_spoil_jpeg, "frame 3 does not decode"),
        (_other_size, "frame 0 is (10, 10), width and height say (24, 24)"),
        (_lose_frame, "7 frames, num_frames is 8"),
        (_wrong_sum, "its clips have 9 frames, num_frames is 8"),
        (_swap_clips, "frame_clip does not follow the order of its clips"),
        (_other_split, "split is val, its shard is train"),
        (_other_epoch, "epoch is 3, its shard is 0"),
        (lambda rows: rows.pop(), "7 rows, a full shard has 8"),
    ],
)
def test_rows_that_break_a_promise_are_named(
    store: Store, manifest: Manifest, edit: Callable[[list[dict[str, Any]]], None], expected: str
) -> None:
    rewrite_shard(store, manifest, edit)
    assert expected in problems(store)


def test_quick_leaves_out_pixels_and_nothing_else(store: Store, manifest: Manifest) -> None:
    rewrite_shard(store, manifest, _spoil_jpeg)
    assert not verify_output(store, quick=True).is_decoded
    rewrite_shard(store, manifest, _swap_clips)
    assert "frame_clip" in problems(store, quick=True)


def test_row_groups_of_other_sizes_are_found(store: Store, manifest: Manifest) -> None:
    rewrite_shard(store, manifest, lambda rows: None, rows=8)
    assert "1 row groups, 8 rows make 2" in problems(store)


def test_a_clip_in_both_splits_is_found(store: Store, manifest: Manifest) -> None:
    train = pq.read_table(pa.BufferReader(store.get(manifest.shards[0].path))).to_pylist()
    leaked = train[0]["clips"][2]["clip_id"]

    def leak(rows: list[dict[str, Any]]) -> None:
        rows[0]["clips"][0]["clip_id"] = leaked

    rewrite_shard(store, manifest, leak, index=3)
    assert f"1 clips are in both train and val: {leaked}" in problems(store)


def _edit_first(manifest: Manifest, **changes: Any) -> tuple[ShardEntry, ...]:
    return (dataclasses.replace(manifest.shards[0], **changes), *manifest.shards[1:])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: {"inputs": {"plan": "other"}}, "settings and inputs give fingerprint"),
        (lambda m: {"totals": (StageCount("decode", 5, 4),)}, "stage decode: 5 in"),
        (lambda m: {"shards": _edit_first(m, footer_offset=1)}, "the footer is at"),
        (lambda m: {"shards": _edit_first(m, rows=7)}, "8 rows stored, the manifest says 7"),
        (lambda m: {"shards": m.shards[1:]}, "is listed as shard 0 of train, epoch 0"),
        (lambda m: {"shards": (*m.shards[1:], m.shards[0])}, "do not lie together"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_found(
    store: Store, manifest: Manifest, change: Callable[[Manifest], dict[str, Any]], expected: str
) -> None:
    install(store, dataclasses.replace(manifest, **change(manifest)))
    assert expected in problems(store)


def test_the_current_manifest_must_equal_its_immutable_copy(store: Store, manifest: Manifest) -> None:
    fixed = f"l4/manifests/{manifest.fingerprint}.json"
    overwrite(store, fixed, manifest.to_bytes() + b" ")
    assert f"manifest.json and {fixed} differ" in problems(store)
    store.delete(fixed)
    assert f"{fixed} is missing" in problems(store)


def test_shards_of_other_builds_are_noted_not_refused(store: Store, manifest: Manifest) -> None:
    store.put_new("l4/000000000000/train/epoch=0/shard-00000.parquet", b"old")
    (note,) = verify_output(store).notes
    assert "1 shards (3 bytes) of other builds lie beside it" in note


def test_a_moved_output_verifies_where_it_is_now(world: World, store: Store, tmp_path: Path) -> None:
    publish_world(world, store)
    moved = open_store(str(tmp_path / "elsewhere"))
    for info in store.list(""):
        moved.put_new(info.key, store.get(info.key))
    assert verify_output(moved).recipes == verify_output(store).recipes
