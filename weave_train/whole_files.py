"""Small files that are there whole or not at all, whatever ends the process that writes them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from weave_data.errors import StoreError

__all__ = ["disk_error", "write_whole"]


def write_whole(path: Path, content: str | bytes) -> None:
    """Write or replace a file; its folder is made. Nobody sees a part of it, a kill leaves the old one.

    Raises:
        StoreError: The disk is full, or may not be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> StoreError:
    """What a run says of a file that it can't write."""
    return StoreError(f"{path}: {error.strerror or error}; correct the disk or its permissions")
