"""A run that is killed again and again reads every sample once, in the order of one that never was."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from test_stopping_runs import start
from training_runs import NUM_STEPS, Training, column

from weave_train.numbers import read_metrics

pytestmark = [pytest.mark.process, pytest.mark.timeout(3000)]

_MOST_STEPS_APART = 4


def kill_until_done(
    training: Training, run_id: str, *, num_kills: int, num_ranks: int, seed: int
) -> list[int]:
    """Kill launcher and ranks at random points, restart at once; the step each kill came at."""
    draw = random.Random(seed)
    killed_at: list[int] = []
    flags = ("--save_every_steps", "1", "--num_ranks", str(num_ranks))
    while len(killed_at) < num_kills:
        before = len(read_metrics(training.root / run_id))
        process = start(training, run_id, *flags)
        goal = before + draw.randrange(_MOST_STEPS_APART)
        delay = draw.random()
        deadline = time.monotonic() + 300
        # from before the ranks have met to the middle of a save: the goal may be what is there already
        while len(read_metrics(training.root / run_id)) < goal and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=120)
        done = len(read_metrics(training.root / run_id))
        if done >= NUM_STEPS:
            return killed_at
        killed_at.append(done)
    return killed_at


@pytest.mark.parametrize(("num_kills", "num_ranks"), [(3, 1), pytest.param(50, 2, marks=pytest.mark.slow)])
def test_no_sample_is_repeated_or_skipped(
    training: Training, unbroken: Path, num_kills: int, num_ranks: int
) -> None:
    run_id = f"killed-{num_kills}"
    killed_at = kill_until_done(training, run_id, num_kills=num_kills, num_ranks=num_ranks, seed=num_kills)
    assert killed_at
    finished = training.start(run_id, "--zero_stage", "2", "--save_every_steps", "1", num_ranks=num_ranks)
    # each line's ledger hashes which sample lay in which slot of every batch up to it
    assert column(finished, "Step") == list(range(1, NUM_STEPS + 1))
    assert column(finished, "Ledger") == column(unbroken, "Ledger")
    assert column(finished, "Loss (Raw)") == pytest.approx(column(unbroken, "Loss (Raw)"), rel=1e-5)
