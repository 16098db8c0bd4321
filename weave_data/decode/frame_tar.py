"""A deterministic tar of frames, written to a scratch file: same frames, same bytes.

Members are `<clip_id>/<frame_index:06d>.jpg` (or `.png`; images keep their own format), ustar, mode
0644, no owner, no time. Clip ids are percent-encoded outside letters, digits, `_`, `-` and inner dots,
so any id is one safe folder name.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from urllib.parse import quote

__all__ = ["FrameTarWriter", "member_name"]

_BLOCK_BYTES = 512
_MAX_FOLDER_BYTES = 140  # ustar's prefix holds 155


def member_name(clip_id: str, frame_index: int, suffix: str = "jpg") -> str:
    """Name of one frame in the tar: `a/b.1`, 7 -> `a%2Fb.1/000007.jpg`."""
    folder = quote(clip_id, safe="").replace("~", "%7E")
    if folder.startswith("."):
        folder = "%2E" + folder[1:]
    if len(folder) > _MAX_FOLDER_BYTES:  # `~` occurs in no other name
        folder = f"{folder[:64].rstrip('%')}~{hashlib.sha256(clip_id.encode()).hexdigest()[:32]}"
    return f"{folder}/{frame_index:06d}.{suffix}"


class FrameTarWriter:
    """Appends frames to a new tar file and knows where each one lies.

    Attributes:
        path: The file; complete after `close`.
        num_bytes: Its length so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_bytes = 0
        self._digest = hashlib.sha256()
        self._file = path.open("wb")

    def add(self, name: str, data: bytes) -> int:
        """Append one member; returns the offset of its first data byte."""
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mode = 0o644
        self._write(header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        offset = self.num_bytes
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK_BYTES))
        return offset

    def close(self) -> str:
        """End the archive; returns its sha256."""
        self._write(bytes(2 * _BLOCK_BYTES))
        self._file.close()
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.num_bytes += len(data)
