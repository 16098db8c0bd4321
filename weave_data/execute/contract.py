"""What a stage hands to an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["ActorPool", "Executor", "Step"]


@dataclass(frozen=True)
class ActorPool:
    """Long-lived workers that hold a model.

    `factory(device)` builds one in its own process and returns a function from the CPU work's result
    to the receipt; `device` is `cuda` when the pool holds GPUs, else `cpu`.
    """

    factory: Callable[[str], Callable[[Any], Any]]
    num_actors: int = 1
    num_gpus_per_actor: float = 0.0

    @property
    def device(self) -> str:
        """`cuda` when each actor holds a share of a GPU."""
        return "cuda" if self.num_gpus_per_actor > 0 else "cpu"


@dataclass(frozen=True)
class Step:
    """Independent items, a picklable function over them, and perhaps actors behind it."""

    name: str
    items: Sequence[Any]
    work: Callable[[Any], Any]
    then: ActorPool | None = None


class Executor(Protocol):
    """Runs steps. Receipts come in any order, exactly one per item."""

    def prepare(self) -> None:
        """Make sure, before any work, that what the configuration asks for is there.

        Raises:
            DeviceError: GPUs are not there.
            SourceError: The cluster does not answer.
        """
        ...

    def num_cores(self) -> int:
        """Cores that a step's items share, at least 1: those of this machine, or of the cluster as it is now.

        Raises:
            SourceError: The cluster does not answer.
        """
        ...

    def run(self, step: Step) -> Iterator[Any]:
        """Yield one receipt per item, as they are done.

        Raises:
            WeaveError: What an item's work raised on purpose; other items may be done or not.
        """
        ...

    def close(self) -> None:
        """Give back everything that was started."""
        ...
