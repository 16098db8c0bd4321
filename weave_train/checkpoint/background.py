"""The process beside a rank that hashes and writes while training goes on.

    python -m weave_train.checkpoint.background FD      FD: of a connection to the rank

    rank -> process    Setup, then a SaveJob each save, then None
    process -> rank    ("written" | "done" | "failed", text)

It never outlives its rank: when the connection ends it exits at once, in the middle of a write if
need be, which is what a kill would do. It is started with SIGTERM and SIGINT blocked: the rank answers them.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from weave_data.errors import WeaveError
from weave_data.storage import Store
from weave_train.checkpoint.commit import SaveJob, SnapshotFile, save_part

__all__ = ["Setup", "main"]

_NICENESS = 5


@dataclass(frozen=True)
class Setup:
    """What stays the same from save to save.

    Attributes:
        store: Of the run.
        files: The rank's snapshot, in memory that both processes see.
    """

    store: Store
    files: tuple[SnapshotFile, ...]


def main() -> None:
    """Serve one rank until it says so, or is gone."""
    os.nice(_NICENESS)  # the rank's own threads come first
    connection = Connection(int(sys.argv[1]))
    jobs: queue.SimpleQueue[SaveJob | None] = queue.SimpleQueue()
    setup: Setup = connection.recv()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    while (job := jobs.get()) is not None:
        try:
            save_part(setup.store, job, setup.files, on_written=lambda: connection.send(("written", "")))
        except (WeaveError, OSError) as error:
            connection.send(("failed", str(error)))
        else:
            connection.send(("done", ""))


def _listen(connection: Connection, jobs: queue.SimpleQueue[SaveJob | None]) -> None:
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        jobs.put(job)
        if job is None:
            return


if __name__ == "__main__":
    main()
