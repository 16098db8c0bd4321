"""Which parts of a model a stage trains, and what becomes of the others.

    stage           projector   language   vision
    align           trained     frozen     frozen
    finetune        trained     trained    frozen
    full-finetune   trained     trained    trained

A frozen language model stays inside the core: ZeRO-3 partitions it like the rest, because it is too
large to replicate. A frozen tower stays outside, on every rank whole; trained, it joins the core.
"""

from __future__ import annotations

from typing import assert_never

from weave_train.config import StageId
from weave_train.models.model import VideoLanguageModel
from weave_train.models.parts import Part, part_of

__all__ = ["apply_stage", "trained_parts"]


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


def apply_stage(vlm: VideoLanguageModel, stage: StageId) -> None:
    """Freeze and unfreeze a model's parts for a stage; call before the engine takes the core.

    Args:
        vlm: As built; with `trains_vision` where the stage trains the tower. In training mode after it.
        stage: Whose parts are trained.
    """
    parts = trained_parts(stage)
    if "vision" in parts:
        vlm.join_vision()
    unused = set(vlm.tower.unused_parameters())
    for name, parameter in vlm.core.named_parameters():
        parameter.requires_grad_(part_of(name) in parts and name.removeprefix("vision.") not in unused)
    vlm.core.train()
