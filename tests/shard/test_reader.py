from __future__ import annotations

import io
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import CountingStore, World, publish_world, write_woven_dataset

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import WOVEN_SCHEMA, WovenSample
from weave_data.shard import (
    Manifest,
    find_sample,
    iter_rows,
    load_manifest,
    num_row_groups,
    open_dataset,
    read_footer,
    read_row_group,
)
from weave_data.shard.footers import FooterCache
from weave_data.shard.sparse import SparseFile
from weave_data.storage import Store


@pytest.fixture
def manifest(world: World, store: Store) -> Manifest:
    return publish_world(world, store)


def test_a_row_group_is_one_request_and_a_footer_one_per_shard(store: Store, manifest: Manifest) -> None:
    counting = CountingStore(store)
    shard = manifest.shards[0]
    for index in range(num_row_groups(shard.rows, manifest.row_group_rows)):
        read_row_group(counting, shard, index)
    read_row_group(counting, shard, 0)
    assert [call[0] for call in counting.calls] == ["get_range"] * 4
    footers = [call for call in counting.calls if call[3] == shard.bytes]
    assert footers == [("get_range", shard.path, shard.footer_offset, shard.bytes)]
    groups = [call[2:] for call in counting.calls if call not in footers]
    assert groups[0] == groups[2]
    assert groups[0][1] <= groups[1][0]


def test_row_groups_cover_the_file_without_reading_a_byte_twice(store: Store, manifest: Manifest) -> None:
    counting = CountingStore(store)
    for shard in manifest.shards:
        for index in range(num_row_groups(shard.rows, manifest.row_group_rows)):
            read_row_group(counting, shard, index)
    assert counting.read_bytes() == manifest.num_bytes - 4 * len(manifest.shards)  # less the leading magics


def test_a_row_group_equals_what_parquet_reads_itself(store: Store, manifest: Manifest) -> None:
    for shard in manifest.shards:
        file = pq.ParquetFile(pa.BufferReader(store.get(shard.path)))
        for index in range(file.num_row_groups):
            table = read_row_group(store, shard, index)
            assert table.equals(file.read_row_group(index))
            assert table.schema.equals(WOVEN_SCHEMA, check_metadata=True)


def test_columns_can_be_chosen(store: Store, manifest: Manifest) -> None:
    table = read_row_group(store, manifest.shards[0], 1, columns=["sample_id", "num_frames"])
    assert table.column_names == ["sample_id", "num_frames"]


def test_rows_come_in_plan_order(world: World, store: Store, manifest: Manifest) -> None:
    planned = world.plan.to_pylist()
    for split in ("train", "val"):
        ids = [sample.sample_id for sample in iter_rows(store, manifest, split=split)]
        assert ids == [row["sample_id"] for row in planned if row["split"] == split]
    assert list(iter_rows(store, manifest, epoch=1)) == []


def test_a_missing_row_group_is_an_index_error(store: Store, manifest: Manifest) -> None:
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"row group {index}, the shard has 2"):
            read_row_group(store, manifest.shards[0], index)


def test_a_sample_is_found_by_reading_only_ids(world: World, store: Store, manifest: Manifest) -> None:
    wanted = world.plan.to_pylist()[20]
    counting = CountingStore(store)
    sample = find_sample(counting, manifest, wanted["sample_id"])
    assert isinstance(sample, WovenSample)
    assert sample.sample_id == wanted["sample_id"]
    assert [clip.clip_id for clip in sample.clips] == [clip["clip_id"] for clip in wanted["clips"]]
    # at most: the footers and the ids of six row groups of three shards, then one whole row group
    assert len(counting.named("get_range")) <= 3 + 6 + 1
    footers = sum(shard.footer_bytes for shard in manifest.shards[:3])
    one_group = manifest.shards[0].bytes / 2
    assert counting.read_bytes() < footers + one_group + 6 * 400


def test_a_beginning_of_an_id_must_be_unique(world: World, store: Store, manifest: Manifest) -> None:
    wanted = world.plan["sample_id"][4].as_py()
    assert find_sample(store, manifest, wanted[:12]).sample_id == wanted
    with pytest.raises(ConfigError, match="27 samples have an id beginning with ''"):
        find_sample(store, manifest, "")
    with pytest.raises(ConfigError, match="no sample has an id beginning with 'zz' in recipe l4"):
        find_sample(store, manifest, "zz")


