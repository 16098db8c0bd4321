"""Started by a test as every rank: two steps go well, then one rank hangs.

Arguments: run directory, time-out in seconds, `feed` or `lock`.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path

import torch

from weave_train.launch import detect_launch
from weave_train.train import watchdog
from weave_train.train.watchdog import Watchdog


def hang_in_feed() -> None:
    threading.Event().wait()


def hang_with_lock() -> None:
    ctypes.PyDLL(None).sleep(1000)  # does not release the interpreter's lock


def main() -> None:
    run_dir, timeout_s, kind = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    watchdog._GRACE_SECONDS = 1.0
    launch = detect_launch()
    torch.distributed.init_process_group("gloo", rank=launch.rank, world_size=launch.world_size)
    total = torch.ones(1)
    with Watchdog(run_dir, launch, timeout_s) as watch:
        for step in range(3):
            watch.enter("rows", step=step)
            if step == 2 and launch.rank == 1:
                hang_in_feed() if kind == "feed" else hang_with_lock()
            watch.enter("totals", sample_ids=[f"sample-{step}-{launch.rank}-{slot}" for slot in range(2)])
            torch.distributed.all_reduce(total)


if __name__ == "__main__":
    main()
