"""Where rounds work: an S3 server of their own, a world in a bucket, and what nobody disturbed made of it."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from build_runs import contents, upload
from builders import write_woven_dataset
from chaos_table import Outcome
from faults.faults_world import build_here, render_small_world
from servers import S3Server, start_s3, stop_s3

from weave_data.shard import list_recipes, read_manifest
from weave_data.storage import open_store

Rows = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Workplace:
    """Shared by all rounds; what is costly is made when it is first asked for."""

    folder: Path
    server: S3Server

    def __hash__(self) -> int:
        return hash(self.folder)

    def round_folder(self, number: int) -> Path:
        """An empty folder of a round's own."""
        folder = self.folder / f"round-{number}"
        folder.mkdir()
        return folder

    @functools.cached_property
    def source(self) -> str:
        """Clips in a bucket."""
        render_small_world(self.folder / "world")
        return upload(self.folder / "world", self.server, self.server.new_bucket(), "webvid")

    @functools.cached_property
    def undisturbed(self) -> str:
        """URI of a build that nobody disturbs."""
        output = str(self.folder / "undisturbed")
        build_here(self.source, output)
        return output

    @functools.cached_property
    def manifest(self) -> str:
        """Of rows to train on, in a bucket."""
        uri = f"s3://{self.server.new_bucket()}/woven"
        return write_woven_dataset(uri, rows=45, clips_per_sample=2, frames_per_sample=4)

    def judge(self, output: str, *, faults: int) -> Outcome:
        """Compare a disturbed build with the undisturbed one, row by row and object by object."""
        expected, found = rows_of(self.undisturbed), rows_of(output)
        wanted, there = contents(self.undisturbed), contents(output)
        differing = sorted(key for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key))
        return Outcome(
            faults,
            rows=expected.total(),
            lost=(expected - found).total(),
            duplicated=(found - expected).total(),
            problems=tuple(f"{key} is not what an undisturbed build stores" for key in differing[:3]),
        )


def rows_of(output: str) -> Rows:
    """How often each (recipe, sample id) stands in the published shards."""
    store = open_store(output, readonly=True)
    rows: Rows = Counter()
    for recipe in list_recipes(store):
        for shard in read_manifest(store, recipe).shards:
            table = pq.read_table(io.BytesIO(store.get(shard.path)), columns=["sample_id"])
            rows.update((recipe, name) for name in table["sample_id"].to_pylist())
    return rows


@contextlib.contextmanager
def open_workplace(folder: Path) -> Iterator[Workplace]:
    """Start the server: Ceph where it can be had, else a stand-in, which is said."""
    try:
        server = start_s3(folder / "s3", require_ceph=False)
        os.environ |= server.environment
        yield Workplace(folder, server)
    finally:
        stop_s3(folder / "s3")
