"""Started by a test as every rank: `weave-train pretrain`, of which the second rank stands still some time.

Arguments: `hang` (after two steps its rows never come, and nobody looks at the time), `load` (its weights
never come) or a shard's name (reads of it are never answered); then flags of `pretrain`. When it was is the
time of the file `RUN/stuck`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

from weave_data.storage import LocalStore
from weave_train.cli import main
from weave_train.feed import RowFeed
from weave_train.train import prepare

NUM_GOOD_STEPS = 2
STUCK_RANK = 1


def stand_still(run_dir: Path) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (run_dir / "stuck").touch(exist_ok=False)
    threading.Event().wait()


def hang(run_dir: Path) -> None:
    batch = RowFeed.batch

    def stuck_batch(self: RowFeed[Any], step: int) -> list[Any]:
        if step == NUM_GOOD_STEPS:
            stand_still(run_dir)
        return batch(self, step)

    RowFeed.batch = stuck_batch  # type: ignore[method-assign]


def hang_while_loading(run_dir: Path) -> None:
    def stuck_model(*_: Any, **__: Any) -> None:
        stand_still(run_dir)

    prepare.build_model = stuck_model  # type: ignore[assignment]


def go_silent(run_dir: Path, shard: str) -> None:
    get_range = LocalStore.get_range

    def silent_range(self: LocalStore, key: str, start: int, stop: int) -> bytes:
        if key.endswith(shard):
            stand_still(run_dir)
        return get_range(self, key, start, stop)

    LocalStore.get_range = silent_range  # type: ignore[method-assign]


if __name__ == "__main__":
    kind, *flags = sys.argv[1:]
    root, run_id = (flags[flags.index(name) + 1] for name in ("--run_root_dir", "--run_id"))
    if int(os.environ["RANK"]) == STUCK_RANK:
        run_dir = Path(root, run_id)
        ways = {"hang": hang, "load": hang_while_loading}
        ways[kind](run_dir) if kind in ways else go_silent(run_dir, kind)
    sys.argv = ["weave-train", "pretrain", *flags]
    main()
