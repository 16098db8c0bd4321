"""Pictures in GIF and PNG get a JPEG beside them."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from weave_data.errors import SourceError

__all__ = ["convert_to_jpeg"]


def convert_to_jpeg(folder: Path) -> int:
    """Write `NAME.jpg` beside every `NAME.gif` (first picture) and `NAME.png` that has none.

    Args:
        folder: Holds the pictures; folders in it are not entered.

    Returns:
        Pictures written.

    Raises:
        SourceError: A file of another kind, or one that is no picture.

    Source:
        Prismatic's `preprocess.py`, for OCR-VQA, whose records name `.jpg` only: RGB, Pillow's default
        quality. The originals stay.
    """
    count = 0
    for path in sorted(folder.iterdir()):
        target = path.with_suffix(".jpg")
        if path.is_dir() or path.suffix.lower() in (".jpg", ".jpeg") or target.exists():
            continue
        if path.suffix.lower() not in (".gif", ".png"):
            raise SourceError(
                f"{path}: {path.suffix or 'no suffix'} is not expected here; move the file away"
            )
        unfinished = path.with_name(f".{target.name}.converting")
        try:
            with Image.open(path) as image:
                image.seek(0)
                image.convert("RGB").save(unfinished, format="JPEG")
            os.replace(unfinished, target)  # noqa: PTH105
        except (UnidentifiedImageError, OSError) as error:
            unfinished.unlink(missing_ok=True)
            raise SourceError(f"{path}: no picture ({error}); delete it and unpack again") from error
        count += 1
    return count
