"""A run as VideoWeave lays it out: config.json and checkpoints/latest-checkpoint.pt.

    PATH ends in .pt      that file alone
    else                  PATH/config.json, PATH/checkpoints/latest-checkpoint.pt

Source:
    Prismatic's `load`: section `model` of config.json names tower, language model, projector, resize
    strategy, longest sequence and frames. Ids it does not know (`hf:DIR`, `video-tiny-vit`) it refuses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from weave_data.errors import ConfigError
from weave_train.checkpoint.layout import Checkpoint
from weave_train.checkpoint.prismatic import write_prismatic
from weave_train.checkpoint.run_files import read_run_file
from weave_train.config import ModelSettings
from weave_train.exports.directory import check_is_free, whole_directory
from weave_train.exports.plain import load_plain, plain_weights
from weave_train.languages import LANGUAGES
from weave_train.towers import TOWERS

__all__ = ["export_prismatic"]


def export_prismatic(
    run_or_checkpoint: Path | str, path: Path, *, dtype: torch.dtype = torch.float32
) -> tuple[tuple[str, ...], list[str]]:
    """Write a checkpoint as Prismatic and VideoWeave load it.

    The tower goes along where it was trained, or is not the published one they would load by name.

    Args:
        run_or_checkpoint: As `load` takes it.
        path: A `.pt` file, replaced when it exists, or a directory, new or empty.
        dtype: Of the weights; theirs are bf16.

    Returns:
        Parts written, and sentences on what they would do otherwise, or not at all.

    Raises:
        ConfigError: `path` is not free, or there is no run or no complete checkpoint.
        VerificationError: The run's weights are missing or damaged.
    """
    is_file = path.suffix == ".pt"
    if is_file and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise ConfigError(f"--to: {path} can't be a file there; name one in a directory that exists")
    if not is_file:
        check_is_free(path)
    checkpoint, vlm = load_plain(run_or_checkpoint)
    parts = {
        part: {name: value.to(dtype) for name, value in values.items()}
        for part, values in plain_weights(checkpoint, vlm).items()
    }
    if is_file:
        write_prismatic(path, parts)
        return tuple(parts), _strange_to_them(vlm.settings)
    with whole_directory(path) as partial:
        (partial / "checkpoints").mkdir()
        write_prismatic(partial / "checkpoints" / "latest-checkpoint.pt", parts)
        config = {"model": _their_settings(checkpoint, vlm.settings.model_dump(mode="json"))}
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return tuple(parts), _strange_to_them(vlm.settings)


def _strange_to_them(settings: ModelSettings) -> list[str]:
    """What VideoWeave's own load makes of a model otherwise; ours has no trouble with any."""
    tower, language = settings.vision_backbone_id, settings.llm_backbone_id
    notes = []
    if tower == "video-tiny-vit" or tower not in TOWERS:
        notes.append(f"VideoWeave knows no vision id {tower!r}")
    if language not in LANGUAGES:
        notes.append(f"VideoWeave knows no language id {language!r}")
    if settings.rope_scaling_factor is not None and settings.rope_scaling_type != "legacy-dynamic":
        notes.append(
            "VideoWeave extends positions as rope_scaling_type legacy-dynamic does; "
            f"the run was trained with {settings.rope_scaling_type}"
        )
    if settings.prompt_format != "legacy" or settings.visual_placement != "after-bos":
        notes.append("VideoWeave asks in its own prompt format, frames after BOS; the run learnt another")
    return notes


def _their_settings(checkpoint: Checkpoint, settings: dict[str, Any]) -> dict[str, Any]:
    """The run's model flags, whose names are VideoWeave's, below the model's settings."""
    pretrain = read_run_file(checkpoint.store, "config.json").get("pretrain", {})
    flags = pretrain.get("model", {}) if isinstance(pretrain, dict) else {}
    return {"model_id": settings["llm_backbone_id"], **flags, **settings}
