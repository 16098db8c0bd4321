"""AdamW's parameter groups: {projector, language, vision} x {decays, does not} x share of the rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from weave_train.models.parts import PARTS, Part, part_of

__all__ = ["parameter_groups", "set_learning_rate"]

_SCALE = "lr_scale"


def parameter_groups(
    core: nn.Module,
    *,
    weight_decay: float,
    lr_scale: Mapping[Part, float],
    parameter_lr_scale: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups of the trained parameters; none is empty.

    Weights with two axes or more decay, vectors and biases do not.

    Args:
        core: As the stage left it: what is frozen is in no group.
        weight_decay: Of those that decay.
        lr_scale: Factor of the learning rate by part; 1 where a part is not named.
        parameter_lr_scale: Factor on top of that by parameter name; 1 where it is not named.
    """
    own = parameter_lr_scale or {}
    members: dict[tuple[Part, bool, float], list[nn.Parameter]] = {}
    for name, parameter in core.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and not name.endswith(".bias")
            members.setdefault((part_of(name), decays, own.get(name, 1.0)), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            _SCALE: lr_scale.get(part, 1.0) * scale,
        }
        # sorted by part, those that decay first; shares as they come
        for (part, decays, scale), parameters in sorted(
            members.items(), key=lambda item: (PARTS.index(item[0][0]), not item[0][1])
        )
    ]


def set_learning_rate(groups: list[dict[str, Any]], learning_rate: float) -> None:
    """Give each group its share of a step's learning rate."""
    for group in groups:
        group["lr"] = learning_rate * group[_SCALE]
