"""A run begins, and goes on, from what the manifest says: no shard is asked for before its rows are due."""

from __future__ import annotations

import pytest
from builders import CountingStore, write_woven_dataset

from weave_data.shard import reader
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags
from weave_train.feed import FeedLimits, RowFeed, WovenSource
from weave_train.order import rank_slots
from weave_train.train.data import TrainingData, open_data, sample_texts

MANIFEST = "l4/manifest.json"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("woven")
    return write_woven_dataset(
        root, rows=90, image_px=64, clips_per_sample=1, frames_per_sample=8, shard_rows=8
    )


def opened(manifest: str, monkeypatch: pytest.MonkeyPatch, *flags: str) -> tuple[TrainingData, CountingStore]:
    """Data of a run, and the store that it was opened from."""
    stores: list[CountingStore] = []
    open_store = reader.open_store

    def open_counting(*args: object, **options: object) -> CountingStore:
        stores.append(CountingStore(open_store(*args, **options)))  # type: ignore[arg-type]
        return stores[-1]

    monkeypatch.setattr(reader, "open_store", open_counting)
    given = ["--model.type", "tiny", "--dataset.manifest", manifest]
    given += ["--model.finetune_global_batch_size", "6", *flags]
    data = open_data(load_pretrain_config(parse_flags(given, model=PretrainConfig)), world_size=2)
    (store,) = stores
    return data, store


def shards_asked_for(store: CountingStore) -> list[str]:
    return [call[1] for call in store.calls if call[1].endswith(".parquet")]


def test_the_order_of_a_run_takes_the_manifest_and_nothing_else(manifest, monkeypatch) -> None:
    data, store = opened(manifest, monkeypatch)
    assert {call[1] for call in store.calls} == {MANIFEST}
    assert [call[0] for call in store.calls if call[0] != "head"] == ["get"]
    told = len(store.calls)
    for step in (0, 7, data.order.num_steps(3) - 1):
        assert data.order.rows(step)
    assert data.fingerprint
    assert len(store.calls) == told


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_goes_on_reads_the_row_groups_of_its_next_step_first(
    manifest, monkeypatch, workers
) -> None:
    data, store = opened(manifest, monkeypatch)
    step = data.order.num_steps(1) + 3
    slots = rank_slots(1, world_size=2, batch_rows=6)
    feed = RowFeed(
        data.sources,
        data.order,
        slots=slots,
        encode=lambda row: row["sample_id"],
        stop_step=step + 1,
        limits=FeedLimits(num_workers=workers),
    )
    assert shards_asked_for(store) == []
    assert len(feed.batch(step)) == 3
    feed.close()
    (source,) = data.sources
    assert isinstance(source, WovenSource)
    needed = {source.epochs[0][row.group.shard_index].path for row in data.order.rows(step, slots)}
    assert set(shards_asked_for(store)) == needed


@pytest.mark.parametrize("exception", ["legacy", "tokenizer"])
def test_the_two_that_need_texts_read_texts_without_pixels(manifest, monkeypatch, exception) -> None:
    """`order: legacy` groups rows by their words; a tokenizer that is trained on the data needs some."""
    if exception == "legacy":
        data, store = opened(manifest, monkeypatch, "--order", "legacy")
        assert shards_asked_for(store) == []
        assert len(data.order.rows(0)) == 6
    else:
        data, store = opened(manifest, monkeypatch)
        assert len(list(sample_texts(data))) == 2 * 90  # a question and an answer each
    (source,) = data.sources
    assert isinstance(source, WovenSource)
    assert set(shards_asked_for(store)) == {shard.path for shard in source.epochs[0]}
    footer_bytes = sum(shard.footer_bytes for shard in source.epochs[0])
    row_bytes = sum(shard.footer_offset for shard in source.epochs[0])
    assert store.read_bytes() - footer_bytes < row_bytes / 4
