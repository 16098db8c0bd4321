"""What a format of transformers is to the exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from weave_train.exports.compare import Loaded
from weave_train.exports.vocabulary import Vocabulary
from weave_train.models.model import VideoLanguageModel

__all__ = ["Form"]


@dataclass(frozen=True)
class Form:
    """One format.

    Attributes:
        kind: Its name on the command line.
        instead: Formats to name when it can't hold a model.
        folds_scale: Its projector holds what the Gemmas multiply visual tokens with.
        runs_code: Loading it runs code of the export.
        backends: Of its image processor; empty where it has one way only.
        misfits: What keeps a model from being held; empty when nothing does.
        write_model: Writes configuration and weights.
        write_processor: Writes tokenizer, image processor and this chat template.
        load: Loads the directory as a stranger would.
    """

    kind: str
    instead: str
    folds_scale: bool
    runs_code: bool
    backends: tuple[str, ...]
    misfits: Callable[[VideoLanguageModel], list[str]]
    write_model: Callable[[VideoLanguageModel, Path, Vocabulary, torch.dtype], None]
    write_processor: Callable[[VideoLanguageModel, Path, Vocabulary, str], None]
    load: Callable[[Path], Loaded]
