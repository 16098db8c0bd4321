"""Load any strict pydantic model from YAML and dotted overrides.

Every problem of a file is reported at once as `file: dotted.path: problem (did you mean ...?)`.
YAML is 1.2, so `1e-4` is a float and `no` is a string. Overrides address lists by index or by the
`name` of an entry: `recipes.0.seed=3`, `recipes.l4.seed=3`.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from weave_data.errors import ConfigError

__all__ = ["StrictModel", "load_config", "parse_overrides", "parse_scalar", "read_yaml"]

_FORM = r"(literal|dict|list|constrained-\w+)(\[.*\])?|int|float|str|bool"

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every configuration record: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", protected_namespaces=())


def read_yaml(text: str, *, origin: str) -> dict[str, Any]:
    """Parse a YAML 1.2 mapping.

    Raises:
        ConfigError: The text is not YAML, or not a mapping.
    """
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ConfigError(f"not valid YAML: {str(error).strip()}", origin=origin) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"expected a mapping of settings, found {type(value).__name__}", origin=origin)
    return value


def parse_scalar(text: str) -> Any:
    """Value of one override, read as YAML: `3`, `1e-4`, `true`, `[1, 2]`, `null`, plain text."""
    try:
        return YAML(typ="safe", pure=True).load(text) if text else ""
    except YAMLError:
        return text


def parse_overrides(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Split `a.b=value` strings.

    Raises:
        ConfigError: An override has no `=` or an empty path.
    """
    pairs, problems = [], []
    for text in overrides:
        path, separator, value = text.partition("=")
        if not separator or not path.strip("."):
            problems.append(f"{text!r}: an override is written dotted.path=value")
        else:
            pairs.append((path, parse_scalar(value)))
    if problems:
        raise ConfigError(problems, origin="command line")
    return pairs


def load_config(
    model: type[Model],
    values: Mapping[str, Any],
    *,
    overrides: Sequence[tuple[str, Any]] = (),
    origin: str,
) -> Model:
    """Validate `values` with overrides applied on top.

    Args:
        model: The pydantic model to build.
        values: Parsed settings; not modified.
        overrides: `(dotted.path, value)` pairs, applied in order.
        origin: Named in messages, usually the file.

    Raises:
        ConfigError: All problems, each with its dotted path and the nearest known key.
    """
    merged = _copy(dict(values))
    problems = [problem for path, value in overrides if (problem := _assign(merged, path, value))]
    try:
        loaded = model.model_validate(merged)
    except ValidationError as error:
        problems += [_explain(model, merged, item) for item in _one_per_choice(error.errors())]
    if problems:
        raise ConfigError(problems, origin=origin)
    return loaded


def load_config_file(model: type[Model], path: Path, overrides: Sequence[str] = ()) -> Model:
    """`load_config` of a YAML file.

    Raises:
        ConfigError: The file can't be read, or see `load_config`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read the configuration: {error.strerror}", origin=str(path)) from error
    values = read_yaml(text, origin=str(path))
    return load_config(model, values, overrides=parse_overrides(overrides), origin=str(path))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _assign(root: dict[str, Any], path: str, value: Any) -> str | None:
    *parents, last = path.split(".")
    node: Any = root
    for step in parents:
        if isinstance(node, list):
            index = _list_index(node, step)
            if index is None:
                return f"{path}: no entry {step!r}; entries are {_entry_names(node)}"
            node = node[index]
        elif isinstance(node, dict):
            if not isinstance(node.get(step), (dict, list)):
                node[step] = {}
            node = node[step]
        else:
            return f"{path}: {step!r} is inside a plain value"
    if isinstance(node, list):
        index = _list_index(node, last)
        if index is None:
            return f"{path}: no entry {last!r}; entries are {_entry_names(node)}"
        node[index] = value
    else:
        node[last] = value
    return None


def _list_index(items: list[Any], step: str) -> int | None:
    if step.isdigit() and int(step) < len(items):
        return int(step)
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return names.index(step) if step in names else None


def _entry_names(items: list[Any]) -> str:
    names = [
        str(item.get("name", index)) if isinstance(item, dict) else str(index)
        for index, item in enumerate(items)
    ]
    return ", ".join(names) or "none"


def _one_per_choice(errors: Sequence[Any]) -> list[Any]:
    """Drop what a setting of several forms says of the mapping form when no mapping was given."""
    forms = Counter(item["loc"][:-1] for item in errors if _is_form(item["loc"][-1:]))
    return [item for item in errors if item["type"] != "dict_type" or forms[item["loc"][:-1]] < 2]


def _is_form(step: Sequence[Any]) -> bool:
    """True for what pydantic adds to a location to name one form of a setting that has several."""
    return bool(step) and isinstance(step[0], str) and re.fullmatch(_FORM, step[0]) is not None


def _explain(model: type[BaseModel], merged: Any, item: Any) -> str:
    location = [
        step
        for step in item["loc"]
        if not (isinstance(step, str) and (step.startswith("function-") or re.fullmatch(_FORM, step)))
    ]
    path = ".".join(_step_name(merged, location, depth) for depth in range(len(location)))
    match item["type"]:
        case "extra_forbidden":
            known = _known_keys(model, location[:-1])
            close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            return f"{path}: unknown setting ({hint})"
        case "missing":
            return f"{path}: required, not given"
        case "literal_error":
            given = item["input"]
            allowed = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            close = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            return f"{path}: {given!r} is not one of {', '.join(allowed)}{hint}"
        case "value_error":
            message = str(item["ctx"]["error"])
            return f"{path}: {message}" if path else message
        case _:
            return f"{path}: {_lower_first(item['msg'])}, got {item['input']!r}"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _step_name(merged: Any, location: list[Any], depth: int) -> str:
    node = merged
    for step in location[:depth]:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return str(location[depth])
    step = location[depth]
    if isinstance(step, int) and isinstance(node, list) and isinstance(node[step], dict):
        return str(node[step].get("name", step))
    return str(step)


def _known_keys(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    current: Any = model
    is_key = False
    for step in location:
        if isinstance(step, int) or is_key:
            is_key = False
            continue
        field = current.model_fields.get(step)
        nested = _nested_model(field.annotation) if field is not None else None
        is_key = field is not None and typing.get_origin(field.annotation) is dict
        if nested is None:
            return sorted(current.model_fields)
        current = nested
    return sorted(current.model_fields)


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, dict, tuple, typing.Annotated):
        for argument in typing.get_args(annotation):
            nested = _nested_model(argument)
            if nested is not None:
                return nested
    return None
