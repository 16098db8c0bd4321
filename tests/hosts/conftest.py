"""A rendered world for builds on several hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_builds import NUM_CLIPS, host_settings, manifest_hash
from servers import S3Server
from world import render_world


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with clips.csv and videos/: 26 clips of one and a half seconds."""
    folder = tmp_path_factory.mktemp("hosts-world")
    render_world(folder, num_clips=NUM_CLIPS, seed=5, size_px=(64, 80), seconds=1.5)
    return folder


@pytest.fixture(scope="session")
def source(s3: S3Server, rendered: Path) -> str:
    """The same in a bucket; its address."""
    bucket = s3.new_bucket()
    for path in rendered.rglob("*.*"):
        s3.client().upload_file(str(path), bucket, f"webvid/{path.relative_to(rendered)}")
    return f"s3://{bucket}/webvid"


@pytest.fixture(scope="session")
def hash_of_one_process(source: str, s3: S3Server) -> str:
    """sha256 of l4's manifest as one process builds it."""
    from weave_data.config import BuildConfig, load_config
    from weave_data.pipeline import build

    output = f"s3://{s3.new_bucket()}/alone"
    values = host_settings(source, output) | {"execution": {"in_process": True}}
    build(load_config(BuildConfig, values, origin="test"))
    return manifest_hash(output)
