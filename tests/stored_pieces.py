"""Checkpoints for tests, written without an engine and without a second process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from weave_data.storage import Store
from weave_train.checkpoint.commit import Retention, SaveJob, save_part
from weave_train.checkpoint.layout import Completion
from weave_train.checkpoint.snapshot import MAX_FILE_BYTES, Snapshot


@dataclass(frozen=True)
class Held:
    """Elements [start, stop) of one parameter, as a rank holds them."""

    name: str
    start: int
    stop: int
    weight: torch.Tensor
    states: dict[str, torch.Tensor] = field(default_factory=dict)
    is_owned: bool = True


def cut_evenly(weights: Mapping[str, torch.Tensor], num_ranks: int) -> list[list[Held]]:
    """Every parameter cut in as many pieces as there are ranks."""
    ranks = []
    for rank in range(num_ranks):
        held = []
        for name, value in weights.items():
            flat = value.detach().float().reshape(-1)
            start, stop = (len(flat) * r // num_ranks for r in (rank, rank + 1))
            held.append(Held(name, start, stop, flat[start:stop].clone()))
        ranks.append(held)
    return ranks


def write_checkpoint(
    store: Store,
    ranks: Sequence[Sequence[Held]],
    *,
    step: int,
    shapes: Mapping[str, Sequence[int]],
    frozen: Mapping[str, str] | None = None,
    state: Mapping[str, Any] | None = None,
    attempt: str = "attempt",
    retention: Retention | None = None,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> None:
    """What the background processes of all ranks do, in this one; rank 0, which waits, last."""
    completion = Completion(
        step,
        {name: tuple(shape) for name, shape in shapes.items()},
        frozen or {},
        state or {"step": step, "adam_step": step},
        len(ranks),
    )
    for rank in reversed(range(len(ranks))):
        snapshot = Snapshot(ranks[rank], rank=rank, max_file_bytes=max_file_bytes)
        snapshot.fill(ranks[rank])
        job = SaveJob(attempt, rank, completion, retention or Retention())
        save_part(store, job, snapshot.files, on_written=snapshot.close)
