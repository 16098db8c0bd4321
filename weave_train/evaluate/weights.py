"""Which weights a model argument means, so that an evaluation never goes on with others."""

from __future__ import annotations

import hashlib
from pathlib import Path

from weave_data.errors import ConfigError, WeaveError
from weave_data.storage import LocalStore
from weave_train.checkpoint.layout import complete_key, complete_steps, find_checkpoint_at

__all__ = ["default_folder", "run_folder", "weights_name"]


def weights_name(model: str) -> str:
    """What a model's weights are known by: `step 200, sha256 of complete.json`, a file's hash, or the id.

    Args:
        model: As `loading.load` takes it.

    Raises:
        ConfigError: No such run, or no complete checkpoint in it.
    """
    path = Path(model)
    if path.suffix == ".pt" and path.is_file():
        return f"sha256 {_file_sha256(path)}"
    if "://" not in model and not path.exists() and "checkpoints/" not in model:
        return model  # a published id; `load` says what is wrong with it
    latest = path / "checkpoints" / "latest-checkpoint.pt"
    if path.is_dir() and latest.is_file() and not complete_steps(LocalStore(path)):
        return f"sha256 {_file_sha256(latest)}"
    checkpoint = find_checkpoint_at(model)
    content = checkpoint.store.get(complete_key(checkpoint.step))
    return f"step {checkpoint.step}, sha256 {hashlib.sha256(content).hexdigest()}"


def default_folder(model: str) -> Path:
    """`RUN/evaluations/step-<n>` of a local run of ours.

    Raises:
        ConfigError: Another model: there is no place of its own for results.
    """
    path = Path(model)
    try:
        if "://" not in model and (path.is_dir() or "checkpoints/step-" in model):
            checkpoint = find_checkpoint_at(model)
            run_dir = Path(str(model).partition("/checkpoints/step-")[0])
            return run_dir / "evaluations" / f"step-{checkpoint.step:06d}"
    except WeaveError as error:
        raise ConfigError(f"to: required for this model ({error})", origin="command line") from error
    raise ConfigError("to: required, since this model is no local run directory", origin="command line")


def run_folder(run: str) -> Path:
    """`RUN/evaluations` of a local run directory that may not have saved yet.

    Raises:
        ConfigError: It is none.
    """
    if "://" in run or not Path(run).is_dir():
        raise ConfigError("to: required, since this run is no local directory", origin="command line")
    return Path(run) / "evaluations"


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
