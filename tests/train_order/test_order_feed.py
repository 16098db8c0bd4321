"""Every order through a feed: the same ids whatever the ranks, micro-batches and workers."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from builders import write_woven_dataset
from listed import write_list, write_media

from weave_train.config import PretrainConfig, load_pretrain_config
from weave_train.feed import FeedLimits, RowFeed, open_sources, row_lengths
from weave_train.order import BatchOrder, build_order, rank_slots

BATCH_ROWS = 12
WORLDS = {"1": 1, "2": 2, "3 uneven": 3, "4": 4, "5 uneven": 5}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("orders")
    write_media(root / "media")
    write_list(root / "list.json")
    size = {"clips_per_sample": 1, "frames_per_sample": 1, "image_px": 16, "row_group_rows": 4}
    write_woven_dataset(root / "one", rows=75, shard_rows=24, **size)
    write_woven_dataset(root / "two", rows=19, shard_rows=12, seed=8, **size)
    return root


def manifest(root: Path, name: str) -> str:
    return str(next((root / name).glob("*/manifest.json")))


def config_of(root: Path, kind: str) -> PretrainConfig:
    listed = {
        "finetune_stage_components": [str(root / "list.json"), str(root / "media")],
        "frame_policy": "linspace",
    }
    mixture = [
        {"name": "one", "slots": 7, "manifest": manifest(root, "one")},
        {"name": "two", "slots": 3, "manifest": manifest(root, "two")},
        {"name": "three", "slots": 2, "type": "webvid"},
    ]
    dataset = {
        "lanes": {"manifest": manifest(root, "one")},
        "legacy": {"manifest": manifest(root, "one")},
        "listed": {"type": "webvid", **listed},
        "mixture": {"mixture": mixture, **listed},
        "legacy mixture": {"mixture": mixture, **listed},
    }[kind]
    values = {
        "model": {"type": "tiny", "num_frames": 2, "finetune_global_batch_size": BATCH_ROWS},
        "dataset": dataset,
        "order": "legacy" if kind.startswith("legacy") else "lanes",
        "window_groups": 2,
    }
    return load_pretrain_config([], values=values)


class Run:
    """One configuration's batches."""

    def __init__(self, root: Path, kind: str) -> None:
        self.config = config_of(root, kind)
        self.sources = open_sources(self.config.dataset, config=self.config)

    def order(self, world_size: int) -> BatchOrder:
        return build_order(self.sources, config=self.config, world_size=world_size, lengths=row_lengths)

    def ids(self, *, world_size: int = 1, workers: int = 0, start: int = 0) -> list[list[list[str]]]:
        """Sample ids of each rank of each step of two epochs."""
        order = self.order(world_size)
        stop = order.num_steps(2)
        feeds = [
            RowFeed(
                self.sources,
                order,
                slots=rank_slots(rank, world_size=world_size, batch_rows=BATCH_ROWS),
                encode=lambda row: row["sample_id"],
                stop_step=stop,
                limits=FeedLimits(num_workers=workers),
            )
            for rank in range(world_size)
        ]
        try:
            return [[feed.batch(step) for feed in feeds] for step in range(start, stop)]
        finally:
            for feed in feeds:
                feed.close()


def flat(steps: list[list[list[str]]]) -> list[list[str]]:
    return [list(itertools.chain(*ranks)) for ranks in steps]


@pytest.mark.parametrize("kind", ["lanes", "listed", "mixture", "legacy mixture"])
def test_batches_are_equal_for_any_number_of_ranks_and_workers(root, kind) -> None:
    run = Run(root, kind)
    alone = flat(run.ids())
    for index, world_size in enumerate(WORLDS.values()):
        if kind == "legacy mixture" and world_size > 3:
            continue
        assert flat(run.ids(world_size=world_size, workers=(1, 3)[index % 2])) == alone


def test_legacy_batches_hold_the_same_rows_for_any_number_of_ranks(root) -> None:
    run = Run(root, "legacy")
    alone = [sorted(batch) for batch in flat(run.ids())]
    for world_size in (2, 3, 4):
        assert [sorted(batch) for batch in flat(run.ids(world_size=world_size, workers=3))] == alone


@pytest.mark.parametrize("kind", ["lanes", "legacy", "listed", "mixture"])
def test_a_run_that_starts_later_reads_what_the_unbroken_one_reads(root, kind) -> None:
    run = Run(root, kind)
    whole = run.ids(world_size=2, workers=1)
    for start in (1, run.order(2).num_steps(1), run.order(2).num_steps(2) - 1):
        assert run.ids(world_size=2, workers=3, start=start) == whole[start:]


def test_each_data_set_of_a_mixture_has_its_slots_in_every_batch(root) -> None:
    run = Run(root, "mixture")
    order = run.order(1)
    listed = {"woven", "photo", "pair", "text", "photo#4", "one"}
    for step, batch in enumerate(flat(run.ids())):
        counts = [0, 0, 0]
        for row in order.rows(step):
            counts[row.group.source_index] += 1
        assert counts[2] == 2
        assert sum(name in listed for name in batch) == 2
    assert order.num_steps(1) == max(11, 7, 3)


def test_data_sets_of_one_shape_are_not_read_in_step(root) -> None:
    values = {
        "model": {"type": "tiny", "finetune_global_batch_size": 8},
        "dataset": {
            "mixture": [{"name": str(k), "slots": 4, "manifest": manifest(root, "one")} for k in range(2)]
        },
    }
    config = load_pretrain_config([], values=values)
    sources = open_sources(config.dataset, config=config)
    order = build_order(sources, config=config, world_size=1, lengths=row_lengths)
    places: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    for step in range(order.num_steps(1)):
        for row in order.rows(step):
            places[row.group.source_index].append((row.group.shard_index, row.group.group_index))
    assert sorted(places[0]) == sorted(places[1])
    assert places[0] != places[1]
