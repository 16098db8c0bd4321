"""Real tokenizers of the assets folder, some of whose files are compressed."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

from weave_train.models.tokenizer import load_tokenizer

__all__ = ["load_asset"]


def load_asset(folder: Path, target: Path) -> Any:
    for file in folder.iterdir():
        if file.suffix == ".gz":
            (target / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        elif file.is_file():
            shutil.copy(file, target)
    return load_tokenizer(target)
