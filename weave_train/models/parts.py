"""The parts of a model, by which stages train it and norms and learning rates are told apart.

projector   core.projector                 between tower and language model
language    core.language_model
vision      core.vision                    the tower, where it is trained; else it is no part of the core
"""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["PARTS", "Part", "part_of"]

Part = Literal["projector", "language", "vision"]
PARTS: tuple[Part, ...] = get_args(Part)

_SUBMODULES: dict[str, Part] = {"projector": "projector", "language_model": "language", "vision": "vision"}


def part_of(parameter_name: str) -> Part:
    """Part that a core's parameter is of, by its name: `language_model.lm_head.weight` -> `language`."""
    return _SUBMODULES[parameter_name.partition(".")[0]]
