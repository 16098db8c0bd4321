from __future__ import annotations

import pytest
from builders import write_woven_dataset

from weave_data.storage import Store, open_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two recipes: l1 (one clip) and l4 (four clips, with a val split)."""
    root = tmp_path_factory.mktemp("woven")
    write_woven_dataset(root, rows=6, clips_per_sample=1, frames_per_sample=4, recipe="l1", shard_rows=4)
    write_woven_dataset(root, rows=6, val_rows=2, clips_per_sample=4, frames_per_sample=8, shard_rows=4)
    return open_store(str(root))
