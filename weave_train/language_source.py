"""Where a language model's configuration, tokenizer and weights are read from. No torch, no network.

`model.llm_weights` says it for a named id: `pretrained` (its repository), `random` (seeded, of the
published sizes; a caption tokenizer stands in for the real one, and no hub is asked), or DIR (a local
copy; the id's rules apply to it). An `hf:` id names its place by itself; `random` takes the
configuration and the tokenizer from there, and no weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.languages import LanguageSpec, language_spec

__all__ = ["LanguageSource", "find_language"]


@dataclass(frozen=True)
class LanguageSource:
    """Where a language model's files are.

    Attributes:
        spec: Of a named id.
        location: Directory, or repository of the hub; None: nothing is read, all is random.
        is_local: `location` is a directory.
        has_weights: Weights are read, too; otherwise they are random.
        flag: That named the location; named in messages.
    """

    spec: LanguageSpec | None
    location: str | None
    is_local: bool
    has_weights: bool
    flag: str = "model.llm_backbone_id"


def find_language(settings: ModelSettings) -> LanguageSource:
    """Where the language model of these settings is; nothing is downloaded.

    Raises:
        ConfigError: Unknown id, no such directory, or id and `llm_weights` contradict each other.
    """
    spec, weights = language_spec(settings.llm_backbone_id), settings.llm_weights
    names_directory = weights not in ("pretrained", "random")
    if spec is not None and names_directory:
        return _local(weights, spec, flag="model.llm_weights")
    if names_directory:
        raise ConfigError(
            f"model.llm_weights: {settings.llm_backbone_id!r} takes no weights from {weights!r}; "
            "name the directory with --model.llm_backbone_id hf:DIR"
        )
    if spec is not None:
        location = None if weights == "random" else spec.repo
        return LanguageSource(spec, location, is_local=False, has_weights=location is not None)
    if settings.llm_backbone_id == "tiny-llama":
        return LanguageSource(None, None, is_local=False, has_weights=False)
    name = settings.llm_backbone_id.removeprefix("hf:")
    has_weights = weights == "pretrained"
    is_repo = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None and not Path(name).exists()
    if is_repo:
        return LanguageSource(None, name, is_local=False, has_weights=has_weights)
    return _local(name, None, flag="model.llm_backbone_id", has_weights=has_weights)


def _local(name: str, spec: LanguageSpec | None, *, flag: str, has_weights: bool = True) -> LanguageSource:
    if not (Path(name) / "config.json").is_file():
        raise ConfigError(
            f"{flag}: there is no config.json in {name!r}; name a directory that transformers can load"
        )
    return LanguageSource(spec, name, is_local=True, has_weights=has_weights, flag=flag)
