"""The same run started twice: the later start goes on, the earlier one ends with its step."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_runs import Training, column, wait_for_steps

from weave_data.errors import ConflictError
from weave_train.overseer import FIXED_EXITS
from weave_train.train.claim import Claim


def test_a_claim_holds_until_somebody_else_starts(tmp_path: Path) -> None:
    first = Claim(tmp_path / "run")
    first.check()
    second = Claim(tmp_path / "run")
    assert (first.holds, second.holds) == (False, True)
    second.check()
    with pytest.raises(ConflictError, match=r"run: process \d+ on \S+ started the same run .*--run_id"):
        first.check()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["runner.json"]


def test_a_claim_that_was_taken_away_or_is_not_readable_is_nobody_elses(tmp_path: Path) -> None:
    claim = Claim(tmp_path)
    for content in ("", "[]", "{"):
        (tmp_path / "runner.json").write_text(content, encoding="utf-8")
        claim.check()
    (tmp_path / "runner.json").unlink()
    claim.check()


@pytest.mark.process
@pytest.mark.timeout(900)
def test_the_later_start_goes_on_and_the_earlier_run_ends(training: Training, unbroken: Path) -> None:
    flags = ("--max_steps", "3000", "--save_every_steps", "20")
    run_dir = training.root / "started-twice"
    earlier = training.begin("started-twice", *flags, "--num_ranks", "2")
    wait_for_steps(run_dir, 21, earlier)
    later = training.begin("started-twice", *flags, "--stop_after_steps", "40")
    _, errors = later.communicate(timeout=600)
    assert later.returncode == 0, errors
    _, errors = earlier.communicate(timeout=60)
    assert earlier.returncode in FIXED_EXITS, "no launcher starts it anew, which would end the later one"
    assert "started the same run" in errors
    steps = column(run_dir, "Step")
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > 40  # it went on from where the earlier one was
    ledger = column(unbroken, "Ledger")
    assert column(run_dir, "Ledger")[: len(ledger)] == ledger
