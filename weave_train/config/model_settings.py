"""What a run's model is: saved with the run, and all that `load` needs to rebuild it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from weave_data.config import FramesConfig, StrictModel
from weave_train.config.trainable import LoraConfig

__all__ = ["ModelSettings", "RopeScaling"]

RopeScaling = Literal["dynamic", "legacy-dynamic", "yarn", "linear"]

PROJECTORS = ("linear", "gelu-mlp", "fused-gelu-mlp")
RESIZE_STRATEGIES = ("resize-naive", "resize-crop", "letterbox")


class ModelSettings(StrictModel):
    """Section `model` of a run's configuration.

    Attributes:
        vision_backbone_id: A row of `towers.TOWERS`, or `timm:NAME`, either with or without `+pool2`.
        vision_weights: `pretrained` (timm's hub tag), `random` (seeded, written out), or a local
            weight file in timm's layout; of a fused tower two files, DINO's first, with a comma between.
            `video-tiny-vit` has none on the hub: `pretrained` is random.
        llm_backbone_id: A row of `languages.LANGUAGES`, `tiny-llama` (seeded random), or `hf:OWNER/NAME` or
            `hf:DIR`, a causal LM of transformers on the hub or in a local directory.
        llm_weights: `pretrained`, `random` (seeded, of the published sizes), or for a named id a local copy.
        arch_specifier: Projector, with `no-align+` in front when there is no align stage.
        image_resize_strategy: How a frame becomes the tower's square; see `rows.pixels`.
        llm_max_length: Longest sequence in tokens; text and T * P visual tokens together.
        rope_scaling_factor: F, by which the language model's positions are extended; see `models.rope`.
        rope_scaling_type: How.
        num_frames: Frames `frames_from_video` takes for one video; T of a training row is its own.
        prompt_format: conversations as VideoWeave writes them, or in the model's own chat format.
        visual_placement: Where frames stand in the prompt; see `rows.placement`.
        seed: Of every random weight.
        precision: Of compute; trained weights have an fp32 master.
        frame_policy: Which frames of a clip the run was trained on; a video that is asked about is
            sampled likewise (for `random-sorted`, which draws, by `linspace`).
        fps: Of frame policy `fps`, frames per second.
        frames: How those frames were stored.
        lora: Adapters of the language model, if it has any in checkpoints; `load` merges them.
    """

    vision_backbone_id: str = "video-tiny-vit"
    vision_weights: str = "pretrained"
    llm_backbone_id: str = "tiny-llama"
    llm_weights: str = "pretrained"
    arch_specifier: str = "no-align+gelu-mlp"
    image_resize_strategy: str = "resize-naive"
    llm_max_length: Annotated[int, Field(ge=8)] = 2048
    rope_scaling_factor: Annotated[float, Field(ge=1)] | None = None
    rope_scaling_type: RopeScaling = "dynamic"
    num_frames: Annotated[int, Field(ge=1)] = 8
    prompt_format: Literal["legacy", "native"] = "legacy"
    visual_placement: Literal["after-bos", "in-place", "per-clip"] = "after-bos"
    seed: Annotated[int, Field(ge=0)] = 7
    precision: Literal["fp32", "bf16"] = "bf16"
    frame_policy: Literal["linspace", "segment-center", "random-sorted", "fps"] = "linspace"
    fps: Annotated[float, Field(gt=0)] | None = None
    frames: FramesConfig = FramesConfig()
    lora: LoraConfig | None = None

    @property
    def projector_id(self) -> str:
        """`arch_specifier` without `no-align+`."""
        return self.arch_specifier.removeprefix("no-align+")

    @field_validator("arch_specifier")
    @classmethod
    def _check_arch(cls, value: str) -> str:
        if value.removeprefix("no-align+") not in PROJECTORS:
            raise ValueError(
                f"{value!r}: choose {', '.join(PROJECTORS)}, with or without 'no-align+' in front"
            )
        return value

    @field_validator("image_resize_strategy")
    @classmethod
    def _check_resize(cls, value: str) -> str:
        if value not in RESIZE_STRATEGIES:
            raise ValueError(f"{value!r}: choose {', '.join(RESIZE_STRATEGIES)}")
        return value
