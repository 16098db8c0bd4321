"""Samples a source gives ready made are committed and read like clips are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from weave_data.catalog import build_catalog, kinds
from weave_data.catalog.parts import cut_catalog
from weave_data.catalog.protocol import Unit
from weave_data.config import SourceConfig
from weave_data.errors import SourceError, VerificationError
from weave_data.records import SAMPLE_SCHEMA
from weave_data.storage import open_store

CLIPS = pa.table(
    {"clip_id": ["a", "b"], "key": ["a.mp4", "b.mp4"], "caption": ["one", "two"], "size_bytes": [3, 4]}
)
TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
SAMPLES = pa.Table.from_pylist(
    [
        {"sample_key": "s1", "clip_ids": ["a", "b"], "conversations": TURNS},
        {"sample_key": "s2", "clip_ids": [], "conversations": TURNS},
    ],
    schema=SAMPLE_SCHEMA,
)


class ReadyMade:
    """A source of two clips and two samples."""

    settings = {"form": "made up"}  # noqa: RUF012
    sums = ("1" * 64, "1" * 64)

    def __init__(self, config):
        self.config = config

    def check(self):
        pass

    def identities(self):
        yield "one.json", self.sums[0]

    def units(self):
        yield Unit("one.json", self.sums[1], CLIPS)

    def cut(self, units):
        cut = cut_catalog(units, None, part_clips=10)
        return type(cut)(cut.parts, cut.rejects, cut.listed, cut.count, samples=SAMPLES)

    def count_rows(self):
        return 2


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "webvid", ReadyMade)
    return SourceConfig(catalog="one.json", videos="videos")


def test_ready_made_samples_are_committed_with_their_sum_and_read_back(tmp_path, config):
    store = open_store(str(tmp_path))
    built = build_catalog(config, store)
    assert built == build_catalog(config, store)
    assert built.has_samples
    assert built.num_samples == 2
    assert built.num_files == len(list(store.list(""))) == 4
    assert built.read_samples(store).equals(SAMPLES)
    path = tmp_path / "catalog" / built.key / "samples.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(VerificationError, match=r"samples\.parquet: sha256"):
        built.read_samples(store)


def test_a_source_without_samples_gives_an_empty_table(tmp_path, config, monkeypatch):
    monkeypatch.setattr(ReadyMade, "cut", lambda self, units: cut_catalog(units, None, part_clips=1))
    store = open_store(str(tmp_path))
    built = build_catalog(config, store)
    assert not built.has_samples
    assert built.read_samples(store).equals(SAMPLE_SCHEMA.empty_table())
    assert built.num_files == len(list(store.list(""))) == 4  # two parts


def test_a_source_that_changes_while_it_is_read_writes_nothing(tmp_path, config, monkeypatch):
    monkeypatch.setattr(ReadyMade, "sums", ("1" * 64, "2" * 64))
    with pytest.raises(SourceError, match=r"one\.json changed while it was read"):
        build_catalog(config, open_store(str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
