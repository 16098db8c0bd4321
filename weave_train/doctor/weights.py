"""Where a run's tower and language model come from, as questions to nodes; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from weave_data.doctor import Finding, WeightQuestion, of_error
from weave_data.errors import WeaveError
from weave_train.config import ModelSettings, PretrainConfig
from weave_train.language_source import find_language
from weave_train.models.vision_weights import split_weights
from weave_train.towers import tower_spec

__all__ = ["weight_questions"]

_CONFIG = ("config.json",)
_WEIGHTS = ("*.safetensors", "*.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")


def weight_questions(
    config: PretrainConfig, settings: ModelSettings
) -> tuple[tuple[WeightQuestion, ...], list[Finding]]:
    """Questions, and findings about names that stand for nothing.

    Args:
        config: Of the run.
        settings: Its section `model`.
    """
    questions: list[WeightQuestion] = []
    findings: list[Finding] = []
    for ask in (_language, _tower):
        try:
            questions += ask(settings)
        except WeaveError as error:
            findings.append(of_error("weights", error))
    for name in (config.model.init_from_model, config.pretrained_checkpoint):
        if name is not None and Path(name).exists():  # else an id, or a place that is read as a store
            kind: Literal["directory", "file"] = "directory" if Path(name).is_dir() else "file"
            questions.append(WeightQuestion(what="first weights", kind=kind, name=name))
    return tuple(questions), findings


def _language(settings: ModelSettings) -> Iterator[WeightQuestion]:
    source = find_language(settings)
    if source.location is not None:
        patterns = (_CONFIG, _TOKENIZER, *((_WEIGHTS,) if source.has_weights else ()))
        kind: Literal["directory", "hub"] = "directory" if source.is_local else "hub"
        yield WeightQuestion(what="language model", kind=kind, name=source.location, patterns=patterns)


def _tower(settings: ModelSettings) -> Iterator[WeightQuestion]:
    spec = tower_spec(settings.vision_backbone_id)
    if not spec.has_hub_weights:
        return
    parts = split_weights(settings.vision_weights, settings.vision_backbone_id, spec)
    for member, weights in zip(spec.members, parts, strict=True):
        if weights == "random":
            continue
        if weights != "pretrained":
            yield WeightQuestion(what="tower", kind="file", name=weights)
            continue
        repository = _repository(member.timm_name)
        if repository:
            yield WeightQuestion(what="tower", kind="hub", name=repository, patterns=(_WEIGHTS,))


def _repository(timm_name: str) -> str:
    from weave_data.torchvision_ops import install

    install()
    import timm

    published: Any = timm.get_pretrained_cfg(timm_name)
    found = (published.hf_hub_id or "") if published is not None else ""
    return f"{found}{timm_name}" if found.endswith("/") else found
