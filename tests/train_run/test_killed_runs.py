"""A run that is killed again and again reads every sample once, in the order of one that never was."""

from __future__ import annotations

import random
import signal
import time

import pytest
from test_stopping_runs import start
from training_runs import Training, column

from weave_train.numbers import read_metrics

pytestmark = [pytest.mark.process, pytest.mark.timeout(3000)]

_MOST_STEPS_APART = 4
_MOST_DELAY_SECONDS = 0.4


def kill_again_and_again(
    training: Training, run_id: str, *extra: str, num_kills: int, num_steps: int
) -> list[int]:
    """Kill launcher and ranks at random points, restart at once; the step each kill came at."""
    draw = random.Random(num_kills)
    killed_at: list[int] = []
    while len(killed_at) < num_kills:
        before = len(read_metrics(training.root / run_id))
        process = start(training, run_id, *extra)
        goal = before + draw.randrange(_MOST_STEPS_APART)
        deadline = time.monotonic() + 300
        # from before the ranks have met to the middle of a save: the goal may be what is there already
        while len(read_metrics(training.root / run_id)) < goal and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(draw.random() * _MOST_DELAY_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=120)
        killed_at.append(len(read_metrics(training.root / run_id)))
        assert killed_at[-1] < num_steps, "the run was done before it was killed often enough"
    return killed_at


@pytest.mark.parametrize(
    ("num_kills", "num_ranks", "num_steps"),
    [(3, 1, 100), pytest.param(50, 2, 900, marks=pytest.mark.slow)],
)
def test_no_sample_is_repeated_or_skipped(
    training: Training, num_kills: int, num_ranks: int, num_steps: int
) -> None:
    flags = ("--max_steps", str(num_steps), "--num_ranks", str(num_ranks))
    run_ids = f"unkilled-{num_kills}", f"killed-{num_kills}"
    whole = start(training, run_ids[0], *flags)
    kill_again_and_again(
        training, run_ids[1], *flags, "--save_every_steps", "1", num_kills=num_kills, num_steps=num_steps
    )
    last = start(training, run_ids[1], *flags, "--save_every_steps", "50")
    for process in (whole, last):
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    unbroken, killed = (training.root / run_id for run_id in run_ids)
    # each line's ledger hashes which sample lay in which slot of every batch up to it
    assert column(killed, "Step") == list(range(1, num_steps + 1))
    assert column(killed, "Ledger") == column(unbroken, "Ledger")
    assert column(killed, "Loss (Raw)")[:30] == pytest.approx(column(unbroken, "Loss (Raw)")[:30], rel=1e-5)
