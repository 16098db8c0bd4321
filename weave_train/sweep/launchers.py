"""Finishes cells: a few at a time on this machine, or as tasks of a Ray cluster."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from types import FrameType

from weave_train.sweep.cells import Cell
from weave_train.sweep.children import Children
from weave_train.sweep.rooms import cell_environment, visible_devices
from weave_train.sweep.run_cell import CellFailure, Say, finish_cell

__all__ = ["finish_here", "finish_on_ray", "stopping"]


@contextmanager
def stopping(children: Children) -> Iterator[None]:
    """SIGTERM and Ctrl-C end what runs, which saves first; off the main thread nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=children.stop, name="weave-sweep-stop").start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish_here(
    cells: Sequence[Cell], children: Children, say: Say, *, num_parallel: int
) -> list[CellFailure]:
    """Finish cells on this machine.

    Args:
        cells: Not yet done.
        children: Starts their commands.
        say: Told what begins and ends, one call at a time.
        num_parallel: Cells at once.

    Raises:
        IncompleteError: The sweep was stopped.
        ConfigError: There are not as many GPUs.
    """
    devices = visible_devices() if num_parallel > 1 else ()
    ranks = max((_ranks(cell) for cell in cells), default=1)
    places: queue.SimpleQueue[int] = queue.SimpleQueue()
    environments = [
        cell_environment(
            place, num_parallel=num_parallel, ranks=ranks, devices=devices, num_cores=os.cpu_count() or 1
        )
        for place in range(num_parallel)
    ]
    for place in range(num_parallel):
        places.put(place)

    def finish(cell: Cell) -> CellFailure | None:
        place = places.get()
        try:
            return finish_cell(cell, children, say, environment=environments[place])
        finally:
            places.put(place)

    failures = []
    with ThreadPoolExecutor(num_parallel, thread_name_prefix="weave-cell") as pool:
        futures = {pool.submit(finish, cell): cell for cell in cells}
        for future in as_completed(futures):
            failures += _told(futures[future], future.result(), say)
    return failures


def finish_on_ray(cells: Sequence[Cell], say: Say, *, num_parallel: int | None) -> list[CellFailure]:
    """Finish each cell as a task of the Ray cluster at RAY_ADDRESS; all nodes see the sweep's output.

    Raises:
        DeviceError: No node has room for a cell.
        IncompleteError: A worker was lost too often.
    """
    from weave_train.ray_tasks import run_as_tasks

    ranks = max((_ranks(cell) for cell in cells), default=1)
    failures = []
    for cell, failure in run_as_tasks(_finish_there, cells, devices_each=ranks, most=num_parallel):
        failures += _told(cell, failure, say)
    return failures


def _finish_there(cell: Cell) -> tuple[Cell, CellFailure | None]:
    return cell, finish_cell(cell, Children(), _unheard)


def _unheard(_line: str) -> None:
    """Workers have no terminal."""


def _told(cell: Cell, failure: CellFailure | None, say: Say) -> list[CellFailure]:
    say(f"{cell.name}: done" if failure is None else f"{cell.name}: failed: {failure.message}")
    return [] if failure is None else [failure]


def _ranks(cell: Cell) -> int:
    return max(stage.config.num_ranks or 1 for stage in cell.stages)
