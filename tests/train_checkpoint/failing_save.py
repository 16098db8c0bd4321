"""Started by a test as every rank: the second can't write its part, and a second save waits for the first.

Argument: folder. Each rank ends with the exit code of what it was told.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from stored_pieces import Held

from weave_data.errors import WeaveError
from weave_data.storage import LocalStore
from weave_train.checkpoint.writer import CheckpointWriter, StepSnapshot
from weave_train.config import CheckpointConfig
from weave_train.engine.engine import init_process_group, leave_process_group
from weave_train.launch import detect_launch

NUMEL = 8_000


def main(folder: Path) -> int:
    launch = detect_launch(num_threads=1)
    init_process_group(launch)
    store = LocalStore(folder / "run")
    if launch.rank == 1:
        (folder / "no-folder").touch()
        store = LocalStore(folder / "no-folder")
    writer = CheckpointWriter(store, launch=launch, settings=CheckpointConfig())
    start, stop = (NUMEL * rank // launch.world_size for rank in (launch.rank, launch.rank + 1))
    piece = Held("a", start, stop, torch.ones(stop - start), {"exp_avg": torch.zeros(stop - start)})
    try:
        for step in (1, 2):
            writer.save(StepSnapshot(step, [piece], {"a": (NUMEL,)}, {}, {"step": step}))
    except WeaveError as error:
        sys.stderr.write(f"rank {launch.rank}: {error}\n")
        return error.exit_code
    finally:
        writer.close()
        leave_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
