"""The same commands over a bucket."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from servers import S3Server
from upkeep_builds import configuration

from weave_data.pipeline import BuildOptions, build
from weave_data.pipeline.runs import RunLog
from weave_data.shard import iter_rows, read_manifest, verify_output
from weave_data.storage import open_store
from weave_data.upkeep import (
    collect_garbage,
    delete_garbage,
    explain_sample,
    read_runs,
    read_status,
    remove_clips,
)

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("s3-upkeep")]

NOW = 4e9


@pytest.fixture(scope="module")
def output(s3: S3Server, pristine: Path) -> str:
    """The finished build in a bucket, copied by another tool: objects carry no sums."""
    bucket = s3.new_bucket()
    for path in pristine.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            s3.client().upload_file(str(path), bucket, f"woven/{path.relative_to(pristine)}")
    return f"s3://{bucket}/woven"


def test_a_dry_run_changes_nothing_in_a_bucket(s3: S3Server, rendered: Path, output: str) -> None:
    store = open_store(output)
    before = [(info.key, info.etag, info.modified) for info in store.list("")]
    config = configuration(rendered, output, "recipes.l4.name=more")
    notes = build(config, BuildOptions(dry_run=True)).notes
    assert any(line.startswith("more: at most 6 samples in 2 shards") for line in notes)
    assert [(info.key, info.etag, info.modified) for info in store.list("")] == before


def test_a_build_lives_dies_is_cleaned_and_corrected_in_a_bucket(rendered: Path, output: str) -> None:
    store = open_store(output)
    log = RunLog.start(store, configuration(rendered, output))
    now = read_runs(store)[-1].last_seen + 5
    found = read_status(store, now=now)
    assert (found.state, found.published) == ("running", {"l1": 26, "l4": 6})
    log.finish("done", {})
    assert read_status(store, now=now).state == "finished"
    store.put_new("groups/stray.parquet", b"x" * 77)
    assert collect_garbage(store, now=time.time()).young == 1
    report = collect_garbage(store, now=NOW)
    assert [(item.key, item.size_bytes) for item in report.garbage] == [("groups/stray.parquet", 77)]
    delete_garbage(store, report, now=NOW)
    sample = next(iter_rows(store, read_manifest(store, "l4")))
    assert explain_sample(store, sample.sample_id[:16]).position == 0
    clips = [clip.clip_id for clip in sample.clips][:1]
    remove_clips(store, clips, now=NOW)
    verify_output(store)
    for info in store.list(""):
        data = store.get(info.key)
        text = info.key + data.decode("latin-1")
        if info.key.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            text += f"{table.schema.metadata}{table.to_pylist()}"
        assert clips[0] not in text, info.key
