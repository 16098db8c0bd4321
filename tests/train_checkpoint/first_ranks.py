"""Ranks that found different checkpoints; each writes what it goes on from. Run by test_first_rank.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from weave_data.errors import WeaveError
from weave_train.checkpoint.layout import find_checkpoint_at
from weave_train.engine.engine import init_process_group, leave_process_group
from weave_train.launch import detect_launch
from weave_train.train.resume import as_first


def main(run: str, found: list[int | None], told: Path) -> None:
    launch = detect_launch(num_threads=1)
    init_process_group(launch)
    step = found[launch.rank]
    checkpoint = None if step is None else find_checkpoint_at(f"{run}/checkpoints/step-{step:06d}")
    torch.distributed.barrier()
    if launch.rank and (told / "gone").exists():
        (Path(run) / "checkpoints" / f"step-{found[0]:06d}" / "complete.json").unlink()
    try:
        settled = as_first(checkpoint, launch)
        text = "nothing" if settled is None else str(settled.step)
    except WeaveError as error:
        text = f"{type(error).__name__}: {error}"
    (told / f"rank-{launch.rank}").write_text(text)
    leave_process_group()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))
