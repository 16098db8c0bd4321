"""Scratch folders on a worker's own disk, and what is said when that disk is full, read-only or broken."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weave_data.errors import IncompleteError, SourceError

__all__ = ["scratch_folder"]

_DISK_FAULTS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG))
_REMEDY = "free space there, or set execution.work_dir (or TMPDIR) to a folder on a larger local disk"


@contextmanager
def scratch_folder(parent: str | Path | None, *, prefix: str) -> Iterator[Path]:
    """A temporary folder, gone afterwards with all that lies in it.

    Args:
        parent: Where; made when it is not there. None: the system's temporary folder.
        prefix: Of its name.

    Raises:
        SourceError: No folder can be made there; no work was done in it.
        IncompleteError: The disk failed or was full while the folder was in use.
    """
    try:
        if parent is not None:
            Path(parent).mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        where = "the system's temporary folder" if parent is None else str(parent)
        reason = error.strerror or str(error)
        raise SourceError(f"execution.work_dir: no scratch folder in {where}: {reason}; {_REMEDY}") from error
    with folder as name:
        try:
            yield Path(name)
        except OSError as error:
            if error.errno not in _DISK_FAULTS:
                raise
            raise IncompleteError(
                f"{name}: {error.strerror or error} on local scratch; what is committed stays. "
                f"Then {_REMEDY}, and run the same command again"
            ) from error
