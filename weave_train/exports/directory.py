"""An exported directory is whole or not there: it is written beside its place and moved last."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from weave_data.errors import ConfigError

__all__ = ["check_is_free", "whole_directory"]


def check_is_free(path: Path) -> None:
    """Refuse a target that holds something; call before anything slow.

    Raises:
        ConfigError: It is a file, or a directory with something in it.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if os.path.lexists(path):
        kind = "a directory with files in it" if path.is_dir() else "a file"
        raise ConfigError(f"--to: {path} is {kind}; name a new or an empty directory")


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A scratch directory that becomes `path` when the block ends, and is removed when it raises.

    A killed process leaves `.<name>.partial` behind, which the next export to `path` replaces.

    Raises:
        ConfigError: See `check_is_free`.
    """
    check_is_free(path)
    partial = path.absolute().with_name(f".{path.absolute().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        check_is_free(path)
        partial.replace(path)  # POSIX: onto nothing, or an empty directory
    finally:
        shutil.rmtree(partial, ignore_errors=True)
