"""Ids that `--model.type` and `--dataset.type` name, looked up."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from weave_data.errors import ConfigError
from weave_train.config.dataset_presets import DATASET_IDS
from weave_train.config.model_presets import MODEL_PRESETS

__all__ = ["DATASET_IDS", "DEFAULT_MODEL_TYPE", "MODEL_PRESETS", "model_preset", "nearest"]

DEFAULT_MODEL_TYPE = "prism-clip+7b"


def model_preset(model_type: str) -> dict[str, Any]:
    """Settings of a model id, `model_id` included.

    Raises:
        ConfigError: No such id; the nearest one is named.
    """
    if model_type not in MODEL_PRESETS:
        raise ConfigError(
            f"model.type: {model_type!r} is not a known model id ({nearest(model_type, MODEL_PRESETS)})",
            origin="command line",
        )
    return {"model_id": model_type, **MODEL_PRESETS[model_type]}


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
