"""The media that records name: distinct ones in order of first mention, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.parts import LEADS_OUT
from weave_data.records import RejectReason

__all__ = ["MEDIA_PROBLEMS", "Media", "gather_media", "media_problems"]

MEDIA_PROBLEMS = (
    (RejectReason.MISSING, "the key leads out of source.videos"),
    (RejectReason.MISSING, "not in the listing of source.videos"),
    (RejectReason.EMPTY_FILE, "0 bytes"),
    (RejectReason.BAD_RECORD, "one file as image and as video"),
)
"""Reason and detail; `media_problems` gives positions."""

_OUTSIDE, _MISSING, _EMPTY, _MIXED = range(4)
_FINE = -1
_NOT_FOUND = -1
_LEADS_OUT = LEADS_OUT + r"|^[A-Za-z][A-Za-z0-9+.-]*://"


@dataclass(frozen=True)
class Media:
    """References of n records to m distinct media.

    Attributes:
        keys: string[m], in order of first mention.
        size_bytes: int64[m] as listed; -1: not listed.
        leads_out: bool[m]: the key is no place below the root.
        first: int64[m]: the record that names it first.
        owner: int64[r], ascending: the record of each reference.
        medium: int64[r], into `keys`.
        is_video: bool[r]: what the record says it is.
    """

    keys: pa.ChunkedArray
    size_bytes: npt.NDArray[np.int64]
    leads_out: npt.NDArray[np.bool_]
    first: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    medium: npt.NDArray[np.int64]
    is_video: npt.NDArray[np.bool_]


def gather_media(records: pa.Table, listing: pa.Table) -> Media:
    """Find the distinct media of some records.

    Args:
        records: `keys` and `num_videos` of RECORD_SCHEMA.
        listing: `LISTING_SCHEMA`.
    """
    sizes = pc.list_value_length(records["keys"]).to_numpy().astype(np.int64)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    named = pc.list_flatten(records["keys"])
    keys = pc.unique(named)  # in order of first appearance
    medium = pc.index_in(named, value_set=keys).to_numpy().astype(np.int64)
    _, first = np.unique(medium, return_index=True)
    listed = pc.index_in(keys, value_set=listing["key"])
    return Media(
        keys=pa.chunked_array([keys]),
        size_bytes=pc.fill_null(listing["size_bytes"].take(listed), _NOT_FOUND).to_numpy(),
        leads_out=pc.match_substring_regex(keys, _LEADS_OUT).to_numpy(zero_copy_only=False),
        first=owner[first],
        owner=owner,
        medium=medium,
        is_video=position < records["num_videos"].to_numpy()[owner],
    )


def media_problems(media: Media, num_records: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Say which records can't be used for their media.

    Args:
        media: As `gather_media` gives it.
        num_records: n.

    Returns:
        int8[n]: position in `MEDIA_PROBLEMS` or -1; int64[n]: the medium it is about. A record's first
        problem in its own order counts. Of records that disagree whether a file is an image
        or a video, those that agree with the first usable one stay.
    """
    of_medium = np.select(
        [media.leads_out, media.size_bytes == _NOT_FOUND, media.size_bytes == 0],
        [_OUTSIDE, _MISSING, _EMPTY],
        default=_FINE,
    )
    problems = np.full(num_records, _FINE, dtype=np.int8)
    about = np.zeros(num_records, dtype=np.int64)
    codes = of_medium[media.medium]
    _mark(problems, about, media, np.flatnonzero(codes != _FINE), codes)
    usable = np.flatnonzero(problems[media.owner] == _FINE)
    mediums, first = np.unique(media.medium[usable], return_index=True)
    is_video = np.zeros(len(media.size_bytes), dtype=bool)
    is_video[mediums] = media.is_video[usable[first]]
    mixed = usable[media.is_video[usable] != is_video[media.medium[usable]]]
    _mark(problems, about, media, mixed, np.full(len(codes), _MIXED))
    return problems, about


def _mark(
    problems: npt.NDArray[np.int8],
    about: npt.NDArray[np.int64],
    media: Media,
    references: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
) -> None:
    """Note the first of these references of each record."""
    records, first = np.unique(media.owner[references], return_index=True)
    problems[records] = codes[references[first]]
    about[records] = media.medium[references[first]]
