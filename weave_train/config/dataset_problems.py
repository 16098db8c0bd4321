"""Data set settings that contradict each other or that nothing honours."""

from __future__ import annotations

from collections.abc import Sequence

from weave_train.config.presets import DATASET_IDS, nearest
from weave_train.config.sections import DatasetConfig, MixtureEntry

__all__ = ["dataset_problems"]

_OF_LISTS = ("frame_policy", "align_stage_components", "finetune_stage_components", "dataset_root_dir")


def dataset_problems(dataset: DatasetConfig, *, batch_rows: int, path: str = "dataset") -> list[str]:
    """Everything wrong with a data set section, a line each.

    Args:
        dataset: As given.
        batch_rows: Of the global batch; a mixture's slots add up to it.
        path: Of the section.
    """
    parts = dataset.mixture or []
    found = _source_problems(dataset, path)
    found += [
        problem
        for index, part in enumerate(parts)
        for problem in _part_problems(part, f"{path}.mixture.{index}")
    ]
    if dataset.mixture is not None:
        found += _mixture_problems(parts, batch_rows, path)
    if sum(part.type is not None for part in parts) > 1:
        found += [
            f"{path}.{name}: every part of {path}.mixture with a type would read these files instead of its "
            "own; leave it out, or name one type"
            for name in ("align_stage_components", "finetune_stage_components")
            if getattr(dataset, name) != DatasetConfig.model_fields[name].default
        ]
    types = [dataset.type if dataset.manifest is None else None, *(part.type for part in parts)]
    if not any(types):
        found += [
            f"{path}.{name}: has no effect: only JSON lists ({path}.type) are read by it"
            for name in _OF_LISTS
            if getattr(dataset, name) != DatasetConfig.model_fields[name].default
        ]
    elif dataset.mixture is None and dataset.split != "train":
        found.append(f"{path}.split: a JSON list has no splits; name another list")
    return found


def _source_problems(dataset: DatasetConfig, path: str) -> list[str]:
    if dataset.mixture is not None:
        return [
            f"{path}.{name}: given beside {path}.mixture; name it there"
            for name in ("manifest", "type")
            if getattr(dataset, name) is not None
        ]
    if dataset.type is not None:
        return _type_problems(dataset.type, path)
    if dataset.manifest is None:
        return [f"{path}.manifest: required: URI of a woven data set's manifest.json, or {path}.type"]
    return []


def _type_problems(dataset_type: str, path: str) -> list[str]:
    if dataset_type in DATASET_IDS:
        return []
    return [f"{path}.type: {dataset_type!r} is not a known data set ({nearest(dataset_type, DATASET_IDS)})"]


def _part_problems(part: MixtureEntry, path: str) -> list[str]:
    if (part.manifest is None) == (part.type is None):
        return [f"{path}: {part.name!r} needs a manifest or a type, and not both"]
    return [] if part.type is None else _type_problems(part.type, path)


def _mixture_problems(parts: Sequence[MixtureEntry], batch_rows: int, path: str) -> list[str]:
    found = []
    names = [part.name for part in parts]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        found.append(f"{path}.mixture: {', '.join(repeated)} comes more than once; give each its own name")
    total = sum(part.slots for part in parts)
    if total != batch_rows:
        found.append(
            f"{path}.mixture: its slots add up to {total}, the global batch has {batch_rows} rows; change "
            "the slots or the global batch size"
        )
    return found
