"""Which parts of a model a stage trains, and what becomes of the others.

    stage           projector   language   vision
    align           trained     frozen     frozen
    finetune        trained     trained    frozen
    full-finetune   trained     trained    trained

A frozen language model stays inside the core: ZeRO-3 partitions it like the rest, because it is too
large to replicate. A frozen tower stays outside, on every rank whole; trained, it joins the core.
A language model with adapters (`models.lora`) is trained in these alone. Rules by parameter name
(`engine.trainable`) have the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from weave_train.config import StageId, TrainableRule
from weave_train.engine.trainable import choose
from weave_train.models.lora import is_adapter
from weave_train.models.model import VideoLanguageModel
from weave_train.models.parts import Part, part_of

__all__ = ["apply_stage", "trained_parts", "trains_tower"]

_TOWER = "vision."


def trained_parts(stage: StageId) -> frozenset[Part]:
    """Parts that a stage trains.

    Source:
        Prismatic's `freeze_backbones`.
    """
    match stage:
        case "align":
            return frozenset({"projector"})
        case "finetune":
            return frozenset({"projector", "language"})
        case "full-finetune":
            return frozenset({"projector", "language", "vision"})
        case _:
            assert_never(stage)


def trains_tower(stage: StageId, rules: Sequence[TrainableRule] = ()) -> bool:
    """Whether the tower joins the core: its stage trains it, or a rule for `vision.` does."""
    return "vision" in trained_parts(stage) or any(
        rule.train and rule.match.startswith(_TOWER) for rule in rules
    )


def apply_stage(
    vlm: VideoLanguageModel, stage: StageId, rules: Sequence[TrainableRule] = ()
) -> dict[str, float]:
    """Freeze and unfreeze a model's parameters for a stage; call before the engine takes the core.

    Args:
        vlm: As built, with its adapters; with `trains_vision` where the tower is trained. In training
            mode after it.
        stage: Whose parts are trained.
        rules: On top of it.

    Returns:
        Factor of the learning rate by parameter name, where rules give one.

    Raises:
        ConfigError: A rule has no effect; see `engine.trainable`.
    """
    if trains_tower(stage, rules):
        vlm.join_vision()
    names = [name for name, _ in vlm.core.named_parameters()]
    unreachable = {
        f"{_TOWER}{name}": "the features don't depend on it" for name in vlm.tower.unused_parameters()
    }
    if vlm.core.vision is None:
        outside = [f"{_TOWER}{name}" for name, _ in vlm.tower.named_parameters()]
        reason = f"a rule that trains the tower begins with {_TOWER!r}"
        unreachable = dict.fromkeys(outside, reason) | unreachable
        names += outside
    parts, has_adapters = trained_parts(stage), any(is_adapter(name) for name in names)
    by_stage = {
        name: (part := part_of(name)) in parts
        and name not in unreachable
        and (part != "language" or not has_adapters or is_adapter(name))
        for name in names
    }
    choices = choose(by_stage, rules, unreachable=unreachable)
    for name, parameter in vlm.core.named_parameters():
        parameter.requires_grad_(choices[name].is_trained)
    vlm.core.train()
    return {name: choice.lr_scale for name, choice in choices.items() if choice.lr_scale != 1.0}
