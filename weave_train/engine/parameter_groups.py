"""AdamW's parameter groups: {projector, language, vision} x {decays, does not}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from weave_train.models.parts import PARTS, Part, part_of

__all__ = ["parameter_groups", "set_learning_rate"]

_SCALE = "lr_scale"


def parameter_groups(
    core: nn.Module, *, weight_decay: float, lr_scale: Mapping[Part, float]
) -> list[dict[str, Any]]:
    """Groups of the trained parameters; none is empty.

    Weights with two axes or more decay, vectors and biases do not.

    Args:
        core: As the stage left it: what is frozen is in no group.
        weight_decay: Of those that decay.
        lr_scale: Factor of the learning rate by part; 1 where a part is not named.
    """
    members: dict[tuple[Part, bool], list[nn.Parameter]] = {}
    for name, parameter in core.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and not name.endswith(".bias")
            members.setdefault((part_of(name), decays), []).append(parameter)
    return [
        {
            "params": members[part, decays],
            "weight_decay": weight_decay if decays else 0.0,
            _SCALE: lr_scale.get(part, 1.0),
        }
        for part in PARTS
        for decays in (True, False)
        if (part, decays) in members
    ]


def set_learning_rate(groups: list[dict[str, Any]], learning_rate: float) -> None:
    """Give each group its share of a step's learning rate."""
    for group in groups:
        group["lr"] = learning_rate * group[_SCALE]
