"""What exported pictures are called, and their pixels as PNG."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from weave_data.decode.frame_tar import member_name
from weave_data.errors import VerificationError
from weave_data.shard import image_format, load_image
from weave_data.storage import Store, commit_exact

__all__ = ["FolderNames", "clip_folder", "committing", "suffix_of", "to_png"]

_THREADS = 8

_SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif"}


@contextmanager
def committing(target: Store) -> Iterator[Callable[[Mapping[str, bytes]], None]]:
    """Give a function that commits files, a few at once, and returns when they are there."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="export") as pool:

        def commit(files: Mapping[str, bytes]) -> None:
            list(pool.map(partial(commit_exact, target), files.keys(), files.values()))

        yield commit


def clip_folder(clip_id: str) -> str:
    """Folder of a clip's frames: its id, percent-encoded where a file system would mind: `a/b` -> `a%2Fb`."""
    return member_name(clip_id, 0).partition("/")[0]


def suffix_of(data: bytes, *, name: str) -> str:
    """`jpg`, `png`, `webp` or `gif`.

    Raises:
        VerificationError: It is none of them.
    """
    found = image_format(data)
    if found is None:
        raise VerificationError(f"{name}: no JPEG, PNG, WebP or GIF; run weave-data verify on the data set")
    return _SUFFIXES[found]


def to_png(data: bytes, *, name: str) -> bytes:
    """A picture as PNG: the stored bytes when they are PNG, else its decoded RGB pixels.

    Raises:
        VerificationError: It can't be decoded.
    """
    if image_format(data) == "png":
        return data
    try:
        image = load_image(data)
    except ValueError as error:
        raise VerificationError(
            f"{name}: can't be decoded ({error}); run weave-data verify on the data set"
        ) from error
    sink = io.BytesIO()
    image.convert("RGB").save(sink, "PNG", compress_level=1)  # a third of the default's time
    return sink.getvalue()


class FolderNames:
    """One folder for each set of frames that is taken of a clip.

    Frames are called by their place (`0000.png`, `0001.png`, ...), as VideoWeave does, so two sets of one
    clip need two folders. The first set in reading order has the clip's own name; any other has the clip's
    name, `~` and 8 digits that its indices give: `~` occurs in no clip's own name before them.
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._others: set[str] = set()

    def add(self, clip_id: str, frame_index: Sequence[int]) -> tuple[str, bool]:
        """Folder of some frames of a clip, and whether they are met for the first time."""
        digest = hashlib.sha256(",".join(map(str, frame_index)).encode()).hexdigest()[:8]
        folder = clip_folder(clip_id)
        first = self._first.setdefault(clip_id, "")
        if first in ("", digest):
            self._first[clip_id] = digest
            return folder, not first
        other = f"{folder}~{digest}"
        is_new = other not in self._others
        self._others.add(other)
        return other, is_new
