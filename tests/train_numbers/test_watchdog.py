"""A rank that hangs ends, and says where."""

from __future__ import annotations

import faulthandler
import time
from pathlib import Path

import pytest
import torch
from training_runs import ends_of_ranks

from weave_train.launch import Launch
from weave_train.train import watchdog
from weave_train.train.watchdog import HANG_EXIT_CODE, Watchdog

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_SECONDS = 4.0
DEADLINE_SECONDS = 200.0
ALONE = Launch(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


def end_ranks(run_dir: Path, kind: str) -> tuple[list[int], list[str]]:
    script = Path(__file__).with_name("hanging_ranks.py")
    return ends_of_ranks(script, str(run_dir), str(TIMEOUT_SECONDS), kind, timeout=DEADLINE_SECONDS)


@pytest.mark.process
def test_a_rank_stuck_in_its_feed_and_one_in_a_collective_both_end_and_say_where(tmp_path: Path) -> None:
    codes, errors = end_ranks(tmp_path, "feed")
    assert codes == [HANG_EXIT_CODE, HANG_EXIT_CODE], errors
    reports = [(tmp_path / "hangs" / f"rank-{rank}.txt").read_text() for rank in range(2)]
    waiting, stuck = reports
    assert "rank 0 of 2 hangs: stage 'totals' after step 2" in waiting
    assert "last samples: sample-2-0-0, sample-2-0-1" in waiting
    assert "all_reduce" in waiting, "stacks name the collective"
    assert "rank 1 of 2 hangs: stage 'rows' after step 2" in stuck
    assert "last samples: sample-1-1-0, sample-1-1-1" in stuck
    assert "hang_in_feed" in stuck, "stacks name the function"
    assert all(report.splitlines()[0] in error for report, error in zip(reports, errors, strict=True))
    assert "hang_in_feed" in errors[1]


@pytest.mark.process
def test_code_that_keeps_the_interpreters_lock_is_ended_as_well(tmp_path: Path) -> None:
    codes, errors = end_ranks(tmp_path, "lock")
    assert codes[0] == HANG_EXIT_CODE
    assert codes[1] == 1, "faulthandler's own"
    assert "hang_with_lock" in errors[1]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes instead of ends of this process."""
    codes: list[int] = []

    def note(code: int) -> None:
        codes.append(code)
        raise SystemExit(code)  # ends the watching thread only

    monkeypatch.setattr(watchdog.os, "_exit", note)
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback_later", lambda *args, **options: None)
    monkeypatch.setattr(faulthandler, "dump_traceback", lambda **options: None)
    return codes


def test_progress_within_the_time_is_no_hang(tmp_path: Path, ended: list[int]) -> None:
    begin = time.monotonic()
    with Watchdog(tmp_path, ALONE, 2.0) as watch:
        while time.monotonic() - begin < 3.0:
            watch.enter("rows")
            time.sleep(0.01)
    assert ended == []
    assert not (tmp_path / "hangs").exists()


def test_a_finished_run_is_not_watched_any_more(tmp_path: Path, ended: list[int]) -> None:
    with Watchdog(tmp_path, ALONE, 0.5):
        pass
    assert not [thread for thread in watchdog.threading.enumerate() if thread.name == "weave-watchdog"]
    assert ended == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_report_that_cant_be_written_ends_the_rank_all_the_same(
    tmp_path: Path, ended: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hangs").write_text("a file where the directory should be")
    with Watchdog(tmp_path, ALONE, 0.2) as watch:
        watch.enter("save", step=7, sample_ids=[f"s{n}" for n in range(100)])
        thread = watch._thread
        assert thread is not None
        thread.join(timeout=60)
    assert ended == [HANG_EXIT_CODE]
    told = capsys.readouterr().err
    assert "rank 0 of 1 hangs: stage 'save' after step 7" in told
    assert "s63, ..." in told
    assert "s64" not in told
    assert "can't write" in told


def test_entering_a_stage_costs_next_to_nothing(tmp_path: Path, ended: list[int]) -> None:
    with Watchdog(tmp_path, ALONE, 60.0) as watch:
        begin = time.perf_counter()
        for _ in range(1000):
            watch.enter("forward")
        assert time.perf_counter() - begin < 0.5
