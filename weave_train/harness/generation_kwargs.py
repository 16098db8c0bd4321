"""lmms-eval's `generation_kwargs` as our options of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weave_data.errors import ConfigError
from weave_train.models.decoding import AnswerOptions

__all__ = ["answer_options"]

_LENGTHS = ("max_new_tokens", "max_gen_toks", "max_tokens")
_DEFAULT_LENGTH = 1024
"""Of lmms-eval's own models, for tasks that name none; an answer also ends where the context does."""


def answer_options(values: Mapping[str, Any]) -> AnswerOptions:
    """Options of one request.

    Draws come from the process's random stream, which lmms-eval seeds. What only its other models know
    (`image_aspect_ratio` and the like) changes nothing here.

    Args:
        values: `generation_kwargs` of a task.

    Raises:
        ConfigError: Beam search, or a value out of range.
    """
    beams = values.get("num_beams") or 1
    if beams != 1:
        raise ConfigError(
            f"generation_kwargs: num_beams {beams}: there is no beam search; give --gen_kwargs num_beams=1"
        )
    length = next((int(values[name]) for name in _LENGTHS if values.get(name)), _DEFAULT_LENGTH)
    until = values.get("until") or ()
    stop_strings = (until,) if isinstance(until, str) else tuple(str(text) for text in until)
    temperature = float(values.get("temperature") or 0.0)
    draws = values.get("do_sample")
    if not temperature or not (temperature > 0 if draws is None else draws):
        return AnswerOptions(max_new_tokens=length, stop_strings=stop_strings)
    return AnswerOptions(
        max_new_tokens=length,
        do_sample=True,
        temperature=temperature,
        top_k=int(values["top_k"]) if values.get("top_k") else None,
        top_p=float(values["top_p"]) if values.get("top_p") else None,
        stop_strings=stop_strings,
    )
