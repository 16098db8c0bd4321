"""The contract between a woven data set and whoever trains on it.

A trainer is any class that other packages register under the entry-point group `weave_data.trainers`:

    [project.entry-points."weave_data.trainers"]
    mine = "my_package:MyTrainer"

`find_trainer("mine")` then gives one, and `run` reads the manifest and its shards by `weave_data.shard`.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from weave_data.errors import ConfigError

__all__ = ["TRAINER_GROUP", "RunResult", "Trainer", "find_trainer", "trainer_names"]

TRAINER_GROUP = "weave_data.trainers"
"""Entry-point group."""


@dataclass(frozen=True)
class RunResult:
    """What a finished run left.

    Attributes:
        run_dir: Directory or URI with the checkpoints.
        final_step: Optimizer steps taken since the run began.
        final_loss: Loss of the last step, per supervised token.
    """

    run_dir: str
    final_step: int
    final_loss: float


@runtime_checkable
class Trainer(Protocol):
    """Trains on one woven data set."""

    name: str

    def run(self, manifest_uri: str, options: Mapping[str, Any], *, num_workers: int) -> RunResult:
        """Train until done.

        Args:
            manifest_uri: `OUTPUT/<recipe>/manifest.json`, local or `s3://`.
            options: The trainer's own settings, by dotted name.
            num_workers: Processes to train in.

        Raises:
            WeaveError: The options are wrong, or training can't go on.
        """
        ...


def trainer_names() -> tuple[str, ...]:
    """Names of all installed trainers, sorted."""
    return tuple(sorted({entry.name for entry in importlib.metadata.entry_points(group=TRAINER_GROUP)}))


def find_trainer(name: str) -> Trainer:
    """Create an installed trainer.

    Raises:
        ConfigError: No trainer of that name, or what is registered can't be loaded or is none.
    """
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=TRAINER_GROUP)}
    if name not in entries:
        close = difflib.get_close_matches(name, entries, n=1, cutoff=0.5)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"installed: {', '.join(sorted(entries)) or 'none'}"
        )
        raise ConfigError(f"trainer {name!r} is not installed ({hint})")
    try:
        trainer = entries[name].load()()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"trainer {name!r}: can't load {entries[name].value}: {error}") from error
    if not isinstance(trainer, Trainer):
        raise ConfigError(f"trainer {name!r}: {entries[name].value} has no `name` and `run`")
    return trainer
