"""A run of two ranks, one of which stands still: both end in bounded time, and both say why."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from builders import write_woven_dataset
from stuck_pretrain import NUM_GOOD_STEPS, STUCK_RANK
from training_runs import Training, column, ends_of_ranks

from weave_data.errors import StoreError
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags
from weave_train.order import RowAddress, rank_slots
from weave_train.train.data import TrainingData, open_data
from weave_train.train.watchdog import HANG_EXIT_CODE

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

DEADLINE_SECONDS = 600.0
PATIENCE_SECONDS = 20.0
LOADING_SECONDS = 60.0
COLLECTIVE_TIMEOUT_SECONDS = 300.0


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    root = tmp_path_factory.mktemp("stuck")
    manifest = write_woven_dataset(root / "woven", rows=90, clips_per_sample=2, frames_per_sample=4)
    return Training(manifest, root / "runs")


def end_ranks(kind: str, flags: list[str]) -> tuple[list[int], list[str]]:
    script = Path(__file__).with_name("stuck_pretrain.py")
    return ends_of_ranks(script, kind, *flags, timeout=DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def data(training: Training) -> TrainingData:
    config = load_pretrain_config(parse_flags(training.flags("any"), model=PretrainConfig))
    return open_data(config, world_size=2)


def addresses(data: TrainingData, *, rank: int, step: int) -> list[RowAddress]:
    return data.order.rows(step, rank_slots(rank, world_size=2, batch_rows=data.order.batch_rows))


def sample_ids(data: TrainingData, *, rank: int, step: int) -> list[str]:
    (source,) = data.sources
    return [
        source.read(*row.group[1:], epoch=0)["sample_id"][row.row_index].as_py()
        for row in addresses(data, rank=rank, step=step)
    ]


def latest_shard(data: TrainingData) -> tuple[int, int]:
    """Index of the shard that the second rank needs last, and the step at which it does."""
    first: dict[int, int] = {}
    for step in range(data.order.num_steps(1)):
        for row in addresses(data, rank=STUCK_RANK, step=step):
            first.setdefault(row.group.shard_index, step)
    return max(first.items(), key=lambda item: item[1])


def test_a_rank_that_hangs_ends_both_which_name_stage_and_samples(
    training: Training, data: TrainingData
) -> None:
    flags = training.flags("hung", "--zero_stage", "2", "--watch.step_timeout_s", str(PATIENCE_SECONDS))
    codes, errors = end_ranks("hang", flags)
    assert codes == [HANG_EXIT_CODE, HANG_EXIT_CODE], errors
    run_dir = training.root / "hung"
    assert column(run_dir, "Step") == list(range(1, NUM_GOOD_STEPS + 1))
    waiting = sample_ids(data, rank=0, step=NUM_GOOD_STEPS)
    stuck = sample_ids(data, rank=STUCK_RANK, step=NUM_GOOD_STEPS - 1)
    for rank, stage, names in ((0, "totals", waiting), (STUCK_RANK, "rows", stuck)):
        report = (run_dir / "hangs" / f"rank-{rank}.txt").read_text()
        assert f"rank {rank} of 2 hangs: stage '{stage}' after step {NUM_GOOD_STEPS}" in report
        assert f"last samples: {', '.join(names)}\n" in report
        assert report.splitlines()[0] in errors[rank]
    assert "in stand_still" in errors[STUCK_RANK]
    assert "in batch_totals" in errors[0]


@pytest.mark.slow
def test_a_rank_that_hangs_while_it_loads_ends_both_which_name_the_stage(training: Training) -> None:
    flags = training.flags("loading", "--zero_stage", "2", "--watch.load_timeout_s", str(LOADING_SECONDS))
    codes, errors = end_ranks("load", flags)
    assert codes == [HANG_EXIT_CODE, HANG_EXIT_CODE], errors
    run_dir = training.root / "loading"
    assert not (run_dir / "metrics.jsonl").exists()
    for rank, stage in ((0, "compare frozen weights"), (STUCK_RANK, "load model")):
        report = (run_dir / "hangs" / f"rank-{rank}.txt").read_text()
        assert f"rank {rank} of 2 hangs: stage '{stage}' after step 0" in report
        assert f"watch.load_timeout_s is {LOADING_SECONDS:g}" in report
    assert "in stand_still" in errors[STUCK_RANK]


def test_a_rank_whose_store_goes_silent_ends_both_which_name_the_shard(
    training: Training, data: TrainingData
) -> None:
    shard, step = latest_shard(data)
    assert step > 0
    flags = training.flags(
        *("silent", "--zero_stage", "2", "--feed.stall_timeout_s", str(PATIENCE_SECONDS)),
        *("--watch.step_timeout_s", str(COLLECTIVE_TIMEOUT_SECONDS - 1)),
        *("--watch.collective_timeout_s", str(COLLECTIVE_TIMEOUT_SECONDS)),
    )
    codes, errors = end_ranks(f"shard-{shard:05d}.parquet", flags)
    run_dir = training.root / "silent"
    elapsed = time.time() - (run_dir / "stuck").stat().st_mtime
    assert codes == [StoreError.exit_code, StoreError.exit_code], errors
    assert elapsed < COLLECTIVE_TIMEOUT_SECONDS
    assert column(run_dir, "Step") == list(range(1, step + 1))
    told = rf"\S*/shard-{shard:05d}\.parquet, row group \d: its row for step {step} did not come within"
    assert re.search(rf"^weave-train: rank {STUCK_RANK}: {told}", errors[STUCK_RANK], re.M)
    assert re.search(rf"^weave-train: rank 0: ends with rank {STUCK_RANK}: {told}", errors[0], re.M)
