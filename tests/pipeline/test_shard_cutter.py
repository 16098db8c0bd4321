"""A shard cut from chunked tables is the shard written from whole ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from builders import make_world, write_world

from weave_data.errors import VerificationError
from weave_data.pipeline.shard_cutter import ShardCutter
from weave_data.shard import ShardRequest, write_shard
from weave_data.storage import open_store
from weave_data.tasks.shards import ShardWork

REQUEST = ShardRequest("l4/abc/train/epoch=0/shard-00000.parquet", "train", 0, 4)


def chunked(table: pa.Table, rows: int) -> pa.Table:
    return pa.concat_tables([table.slice(start, rows) for start in range(0, len(table), rows)])


def test_chunks_and_the_order_of_addresses_change_no_byte(tmp_path: Path) -> None:
    world = make_world(rows=20)
    order = pa.array(np.random.default_rng(0).permutation(len(world.addresses)))
    cutter = ShardCutter(chunked(world.plan, 3), chunked(world.addresses.take(order), 7))
    cut, whole = open_store(str(tmp_path / "cut")), open_store(str(tmp_path / "whole"))
    write_world(world, cut)
    write_world(world, whole)
    ShardWork(cut, None)(cutter.item("l4", REQUEST, 5, 8))
    write_shard(REQUEST, world.plan.slice(5, 8), world.addresses, whole)
    assert cut.get(REQUEST.path) == whole.get(REQUEST.path)


def test_a_shard_carries_the_addresses_of_its_own_clips_only() -> None:
    world = make_world(rows=20)
    item = ShardCutter(world.plan, world.addresses).item("l4", REQUEST, 5, 8)
    found = pa.ipc.open_stream(item.addresses).read_all()
    planned = {clip["clip_id"] for row in world.plan.slice(5, 8)["clips"].to_pylist() for clip in row}
    assert set(found["clip_id"].to_pylist()) == planned
    assert len(found) == len(planned)


def test_a_planned_clip_without_frames_is_an_error(tmp_path: Path) -> None:
    world = make_world(rows=8)
    item = ShardCutter(world.plan, world.addresses.slice(1)).item("l4", REQUEST, 0, 8)
    with pytest.raises(VerificationError, match="no stored frames"):
        ShardWork(open_store(str(tmp_path)), None)(item)
