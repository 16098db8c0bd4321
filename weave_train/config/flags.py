"""Command-line flags as VideoWeave writes them: `--a.b value`, `--a.b=value`, bare `--switch`."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from weave_data.config import parse_scalar
from weave_data.errors import ConfigError

__all__ = ["parse_flags"]


def parse_flags(arguments: Sequence[str], *, model: type[BaseModel]) -> list[tuple[str, Any]]:
    """Turn flags into `(dotted.path, value)` pairs for the configuration loader.

    Values are read as YAML (`3`, `1e-4`, `true`, `[a, b]`, `null`), except where the setting is a
    string: `--run_id 2024` stays text. A flag without a value means `true`; a list takes several words
    (`--trackers jsonl wandb`).

    Args:
        arguments: What follows the command's name.
        model: The configuration the paths lead into.

    Raises:
        ConfigError: A word that is neither a flag nor a flag's value.
    """
    pairs: list[tuple[str, Any]] = []
    words, stray = list(arguments), []
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            stray.append(f"{word!r}: expected a flag, written --dotted.name value")
            continue
        path, separator, text = word[2:].partition("=")
        if not separator:
            text = words.pop(0) if words and not words[0].startswith("--") else "true"
        value = _parse(text, path, model)
        if words and not words[0].startswith("--") and _is_list(path, model):
            value = [value]
            while words and not words[0].startswith("--"):
                value.append(_parse(words.pop(0), path, model))
        pairs.append((path, value))
    if stray:
        raise ConfigError(stray, origin="command line")
    return pairs


def _is_list(path: str, model: type[BaseModel]) -> bool:
    return any(typing.get_origin(kind) is list for kind in _kinds(_annotation(model, path.split("."))))


def _parse(text: str, path: str, model: type[BaseModel]) -> Any:
    value = parse_scalar(text)
    kinds = _kinds(_annotation(model, path.split(".")))
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        str in kinds
        and not isinstance(value, (str, list, dict))
        and not (value is None and type(None) in kinds)
    ):
        return text
    return value


def _annotation(model: type[BaseModel], steps: Sequence[str]) -> Any:
    current: Any = model
    for step in steps:
        nested = [kind for kind in _kinds(current) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not nested or step not in nested[0].model_fields:
            return Any
        current = nested[0].model_fields[step].annotation
    return current


def _kinds(annotation: Any) -> set[Any]:
    """Plain types inside unions and Annotated."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return {kind for part in typing.get_args(annotation) for kind in _kinds(part)}
    if typing.get_origin(annotation) is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    return {annotation}
