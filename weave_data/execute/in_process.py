"""One item after another in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weave_data.execute.contract import Step

__all__ = ["InProcessExecutor"]


class InProcessExecutor:
    """Runs items in order, without Ray; the model of an actor pool is loaded at its first item."""

    def prepare(self) -> None:
        """Nothing to find out: models run on the CPU here."""

    def num_cores(self) -> int:
        """One item at a time."""
        return 1

    def run(self, step: Step) -> Iterator[Any]:
        """See `Executor.run`."""
        actor = None
        for item in step.items:
            result = step.work(item)
            if step.then is not None:
                actor = actor or step.then.factory(step.then.device)
                result = actor(result)
            yield result

    def close(self) -> None:
        """Nothing was started."""
