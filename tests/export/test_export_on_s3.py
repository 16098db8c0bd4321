"""An export from a bucket into a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import make_world, publish_world
from mixed_rows import mixed_world
from servers import S3Server

from weave_data.errors import ConfigError
from weave_data.export import EXPORT_FORMATS, export_recipe
from weave_data.shard import WovenDataset
from weave_data.storage import Store, open_store

pytestmark = pytest.mark.server


def content(store: Store) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list("")}


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_a_bucket_and_a_disk_hold_the_same_export(s3: S3Server, tmp_path: Path, kind: str) -> None:
    remote, local = open_store(f"s3://{s3.new_bucket()}/out"), open_store(str(tmp_path / "out"))
    # every row of captions has frames
    world = make_world(rows=6, val_rows=2) if kind == "captions" else mixed_world(pixels="reference")
    there, here = (WovenDataset(store, publish_world(world, store)) for store in (remote, local))
    targets = [open_store(f"s3://{s3.new_bucket()}/export"), open_store(str(tmp_path / "export"))]
    for dataset, target in zip((there, here), targets, strict=True):
        export_recipe(dataset, target, kind)
        assert export_recipe(dataset, target, kind).shards_written == 0
    assert content(targets[0]) == content(targets[1])
    with pytest.raises(ConfigError, match="is not empty and holds no export"):
        export_recipe(there, remote, kind)
