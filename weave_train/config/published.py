"""Models that others trained with VideoWeave's configurations and published: ids, names, what they are.

`load` fetches them by id. A name that several models share is no id: it is refused, listing theirs.

Source:
    Prismatic's and VideoWeave's `models/registry.py` and `models/load.py`. Differs: each id is sought in the
    repository that has it, and the third model on Llama-2 Chat 7B is named like the two beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weave_data.errors import ConfigError
from weave_train.config.model_presets import VIDEOWEAVE_PRESETS, on_each_tower
from weave_train.config.presets import nearest
from weave_train.config.sections import ModelConfig

__all__ = [
    "PUBLISHED_MODELS",
    "PublishedModel",
    "available_model_ids",
    "available_model_ids_and_names",
    "get_model_description",
    "published_model",
]

_PRISMATIC = "TRI-ML/prismatic-vlms"
_ON_EACH_TOWER = "RylanSchaeffer/prismatic-vlms"
_STEPS_PER_EPOCH = 5200  # of llava-v15 at the global batch of 128


@dataclass(frozen=True)
class PublishedModel:
    """One published model.

    Attributes:
        model_id: Its id, and its folder in the repository.
        names: What papers call it; not always its own.
        repository: On the Hugging Face hub. `FOLDER/config.json` and
            `FOLDER/checkpoints/latest-checkpoint.pt` lie there.
        preset: What differs from the defaults of `ModelConfig`.
        dataset_id: What it was trained on.
    """

    model_id: str
    names: tuple[str, ...]
    repository: str
    preset: Mapping[str, Any]
    dataset_id: str

    def describe(self) -> dict[str, Any]:
        """What it is made of and how it was trained, in people's words."""
        config = ModelConfig(model_id=self.model_id, **self.preset)
        procedure = "single-stage" if config.arch_specifier.startswith("no-align") else "multi-stage"
        steps = config.finetune_max_steps
        return {
            "name": self.names[0],
            "optimization_procedure": procedure + ("-full-finetune" if _is_full(self.model_id) else ""),
            "visual_representation": _TOWERS[config.vision_backbone_id],
            "image_processing": _RESIZES[config.image_resize_strategy],
            "language_model": _LANGUAGE_MODELS[config.llm_backbone_id],
            "datasets": list(_DATASETS[self.dataset_id]),
            "train_epochs": config.finetune_epochs if steps is None else steps / _STEPS_PER_EPOCH,
        }


def available_model_ids() -> list[str]:
    """Ids of published models."""
    return list(PUBLISHED_MODELS)


def available_model_ids_and_names() -> list[list[str]]:
    """`[id, name, ...]` of each published model."""
    return [[model.model_id, *model.names] for model in PUBLISHED_MODELS.values()]


def get_model_description(model_id_or_name: str) -> str:
    """Print and return what a published model is, as JSON.

    Raises:
        ConfigError: See `published_model`.
    """
    text = json.dumps(published_model(model_id_or_name).describe(), indent=2, ensure_ascii=False)
    print(text)  # noqa: T201  VideoWeave's function prints, too
    return text


def published_model(model_id_or_name: str) -> PublishedModel:
    """Look a published model up by its id, by a name that is its own, or by VideoWeave's `prism-<id>`.

    Raises:
        ConfigError: No such model, naming the nearest, or several share the name.
    """
    plain = model_id_or_name.removeprefix("prism-")
    for model_id in (model_id_or_name, plain):
        model = PUBLISHED_MODELS.get(model_id)
        if model is not None and (model_id == model_id_or_name or model.repository == _ON_EACH_TOWER):
            return model
    named = [model for model in PUBLISHED_MODELS.values() if model_id_or_name in model.names]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(model.model_id for model in named)
        raise ConfigError(f"{model_id_or_name!r} names {len(named)} models; give one of their ids: {ids}")
    known = [*PUBLISHED_MODELS, *(name for model in PUBLISHED_MODELS.values() for name in model.names)]
    raise ConfigError(f"{model_id_or_name!r} is not a published model ({nearest(model_id_or_name, known)})")


def _is_full(model_id: str) -> bool:
    return model_id.startswith("full-ft-")


