"""What a checkpoint says about its optimizer beside the states, and whether a run can go on with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from weave_data.errors import ConfigError
from weave_train.checkpoint.layout import Checkpoint
from weave_train.config import PretrainConfig
from weave_train.engine.deepspeed_config import OptimizerId
from weave_train.engine.engine import TrainEngine
from weave_train.engine.schedule_free import BETA1, WeightAverage

__all__ = ["check_optimizer", "optimizer_id", "optimizer_state", "stored_average"]

_BEFORE_IT_WAS_SAID = {"id": "adamw", "master_weights": "fp32"}


def optimizer_id(config: PretrainConfig) -> OptimizerId:
    """Of a run: the schedule `schedule_free_adamw` is an optimizer of its own."""
    is_free = config.hyper.lr_scheduler_type == "schedule_free_adamw"
    return "schedule_free_adamw" if is_free else "adamw"


def optimizer_state(engine: TrainEngine) -> dict[str, Any]:
    """JSON for a checkpoint. `average` tells readers that its weights are averaged with `z`."""
    settings = engine.settings
    state: dict[str, Any] = {"id": settings.optimizer, "master_weights": settings.master_weights}
    if settings.optimizer == "schedule_free_adamw":
        state["average"] = {"beta1": BETA1, **asdict(engine.average)}
    return state


def check_optimizer(config: PretrainConfig, checkpoint: Checkpoint | None) -> None:
    """A resumed run goes on with the optimizer and the precision of masters it began with.

    Raises:
        ConfigError: It would not.
    """
    if checkpoint is None:
        return
    stored = checkpoint.state.get("optimizer", _BEFORE_IT_WAS_SAID)
    ours = {"id": optimizer_id(config), "master_weights": config.master_weights}
    flags = {"id": "lr_scheduler_type: the optimizer", "master_weights": "master_weights"}
    advice = "resume with the run's own flags or give another --run_id"
    problems = [
        f"{flag} was {stored[key]!r}, is {ours[key]!r}; {advice}"
        for key, flag in flags.items()
        if stored[key] != ours[key]
    ]
    if problems:
        raise ConfigError(problems, origin=checkpoint.uri)


def stored_average(checkpoint: Checkpoint) -> WeightAverage | None:
    """Of a checkpoint of `schedule_free_adamw`."""
    average = checkpoint.state.get("optimizer", {}).get("average")
    return None if average is None else WeightAverage(average["max_rate"], average["sum_of_shares"])
