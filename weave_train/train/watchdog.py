"""Ends a rank that makes no progress, and says what it was doing.

A hang tells nothing by itself: the other ranks wait in a collective until that times out. Here each rank
notes the stage it enters, of loading as of a step; one that stays in a stage too long writes a report
(rank, stage, step, last sample ids, stacks of all threads) to standard error and to
`RUN/hangs/rank-<r>.txt`, and ends with exit code 70. Ranks that wait for it in a collective came there
later, and each ends by itself with its own report; the first report is the culprit's. A moment passes
between report and end, since launchers end the other ranks with the first.

A thread watches, since collectives, reads and CUDA calls release the interpreter's lock. Should some
code hold it for good, faulthandler, which needs no lock, ends the process within twice the time, with
exit code 1.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from weave_train.launch import Launch
from weave_train.overseer import note_exit

__all__ = ["HANG_EXIT_CODE", "Watchdog"]

HANG_EXIT_CODE = 70
"""Of a process that its watchdog ended."""

_MOST_NAMED = 64
_GRACE_SECONDS = 30.0
_MOST_MOMENT_SECONDS = 5.0


@dataclass(frozen=True)
class _Entered:
    """The stage a rank is in, since when, and the samples it last had in hand."""

    stage: str
    step: int
    sample_ids: tuple[str, ...]
    since: float


class Watchdog:
    """Watches one rank while the block it guards runs.

    Args:
        run_dir: Of the run, where the report is written; None: not known yet, see the attribute.
        launch: Which rank this is.
        timeout_s: Longest that a stage may take.
        setting: Which setting that is, named in the report.

    Attributes:
        run_dir: As above; may be set later.
    """

    def __init__(
        self,
        run_dir: Path | None,
        launch: Launch,
        timeout_s: float,
        *,
        setting: str = "watch.step_timeout_s",
    ) -> None:
        self.run_dir = run_dir
        self._setting = setting
        self._rank = launch.rank
        self._world_size = launch.world_size
        self._timeout_s = timeout_s
        self._entered = _Entered("start", 0, (), time.monotonic())
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Watchdog:
        self.enter("start")
        self._thread = threading.Thread(target=self._watch, name="weave-watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def enter(self, stage: str, *, step: int | None = None, sample_ids: Sequence[str] | None = None) -> None:
        """Note progress: the time of a stage begins. Costs a microsecond.

        Args:
            stage: What is done now: `rows`, `forward`, `save` ...
            step: Steps taken; None: as before.
            sample_ids: Samples in hand from now on; None: as before.
        """
        before = self._entered
        self._entered = _Entered(
            stage,
            before.step if step is None else step,
            before.sample_ids if sample_ids is None else tuple(sample_ids),
            time.monotonic(),
        )

    def _watch(self) -> None:
        while True:
            # armed anew each time this thread gets to run
            faulthandler.dump_traceback_later(2 * self._timeout_s + _GRACE_SECONDS, exit=True, file=2)
            left = self._entered.since + self._timeout_s - time.monotonic()
            if left <= 0:
                self._end()
            if self._is_over.wait(left):
                return

    def _end(self) -> NoReturn:
        try:
            report = self._report()
            # standard error first: a file system may be what hangs, and faulthandler then ends the process
            sys.stderr.write(report)
            sys.stderr.flush()
            faulthandler.dump_traceback(file=2, all_threads=True)
            if self._path is not None:
                self._write(report, self._path)
            time.sleep(min(_MOST_MOMENT_SECONDS, self._timeout_s / 4))
        finally:
            note_exit(HANG_EXIT_CODE)
            os._exit(HANG_EXIT_CODE)

    @property
    def _path(self) -> Path | None:
        return None if self.run_dir is None else self.run_dir / "hangs" / f"rank-{self._rank}.txt"

    def _write(self, report: str, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8") as file:
                file.write(report)
                file.flush()
                faulthandler.dump_traceback(file=file, all_threads=True)
        except OSError as error:
            sys.stderr.write(f"weave-train: rank {self._rank}: can't write {path}: {error.strerror}\n")

    def _report(self) -> str:
        entered = self._entered
        ids = entered.sample_ids
        named = ", ".join(ids[:_MOST_NAMED]) + (", ..." if len(ids) > _MOST_NAMED else "")
        report = (
            f"weave-train: rank {self._rank} of {self._world_size} hangs: stage {entered.stage!r} after step "
            f"{entered.step} has taken {time.monotonic() - entered.since:.1f} s, "
            f"{self._setting} is {self._timeout_s:g}\n"
            f"weave-train: rank {self._rank}: last samples: {named or 'none'}\n"
        )
        if self._path is not None:
            report += f"weave-train: rank {self._rank}: report and stacks in {self._path}\n"
        return report
