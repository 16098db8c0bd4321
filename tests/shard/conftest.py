from __future__ import annotations

from pathlib import Path

import pytest
from builders import World, make_world

from weave_data.storage import Store, open_store


@pytest.fixture(scope="session")
def world() -> World:
    """22 train rows and 5 val rows: two full shards and a part of one, two row groups with one row."""
    return make_world(rows=22, val_rows=5, clips_per_sample=4, frames_per_sample=8, image_px=24, shard_rows=8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "woven"))
