"""Started by a test: saves made-up weights step after step, with no model, until it is killed.

Arguments: rank, world size, folder, port. The value of every element is the step, so that a mixture of
two saves is seen. Says `saved <step>` when a save returned, and what was restored at the start.
"""

from __future__ import annotations

import os
import sys

import torch
from stored_pieces import Held

from weave_data.storage import open_store
from weave_train.checkpoint.layout import newest_checkpoint
from weave_train.checkpoint.reading import restore
from weave_train.checkpoint.writer import CheckpointWriter, StepSnapshot
from weave_train.config import CheckpointConfig
from weave_train.launch import Launch

NUMEL = 60_000


def held_by(rank: int, world_size: int, step: int) -> list[Held]:
    """This rank's half of two parameters and their states."""
    start, stop = (NUMEL * r // world_size for r in (rank, rank + 1))
    count = stop - start

    def full(add: int) -> torch.Tensor:
        return torch.full((count,), float(step + add))

    return [
        Held(name, start, stop, full(0), {"exp_avg": full(1), "exp_avg_sq": full(2)}) for name in ("a", "b")
    ]


def main() -> None:
    rank, world_size, uri, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    launch = Launch(rank, world_size, rank, torch.device("cpu"))
    if world_size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    store = open_store(uri)
    checkpoint = newest_checkpoint(store)
    step = 0
    held = held_by(rank, world_size, -1)
    if checkpoint is not None:
        restore(checkpoint, held, rank=rank, world_size=world_size)
        step = checkpoint.step
        for piece, expected in zip(held, held_by(rank, world_size, step), strict=True):
            assert torch.equal(piece.weight, expected.weight)
            assert all(torch.equal(piece.states[key], expected.states[key]) for key in expected.states)
    sys.stdout.write(f"restored {step}\n")
    sys.stdout.flush()
    settings = CheckpointConfig(keep_last=2, keep_every_steps=10)
    writer = CheckpointWriter(store, launch=launch, settings=settings, max_file_bytes=200_000)
    while True:
        step += 1
        held = held_by(rank, world_size, step)
        shapes = {"a": (NUMEL,), "b": (NUMEL,)}
        writer.save(StepSnapshot(step, held, shapes, {}, {"step": step}))
        sys.stdout.write(f"saved {step}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
