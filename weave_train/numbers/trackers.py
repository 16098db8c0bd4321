"""All that a run tells, opened and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from weave_train.config import PretrainConfig
from weave_train.numbers.hooks import Hook
from weave_train.numbers.loss_curve import LossCurve
from weave_train.numbers.metrics import JsonlTracker
from weave_train.numbers.progress import ProgressLine
from weave_train.numbers.step_report import StepReport
from weave_train.numbers.wandb_tracker import WandbTracker

__all__ = ["open_trackers"]


@contextmanager
def open_trackers(
    config: PretrainConfig, run_dir: Path, *, start_step: int, num_steps: int
) -> Iterator[Callable[[StepReport], None]]:
    """Give a function that tells a step to everything that wants to know; for the first rank.

    `metrics.jsonl` is always written, W&B where `--trackers` names it. When the block is left all are
    closed, and know whether by an error.

    Args:
        config: Of the run.
        run_dir: Of the run; exists.
        start_step: Steps taken before.
        num_steps: Of the whole run.

    Raises:
        DeviceError: W&B is asked for and can't be had.
    """
    stage = config.stage
    hooks: list[Hook] = [JsonlTracker(run_dir, stage=stage, start_step=start_step)]
    if "wandb" in config.trackers:
        hooks.append(
            WandbTracker(
                run_dir,
                stage=stage,
                project=config.wandb_project,
                entity=config.wandb_entity,
                settings=config.model_dump(mode="json"),
                start_step=start_step,
            )
        )
    hooks += [LossCurve(run_dir, stage=stage), ProgressLine(start_step=start_step, num_steps=num_steps)]

    def tell(report: StepReport) -> None:
        for hook in hooks:
            hook.on_step(report)

    try:
        yield tell
    except BaseException:
        _close(hooks, has_failed=True)
        raise
    _close(hooks, has_failed=False)


def _close(hooks: Sequence[Hook], *, has_failed: bool) -> None:
    for hook in hooks:
        hook.close(has_failed=has_failed)
