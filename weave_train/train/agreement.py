"""What one rank must tell the others before a step's collectives: that it failed, or was asked to stop.

Both travel with the step's one small all-reduce. A rank that can't read its rows would else leave the
others in a collective until that times out, hours later and without a reason.
"""

from __future__ import annotations

from typing import NoReturn

import torch

from weave_data.errors import TrainingError, WeaveError
from weave_train.launch import Launch

__all__ = ["PeerError", "raise_together"]

_MOST_NAMED = 4


class PeerError(TrainingError):
    """Another rank failed; this one ends with it and with its exit code."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_peer_error, (str(self), self.exit_code)


def _rebuild_peer_error(message: str, exit_code: int) -> PeerError:
    return PeerError(message, exit_code=exit_code)


def raise_together(failure: WeaveError | None, launch: Launch) -> NoReturn:
    """Call on every rank when at least one failed: each raises its own error, or names the others'.

    Args:
        failure: Of this rank.
        launch: Rank and world size.

    Raises:
        WeaveError: Always.
    """
    told: list[tuple[str, int] | None] = [None] * launch.world_size
    if launch.world_size > 1:
        ours = None if failure is None else (str(failure), failure.exit_code)
        torch.distributed.all_gather_object(told, ours)
    if failure is not None:
        raise failure
    failed = [(rank, *what) for rank, what in enumerate(told) if what is not None]
    reasons = "; ".join(f"rank {rank}: {message}" for rank, message, _ in failed[:_MOST_NAMED])
    more = f" (and {len(failed) - _MOST_NAMED} more)" if len(failed) > _MOST_NAMED else ""
    raise PeerError(f"ends with {reasons}{more}", exit_code=failed[0][2])