_TOWERS = {
    "in1k-vit-l": "ImageNet-21K+1K ViT-L/16 @ 224px",
    "dinov2-vit-l": "DINOv2 ViT-L/14 @ 224px",
    "clip-vit-l": "CLIP ViT-L/14 @ 224px",
    "clip-vit-l-336px": "CLIP ViT-L/14 @ 336px",
    "siglip-vit-so400m": "SigLIP ViT-SO/14 @ 224px",
    "siglip-vit-so400m-384px": "SigLIP ViT-SO/14 @ 384px",
    "dinoclip-vit-l-336px": "DINOv2 ViT-L/14 + CLIP ViT-L/14 @ 336px",
    "dinosiglip-vit-so-224px": "DINOv2 ViT-L/14 + SigLIP ViT-SO/14 @ 224px",
    "dinosiglip-vit-so-384px": "DINOv2 ViT-L/14 + SigLIP ViT-SO/14 @ 384px",
}

_RESIZES = {"letterbox": "Letterbox", "resize-crop": "Resize Crop", "resize-naive": "Naive Resize"}

_LANGUAGE_MODELS = {
    "vicuna-v15-7b": "Vicuña v1.5 7B",
    "vicuna-v15-13b": "Vicuña v1.5 13B",
    "llama2-7b-pure": "Llama-2 7B",
    "llama2-13b-pure": "Llama-2 13B",
    "llama2-7b-chat": "Llama-2 Chat 7B",
    "llama2-13b-chat": "Llama-2 Chat 13B",
    "llama3-8b-instruct": "Llama-3 Instruct 8B",
    "mistral-v0.1-7b-pure": "Mistral v0.1 7B",
    "mistral-v0.1-7b-instruct": "Mistral Instruct v0.1 7B",
    "mistral-v0.2-7b-instruct": "Mistral Instruct v0.2 7B",
    "phi-2-3b": "Phi-2 3B",
    "phi-3-instruct-4b": "Phi-3 4B",
    "gemma-2b-instruct": "Gemma Instruct 2B",
    "gemma-8b-instruct": "Gemma Instruct 8B",
}

_DATASETS = {
    "llava-v15": ("LLaVa v1.5 Instruct",),
    "llava-multimodal": ("LLaVa v1.5 Multimodal-Only",),
    "llava-lvis4v": ("LLaVa v1.5 Instruct", "LVIS-Instruct-4V"),
    "llava-lrv": ("LLaVa v1.5 Instruct", "LRV-Instruct"),
    "llava-lvis4v-lrv": ("LLaVa v1.5 Instruct", "LVIS-Instruct-4V", "LRV-Instruct"),
}

