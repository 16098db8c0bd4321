"""Files that the first rank wrote, for ranks whose run directory may be on another host's disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from weave_train.launch import Launch

__all__ = ["shared_folder"]


@contextmanager
def shared_folder(folder: Path, launch: Launch) -> Iterator[Path]:
    """A folder with the first rank's files, on every rank; gone after the block where it is a copy.

    Args:
        folder: On the first rank, a few megabytes.
        launch: Rank and world size; the ranks have met.
    """
    if launch.world_size == 1:
        yield folder
        return
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if launch.is_first else []
    sent = [{str(path.relative_to(folder)): path.read_bytes() for path in files}]
    torch.distributed.broadcast_object_list(sent, src=0, device=launch.device)
    with tempfile.TemporaryDirectory(prefix="weave-train-") as scratch:
        for name, content in sent[0].items():
            copy = Path(scratch) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
        yield Path(scratch)