def test_a_data_set_opens_by_every_address_of_its_manifest(tmp_path: Path) -> None:
    uri = write_woven_dataset(tmp_path / "out", rows=3, clips_per_sample=1, frames_per_sample=2)
    opened = open_dataset(uri)
    directory = str(tmp_path / "out" / "l4")
    fixed = f"{directory}/manifests/{opened.manifest.fingerprint}.json"
    for address in (directory, directory + "/", f"file://{directory}", fixed):
        assert load_manifest(address) == opened.manifest
    assert len(list(iter_rows(opened.store, opened.manifest))) == 3


def test_a_relative_address_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_woven_dataset(tmp_path, rows=2, clips_per_sample=1, frames_per_sample=1)
    monkeypatch.chdir(tmp_path)
    assert load_manifest("l4").num_rows == load_manifest("./l4/manifest.json").num_rows == 2
    monkeypatch.chdir(tmp_path / "l4")
    with pytest.raises(ConfigError, match="names no recipe"):
        load_manifest("manifest.json")


def test_the_address_of_an_output_is_answered_with_its_recipes(tmp_path: Path) -> None:
    write_woven_dataset(tmp_path / "out", rows=2, clips_per_sample=1, frames_per_sample=1)
    with pytest.raises(ConfigError, match=r"an output, not a recipe; give .*/out/<recipe>: l4"):
        open_dataset(str(tmp_path / "out"))


@pytest.mark.parametrize("address", ["s3://bucket", "/", "out/l4/card.json"])
def test_an_address_that_names_no_manifest_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="give OUTPUT/<recipe>"):
        open_dataset(address)


def test_a_footer_that_does_not_belong_to_the_entry_is_refused(store: Store, manifest: Manifest) -> None:
    shard = manifest.shards[0]
    with pytest.raises(VerificationError, match="8 rows, the manifest says 9"):
        read_footer(store, replace(shard, rows=9, sha256="other"))
    with pytest.raises(VerificationError, match="not a Parquet file"):
        read_footer(store, replace(shard, footer_bytes=shard.footer_bytes - 4, sha256="another"))


def test_footers_kept_are_bounded_and_the_last_used_stay(store: Store, manifest: Manifest) -> None:
    first, second, third = manifest.shards[:3]
    cache = FooterCache(max_raw_bytes=first.footer_bytes + second.footer_bytes + 10, max_parsed=1)
    counting = CountingStore(store)
    for shard in (first, second, first):
        cache.read(counting, shard)
    assert len(counting.calls) == 2  # the third is parsed again, not read again
    cache.read(counting, third)
    cache.read(counting, first)
    assert len(counting.calls) == 3
    cache.read(counting, second)
    assert len(counting.calls) == 4


def test_a_shard_rewritten_under_its_name_is_not_taken_from_the_cache(
    store: Store, manifest: Manifest
) -> None:
    cache, counting = FooterCache(), CountingStore(store)
    cache.read(counting, manifest.shards[0])
    cache.read(counting, replace(manifest.shards[0], sha256="other"))
    assert len(counting.calls) == 2


def test_bytes_that_were_not_fetched_are_never_made_up() -> None:
    sparse = SparseFile(b"abcdef", 10, 30)
    sparse.seek(12)
    assert sparse.read(3) == b"cde"
    for place, whence in ((0, io.SEEK_SET), (-3, io.SEEK_END), (15, io.SEEK_SET)):
        sparse.seek(place, whence)
        with pytest.raises(OSError, match="outside the fetched range"):
            sparse.read(3)


def test_a_data_set_can_be_sent_to_another_process(tmp_path: Path) -> None:
    uri = write_woven_dataset(tmp_path, rows=2, clips_per_sample=1, frames_per_sample=1)
    sent = pickle.loads(pickle.dumps(open_dataset(uri)))
    assert read_row_group(sent.store, sent.manifest.shards[0], 0).num_rows == 2


@pytest.mark.process
def test_reading_needs_neither_torch_nor_ray() -> None:
    import subprocess

    code = "import sys, weave_data.shard; print(sorted({'torch', 'ray', 'av', 'PIL'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