_NAMES: Mapping[str, tuple[str, ...]] = {
    "reproduction-llava-v15+7b": ("LLaVa v1.5 7B (Reproduction)",),
    "reproduction-llava-v15+13b": ("LLaVa v1.5 13B (Reproduction)",),
    "one-stage+7b": (
        "One-Stage 7B", "Single-Stage 7B", "Frozen ViT (Single-Stage)", "CLIP ViT-L 336px (Letterbox)",
        "CLIP ViT-L 336px", "Vicuña v1.5 7B", "1 Epoch", "Base",
    ),
    "one-stage+13b": ("One-Stage 13B", "Single-Stage 13B", "Vicuña v1.5 13B"),
    "full-ft-multi-stage+7b": ("Finetune ViT (Multi-Stage)",),
    "full-ft-one-stage+7b": ("Finetune ViT (Single-Stage)",),
    "in1k-224px+7b": ("IN1K ViT-L 224px",),
    "dinov2-224px+7b": ("DINOv2 ViT-L 224px",),
    "clip-224px+7b": ("CLIP ViT-L 224px",),
    "siglip-224px+7b": ("SigLIP ViT-SO 224px",),
    "clip-336px-resize-crop+7b": ("CLIP ViT-L 336px (Resize Crop)",),
    "clip-336px-resize-naive+7b": ("CLIP ViT-L 336px (Naive Resize)", "CLIP 336px (Naive Resize)"),
    "siglip-384px-letterbox+7b": ("SigLIP ViT-SO 384px (Letterbox)", "SigLIP ViT-SO 384px"),
    "siglip-384px-resize-crop+7b": ("SigLIP ViT-SO 384px (Resize Crop)",),
    "siglip-384px-resize-naive+7b": ("SigLIP ViT-SO 384px (Naive Resize)", "SigLIP 384px (Naive Resize)"),
    "dinoclip-336px-letterbox+7b": ("DINOv2 + CLIP 336px (Letterbox)",),
    "dinoclip-336px-resize-naive+7b": ("DINOv2 + CLIP 336px (Naive Resize)",),
    "dinosiglip-384px-letterbox+7b": ("DINOv2 + SigLIP 384px (Letterbox)",),
    "dinosiglip-384px-resize-naive+7b": ("DINOv2 + SigLIP 384px (Naive Resize)",),
    "llama2+7b": ("Llama-2 7B",),
    "llama2+13b": ("Llama-2 13B",),
    "vicuna-no-cotraining+7b": ("Vicuña v1.5 7B (No Co-training)",),
    "llama2-no-cotraining+7b": ("Llama-2 7B (No Co-training)",),
    "train-1.25-epochs+7b": ("1.25 Epochs",),
    "train-1.5-epochs+7b": ("1.5 Epochs",),
    "train-2-epochs+7b": ("2 Epochs",),
    "train-3-epochs+7b": ("3 Epochs",),
    "llava-lvis4v+7b": ("Base + LVIS-4V",),
    "llava-lrv+7b": ("Base + LRV",),
    "llava-lvis4v-lrv+7b": ("Base + LVIS-4V + LRV",),
    "prism-clip-controlled+7b": ("Prism-CLIP 7B (Controlled)",),
    "prism-clip-controlled+13b": ("Prism-CLIP 13B (Controlled)",),
    "prism-clip+7b": ("Prism-CLIP 7B",),
    "prism-clip+13b": ("Prism-CLIP 13B",),
    "prism-siglip-controlled+7b": ("Prism-SigLIP 7B (Controlled)",),
    "prism-siglip-controlled+13b": ("Prism-SigLIP 13B (Controlled)",),
    "prism-siglip+7b": ("Prism-SigLIP 7B",),
    "prism-siglip+13b": ("Prism-SigLIP 13B",),
    "prism-dinosiglip-controlled+7b": ("Prism-DINOSigLIP 7B (Controlled)", "Prism 7B (Controlled)"),
    "prism-dinosiglip-controlled+13b": ("Prism-DINOSigLIP 13B (Controlled)", "Prism 13B (Controlled)"),
    "prism-dinosiglip+7b": ("Prism-DINOSigLIP 7B",),
    "prism-dinosiglip+13b": ("Prism-DINOSigLIP 13B",),
    "prism-dinosiglip-224px-controlled+7b": ("Prism-DINOSigLIP 224px 7B (Controlled)",),
    "prism-dinosiglip-224px+7b": ("Prism-DINOSigLIP 224px 7B",),
    "llama2-chat+13b": ("Llama-2 Chat 13B",),
    "mistral-v0.1+7b": ("Mistral v0.1 7B",),
    "mistral-instruct-v0.1+7b": ("Mistral Instruct v0.1 7B",),
    "phi-2+3b": ("Phi-2 3B",),
}  # fmt: skip

_FAMILIES = {
    "gemma-instruct+2b": "gemma-2b-instruct",
    "gemma-instruct+8b": "gemma-8b-instruct",
    "llama2-chat+7b": "llama2-7b-chat",
    "llama3-instruct+8b": "llama3-8b-instruct",
    "mistral-instruct-v0.2+7b": "mistral-v0.2-7b-instruct",
    "phi-instruct-3+4b": "phi-3-instruct-4b",
}
"""Language models published on CLIP, SigLIP and both; the three of a family share its name."""


def _dataset_id(model_id: str) -> str:
    if "-no-cotraining" in model_id:
        return "llava-multimodal"
    if model_id.startswith("llava-"):
        return model_id.removesuffix("+7b")
    is_full_prism = model_id.startswith("prism-") and "-controlled" not in model_id
    return "llava-lvis4v-lrv" if is_full_prism else "llava-v15"


def _published() -> dict[str, PublishedModel]:
    found = {
        model_id: PublishedModel(
            model_id, names, _PRISMATIC, VIDEOWEAVE_PRESETS[model_id], _dataset_id(model_id)
        )
        for model_id, names in _NAMES.items()
    }
    for family, llm_backbone_id in _FAMILIES.items():
        names = (_LANGUAGE_MODELS[llm_backbone_id],)
        for model_id, preset in on_each_tower(family, llm_backbone_id).items():
            found[model_id] = PublishedModel(model_id, names, _ON_EACH_TOWER, preset, "llava-v15")
    return found


PUBLISHED_MODELS: Mapping[str, PublishedModel] = _published()
"""By id."""
