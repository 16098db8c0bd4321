"""The model of a run with nothing on top: every exported weight comes from here."""

from __future__ import annotations

from pathlib import Path

import torch

from weave_train.checkpoint.layout import Checkpoint, find_checkpoint_at
from weave_train.checkpoint.run_files import read_run_file
from weave_train.config import ModelSettings
from weave_train.loading import load_weights, model_parts
from weave_train.models.model import VideoLanguageModel
from weave_train.towers import tower_spec

__all__ = ["load_plain", "plain_weights"]


def load_plain(run_or_checkpoint: Path | str) -> tuple[Checkpoint, VideoLanguageModel]:
    """Load a run's checkpoint on the CPU, in fp32, frozen, in eval mode.

    Args:
        run_or_checkpoint: A run directory or URI (its newest complete checkpoint), or one of its
            `checkpoints/step-<n>`.

    Raises:
        ConfigError: Not a run, or no complete checkpoint in it.
        VerificationError: Weights are missing, damaged, or of another model.
    """
    checkpoint = find_checkpoint_at(str(run_or_checkpoint))
    vlm = load_weights(checkpoint)
    vlm.tower.float().eval().requires_grad_(False)
    vlm.core.float().eval().requires_grad_(False)
    return checkpoint, vlm


def plain_weights(checkpoint: Checkpoint, vlm: VideoLanguageModel) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts of projector, language model and, unless it is the published one, the tower.

    The one place that says what the weights of a model are.
    """
    parts = model_parts(vlm)
    if _has_published_tower(checkpoint, vlm.settings):
        del parts["vision"]
    return {part: module.state_dict() for part, module in parts.items()}


def _has_published_tower(checkpoint: Checkpoint, settings: ModelSettings) -> bool:
    flags = read_run_file(checkpoint.store, "config.json").get("pretrain", {})
    if flags.get("model", {}).get("init_from_model") is not None:  # whose tower it is, trained perhaps
        return False
    is_trained = any(name.startswith("vision.") for name in checkpoint.shapes)
    is_published = tower_spec(settings.vision_backbone_id).has_hub_weights
    return settings.vision_weights == "pretrained" and not is_trained and is_published
