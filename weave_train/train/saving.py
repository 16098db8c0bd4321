"""Saving a run: what a checkpoint says beside the weights, and that frozen weights are still the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weave_data.errors import TrainingError
from weave_data.storage import Store, open_store
from weave_train.checkpoint.frozen import checksum, save_frozen
from weave_train.checkpoint.run_files import publish_run_files
from weave_train.checkpoint.writer import StepSnapshot
from weave_train.config import PretrainConfig
from weave_train.loading import model_parts, save_model_files
from weave_train.models.model import VideoLanguageModel
from weave_train.train.optimizer_state import optimizer_state

if TYPE_CHECKING:
    from pathlib import Path

    from weave_train.train.prepare import PreparedRun

__all__ = ["FrozenWeights", "run_store", "save_run", "write_run_files"]


@dataclass(frozen=True)
class FrozenWeights:
    """What a run does not train.

    Attributes:
        sha256: By part; see `checkpoint.frozen`.
        tower_checksum: Of the tower every rank has whole; None where it is part of the core.
    """

    sha256: Mapping[str, str]
    tower_checksum: int | None


def run_store(config: PretrainConfig, run_dir: Path) -> Store:
    """Where a run's checkpoints go."""
    return open_store(config.checkpoint.uri or str(run_dir))


def write_run_files(
    vlm: VideoLanguageModel, frozen: FrozenWeights, *, run_dir: Path, store: Store, is_new: bool
) -> None:
    """Write what stays the same during a run, before its first step. One rank; after `config.json`.

    Args:
        vlm: As built, before an engine takes it.
        frozen: Of the run.
        run_dir: Of the run.
        store: Of the run.
        is_new: The run has no checkpoint of its own yet.
    """
    if is_new or not (run_dir / "language").is_dir():
        save_model_files(vlm, run_dir)
    parts = model_parts(vlm)
    for part, sha256 in frozen.sha256.items():
        save_frozen(store, part, parts[part], sha256=sha256)
    publish_run_files(run_dir, store)


def save_run(run: PreparedRun) -> None:
    """Save the current step: every rank; returns when the values are copied (`checkpoint.is_async`).

    Raises:
        TrainingError: The frozen tower is not what it was; nothing is written.
        StoreError: An earlier save failed.
    """
    expected = run.frozen.tower_checksum
    if expected is not None and checksum(run.vlm.tower) != expected:
        raise TrainingError(f"step {run.step}: the frozen tower moved; nothing may train it in this stage")
    epoch, epoch_step = run.order.locate(run.step)
    run.writer.save(
        StepSnapshot(
            step=run.step,
            ranges=run.engine.fragments(),
            shapes=run.engine.shapes,
            frozen=run.frozen.sha256,
            state={
                "step": run.step,
                "run_id": run.run_dir.name,
                "resumed_from": run.resumed_from,
                "adam_step": run.engine.adam_step,
                "optimizer": optimizer_state(run.engine),
                "skipped_steps": run.skipped_steps,
                "num_steps": run.num_steps,
                "data": {**run.data_state, "epoch": epoch, "step": epoch_step, "ledger": run.ledger},
            },
        )
    )
