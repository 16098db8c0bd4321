"""Which weights a model argument means, so that an evaluation never goes on with others.

A run that still trains has another newest checkpoint every few minutes: it is looked up once, and all ranks
are given that one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from weave_data.errors import ConfigError
from weave_data.storage import LocalStore
from weave_train.checkpoint.layout import Checkpoint, complete_key, complete_steps, find_checkpoint_at

__all__ = ["PinnedModel", "pin_checkpoint", "pin_model", "run_folder"]


@dataclass(frozen=True)
class PinnedModel:
    """One set of weights.

    Attributes:
        model: As `loading.load` takes it; of a run of ours its checkpoint.
        weights: What they are known by: step and hash of `complete.json`, a file's hash, or a published id.
        step: Of a run of ours.
    """

    model: str
    weights: str
    step: int | None = None


def pin_model(model: str) -> PinnedModel:
    """The weights that a model argument means now.

    Args:
        model: As `loading.load` takes it.

    Raises:
        ConfigError: No such run, or no complete checkpoint in it.
    """
    path = Path(model)
    if path.suffix == ".pt" and path.is_file():
        return PinnedModel(model, f"sha256 {_file_sha256(path)}")
    if "://" not in model and not path.exists() and "checkpoints/" not in model:
        return PinnedModel(model, model)  # a published id; `load` says what is wrong with it
    latest = path / "checkpoints" / "latest-checkpoint.pt"
    if path.is_dir() and latest.is_file() and not complete_steps(LocalStore(path)):
        return PinnedModel(model, f"sha256 {_file_sha256(latest)}")
    return pin_checkpoint(find_checkpoint_at(model))


def pin_checkpoint(checkpoint: Checkpoint) -> PinnedModel:
    """The weights of one checkpoint."""
    digest = hashlib.sha256(checkpoint.store.get(complete_key(checkpoint.step))).hexdigest()
    return PinnedModel(checkpoint.uri, f"step {checkpoint.step}, sha256 {digest}", checkpoint.step)


def run_folder(model: str) -> Path:
    """`RUN/evaluations`, where results lie unless told otherwise; the run may not have saved yet.

    Args:
        model: A local run directory of ours, or one of its checkpoints.

    Raises:
        ConfigError: Another model: there is no place of its own for results.
    """
    run_dir = Path(model.partition("/checkpoints/step-")[0])
    if "://" in model or not any((run_dir / name).is_file() for name in ("config.json", "runner.json")):
        raise ConfigError("to: required, since this model is no local run directory", origin="command line")
    return run_dir / "evaluations"


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
