"""Metrics to Weights & Biases, an optional extra. WANDB_MODE=offline keeps them on disk."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weave_data.errors import DeviceError
from weave_train.numbers.metrics import StepMetrics, read_metrics
from weave_train.numbers.step_report import StepReport

__all__ = ["WandbTracker"]


class WandbTracker:
    """Logs each step's metrics to one W&B run, which a resumed run goes on with.

    The W&B run's id is kept in the run directory. Steps that a killed run logged after its last
    checkpoint are logged again when they are taken again: the same values at the same `Step`.

    Args:
        run_dir: Of the run; its name is the W&B run's, and W&B's own files lie in its `wandb/`.
        stage: Of the run; the W&B run's group.
        project: W&B project.
        entity: W&B user or team; None is the account's default.
        settings: The run's configuration.
        start_step: Steps taken before.

    Raises:
        DeviceError: The package is not there, or W&B refuses.

    Source:
        VideoWeave's tracker: name, group, directory and keys.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        stage: str,
        project: str,
        entity: str | None,
        settings: Mapping[str, Any],
        start_step: int,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise DeviceError(
                "trackers: the package wandb is not installed; pip install 'videoweave[wandb]', "
                "or leave wandb out of --trackers"
            ) from error
        try:
            self._run = wandb.init(
                id=_run_id(run_dir),
                name=run_dir.name,
                group=stage,
                project=project,
                entity=entity,
                dir=run_dir,
                config=dict(settings),
                resume="allow",
                # standard streams stay the terminal's
                settings=wandb.Settings(console="off"),
            )
        except wandb.errors.Error as error:
            raise DeviceError(
                f"trackers: W&B refuses: {error}; run `wandb login`, or set WANDB_MODE=offline"
            ) from error
        prefix = stage.capitalize()
        self._run.define_metric(f"{prefix}/*", step_metric=f"{prefix}/Step")
        past = [line for line in read_metrics(run_dir) if line[f"{prefix}/Step"] <= start_step]
        self._metrics = StepMetrics(stage, past)

    def on_step(self, report: StepReport) -> None:
        """Log the step; W&B sends it in the background."""
        self._run.log({key: value for key, value in self._metrics.of(report).items() if value is not None})

    def close(self, *, has_failed: bool = False) -> None:
        """Send the rest and end the W&B run, as failed where it has."""
        self._run.finish(exit_code=int(has_failed))


def _run_id(run_dir: Path) -> str:
    path = run_dir / "wandb-id.txt"
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
