"""What a file is by its suffix, and ids made of keys."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.tables import sha256_hex

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "ids_of_keys", "is_image", "is_video", "media_of", "stems_of"]

VIDEO_SUFFIXES = (
    "mp4", "webm", "mkv", "mov", "avi", "m4v", "mpg", "mpeg", "ogv", "wmv", "flv", "3gp", "ts"
)  # fmt: skip
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif")

_MAX_ID_CHARACTERS = 60  # with the longest characters still a file name on every file system


def is_video(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """bool[rows]: the suffix is a video's."""
    return _ends_with(keys, VIDEO_SUFFIXES)


def is_image(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """bool[rows]: the suffix is an image's."""
    return _ends_with(keys, IMAGE_SUFFIXES)


def media_of(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """string[rows]: `image` by suffix, `video` for everything else: decoding finds out what it is."""
    return pc.if_else(is_image(keys), "image", "video")


def stems_of(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Keys without the suffix of their last component: `a.b/c.d.mp4` -> `a.b/c.d`."""
    return pc.replace_substring_regex(keys, r"\.[^./]*$", "")


def ids_of_keys(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Clip ids of files that have no other: their key without suffix, safe as a file's name, unique.

    Letters and digits of any alphabet, `.`, `_` and `-` stay, anything else becomes `_`. Keys that
    would share an id (`a/b.mp4`, `a_b.mp4`, `a_b.webm`) get 8 hex digits of their sha256 each.
    """
    files = keys.unique()  # rows may name one file twice: that is one id
    names = pc.replace_substring_regex(stems_of(files), r"[^\pL\pN._-]+", "_")
    names = pc.utf8_slice_codeunits(pc.utf8_ltrim(names, "."), 0, _MAX_ID_CHARACTERS)
    counts = pc.value_counts(names)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    is_taken = pc.or_(pc.is_in(names, value_set=repeated), pc.equal(names, ""))
    sums = [sha256_hex(key.encode())[:8] for key in files.filter(is_taken).to_pylist()]
    unique = pc.binary_join_element_wise(names.filter(is_taken), pa.array(sums, pa.string()), "-")
    ids = pc.replace_with_mask(names, is_taken, unique)
    return ids.take(pc.index_in(keys, value_set=files))


def _ends_with(keys: pa.ChunkedArray, suffixes: tuple[str, ...]) -> pa.ChunkedArray:
    return pc.match_substring_regex(keys, rf"\.({'|'.join(suffixes)})$", ignore_case=True)
