"""VideoWeave's `latest-checkpoint.pt`: `{"model": {"projector": {...}, "llm_backbone": {...}}}`.

    ours                         theirs
    0.weight (linear)            projector:       projector.weight
    0.weight, 2.weight (MLP)     projector:       projector.0.weight, projector.2.weight
    model.layers.0...            llm_backbone:    llm.model.layers.0...
    vit.blocks.0...              vision_backbone: featurizer.blocks.0...
    dino_vit.blocks.0...         vision_backbone: dino_featurizer.blocks.0...

Source:
    Prismatic's `FSDPStrategy.save_checkpoint` and its projector, language and vision classes. Their
    files hold no optimizer, schedule or data state.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch

from weave_data.errors import VerificationError

__all__ = ["PARTS", "read_prismatic", "write_prismatic"]

PARTS = {"projector": "projector", "language": "llm_backbone", "vision": "vision_backbone"}
"""Our part -> key of their file."""

_LANGUAGE = ("", "llm.")
_VISION = ("vit", "featurizer")
"""Ends of the names of a tower's members."""


def write_prismatic(path: Path, parts: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Write a file that Prismatic and VideoWeave load.

    Args:
        path: Replaced when it exists, once the new file is whole.
        parts: State dicts of `projector` and `language`, and of `vision` where it goes along.
    """
    model = {
        PARTS[part]: {_to_theirs(part, name, values): value for name, value in values.items()}
        for part, values in parts.items()
    }
    partial = path.with_name(path.name + ".partial")
    torch.save({"model": model}, partial)
    partial.replace(path)


def read_prismatic(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts by part under our names; no code in the file is run.

    Args:
        path: As `write_prismatic` or VideoWeave wrote it. It is mapped, not read at once.

    Returns:
        `projector` and whichever of `language` and `vision` the file has.

    Raises:
        VerificationError: Not such a file, or damaged.
    """
    try:
        model = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
        found = {part: model[key] for part, key in PARTS.items() if key in model}
        parts = {
            part: {_to_ours(part, name): value for name, value in values.items()}
            for part, values in found.items()
        }
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError, UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VerificationError(
            f"{path}: no checkpoint of Prismatic or VideoWeave: {reason}; give a latest-checkpoint.pt"
        ) from error
    if "projector" not in parts:
        raise VerificationError(f"{path}: holds no projector; give a latest-checkpoint.pt")
    return parts


def _to_theirs(part: str, name: str, values: Mapping[str, torch.Tensor]) -> str:
    if part == "projector":
        is_linear = len(values) == 2
        return f"projector.{name.removeprefix('0.')}" if is_linear else f"projector.{name}"
    if part == "vision":
        return _renamed_member(name, *_VISION)
    ours, theirs = _LANGUAGE
    return theirs + name.removeprefix(ours)


def _to_ours(part: str, name: str) -> str:
    if part == "projector":
        rest = _without(name, "projector.")
        return rest if rest[0].isdigit() else f"0.{rest}"
    if part == "vision":
        return _renamed_member(name, *reversed(_VISION))
    ours, theirs = _LANGUAGE
    return ours + _without(name, theirs)


def _renamed_member(name: str, old: str, new: str) -> str:
    member, _, rest = name.partition(".")
    if not member.endswith(old):
        raise ValueError(f"{name!r} is not of a {old}")
    return f"{member.removesuffix(old)}{new}.{rest}"


def _without(name: str, prefix: str) -> str:
    if not name.startswith(prefix):
        raise ValueError(f"{name!r} does not begin with {prefix!r}")
    return name[len(prefix) :]
