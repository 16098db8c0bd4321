"""What one rank must tell the others before a step's collectives: that it failed, or was asked to stop.

Both travel with the step's one small all-reduce. A rank that can't read its rows would else leave the
others in a collective until that times out, hours later and without a reason.
"""

from __future__ import annotations

import torch

from weave_data.errors import TrainingError, WeaveError
from weave_train.launch import Launch

__all__ = ["raise_together"]

_MOST_NAMED = 4


def raise_together(failure: WeaveError | None, launch: Launch) -> None:
    """Call on every rank when at least one failed: each raises its own error, or names the others'.

    Args:
        failure: Of this rank.
        launch: Rank and world size.

    Raises:
        WeaveError: Always.
    """
    told: list[str | None] = [None] * launch.world_size
    if launch.world_size > 1:
        torch.distributed.all_gather_object(told, None if failure is None else str(failure))
    if failure is not None:
        raise failure
    failed = [f"rank {rank}: {message}" for rank, message in enumerate(told) if message is not None]
    more = f" (and {len(failed) - _MOST_NAMED} more)" if len(failed) > _MOST_NAMED else ""
    raise TrainingError(
        f"stopped with the others, nothing is wrong here; {'; '.join(failed[:_MOST_NAMED])}{more}"
    )
