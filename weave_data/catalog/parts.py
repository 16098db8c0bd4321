"""Rows of a source's units, and a listing -> parts of clips, rejects and a count. Pure, columnar.

A part is a range of rows of one unit, so its borders depend on that unit alone: neither on which
videos are missing nor on other units. A row is, in this order: a duplicate (its id came before), or
rejected for what its unit says of it, as `empty_caption`, `missing` or `empty_file`, or a clip.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import AccountingError
from weave_data.records import REJECT_SCHEMA, RejectReason, StageCount, clips_table
from weave_data.tables import sha256_hex

__all__ = ["LEADS_OUT", "STAGE", "CutCatalog", "cut_catalog", "is_first", "part_rows", "unit_stems"]

STAGE = "catalog"

LEADS_OUT = r"^/|(^|/)\.\.(/|$)|\\"
"""Keys that would leave the root they are relative to."""

_DUPLICATE = "duplicate"
_GIVEN = "given"
_OUTCOMES = (
    # outcome, reason, detail; a detail says nothing about where the source lies
    ("clip", None, ""),
    (_DUPLICATE, None, ""),
    (_GIVEN, None, ""),  # reason and detail are the row's own
    ("no_id", RejectReason.MISSING, "{id_column} is empty"),
    ("bad_id", RejectReason.BAD_RECORD, "{id_column} is no name: it leads out of a folder"),
    ("no_caption", RejectReason.EMPTY_CAPTION, "{caption_column} is empty or blank"),
    ("outside", RejectReason.MISSING, "the key leads out of source.videos"),
    ("unlisted", RejectReason.MISSING, "not in the listing of source.videos"),
    ("empty", RejectReason.EMPTY_FILE, "0 bytes"),
)
_CODES = {outcome: code for code, (outcome, _, _) in enumerate(_OUTCOMES)}
_NOT_FOUND = -1


@dataclass(frozen=True)
class CutCatalog:
    """A catalog before it is written.

    Attributes:
        parts: (name, `CLIP_SCHEMA` rows) in catalog order; no part is empty.
        rejects: `REJECT_SCHEMA`, by part and clip id.
        listed: key, size_bytes of the catalog's videos that are there, in catalog order.
        count: Balanced.
        samples: `SAMPLE_SCHEMA`, when the source gives samples ready made.
        num_unused: Conversations of used records beyond their first, which nothing uses.
    """

    parts: tuple[tuple[str, pa.Table], ...]
    rejects: pa.Table
    listed: pa.Table
    count: StageCount
    samples: pa.Table | None = None
    num_unused: int = 0


def part_rows(num_rows: int, part_clips: int | Literal["auto"]) -> int:
    """Rows of a unit's parts: 1024, or a sixteenth of a small unit, unless a number is given."""
    return max(1, min(1024, -(-num_rows // 16))) if part_clips == "auto" else part_clips


def unit_stems(names: Sequence[str]) -> list[str]:
    """Names of units as prefixes of part names: path-safe and unique, readable where possible."""
    plain = [str(PurePosixPath(name).with_suffix("")) for name in names]
    safe = [re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".")[:80] for stem in plain]
    repeated = Counter(safe)
    return [
        stem if stem == given and repeated[stem] == 1 else f"{stem}-{sha256_hex(name.encode())[:8]}"
        for stem, given, name in zip(safe, plain, names, strict=True)
    ]


def cut_catalog(
    units: Sequence[tuple[str, pa.Table]],
    listing: pa.Table | None,
    *,
    part_clips: int | Literal["auto"],
    id_column: str = "id",
    caption_column: str = "caption",
) -> CutCatalog:
    """Decide what every row is and cut the clips into parts.

    Args:
        units: (name, rows) in catalog order, all with the same columns: clip_id, key, caption, any
            others of `CLIP_SCHEMA`, and reason, detail (null: nothing is wrong) where the unit already
            says what is to be refused.
        listing: `LISTING_SCHEMA`; None when the rows hold size_bytes themselves, -1 for no such file.
        part_clips: Rows per part, or `auto`.
        id_column: What the source calls the id, for details.
        caption_column: What it calls the caption.

    Raises:
        AccountingError: A row was lost or invented.
    """
    rows = pa.concat_tables([table for _, table in units])
    if listing is not None:
        rows = rows.append_column("size_bytes", pa.array(_sizes(rows["key"], listing)))
    size_bytes = rows["size_bytes"].to_numpy()
    outcome = _outcomes(rows, size_bytes)
    ranges = _part_ranges([(name, len(table)) for name, table in units], part_clips)
    parts = []
    for name, start, stop in ranges:
        kept = rows.slice(start, stop - start).filter(pa.array(outcome[start:stop] == _CODES["clip"]))
        if len(kept):
            parts.append((name, clips_table(kept)))
    present = rows.filter(pa.array((outcome != _CODES[_DUPLICATE]) & (size_bytes != _NOT_FOUND)))
    rejects = _rejects(rows, outcome, ranges, {"id_column": id_column, "caption_column": caption_column})
    return CutCatalog(
        parts=tuple(parts),
        rejects=rejects,
        listed=present.select(["key", "size_bytes"]),
        count=_count(outcome, rejects, sum(len(table) for _, table in parts)),
    )


def _sizes(keys: pa.ChunkedArray, listing: pa.Table) -> npt.NDArray[np.int64]:
    """int64[rows]: listed size of each key, -1 where it is not listed."""
    index = pc.index_in(keys, value_set=listing["key"])
    return np.asarray(pc.fill_null(listing["size_bytes"].take(index), _NOT_FOUND).to_numpy())


def _outcomes(rows: pa.Table, size_bytes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64[rows]: index into `_OUTCOMES`."""
    is_given = np.zeros(len(rows), dtype=bool)
    if "reason" in rows.column_names:
        is_given = pc.is_valid(rows["reason"]).to_numpy()
    return np.select(
        [
            ~is_first(rows["clip_id"]),
            is_given,
            pc.equal(rows["clip_id"], "").to_numpy(),
            pc.match_substring_regex(rows["clip_id"], LEADS_OUT).to_numpy(),
            pc.equal(pc.utf8_trim_whitespace(rows["caption"]), "").to_numpy(),
            pc.match_substring_regex(rows["key"], LEADS_OUT).to_numpy(),
            size_bytes == _NOT_FOUND,
            size_bytes == 0,
        ],
        [
            _CODES[name]
            for name in (_DUPLICATE, _GIVEN, "no_id", "bad_id", "no_caption", "outside", "unlisted", "empty")
        ],
        default=_CODES["clip"],
    )


def is_first(clip_ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """bool[rows]: no earlier row has this id."""
    numbered = pa.table({"clip_id": clip_ids, "row": np.arange(len(clip_ids))})
    first = numbered.group_by("clip_id").aggregate([("row", "min")])["row_min"].to_numpy()
    found = np.zeros(len(clip_ids), dtype=bool)
    found[first] = True
    return found


def _part_ranges(
    units: Sequence[tuple[str, int]], part_clips: int | Literal["auto"]
) -> list[tuple[str, int, int]]:
    """(part name, start, stop) over the rows of all units."""
    ranges, offset = [], 0
    for stem, (_, num_rows) in zip(unit_stems([name for name, _ in units]), units, strict=True):
        size = part_rows(num_rows, part_clips)
        for index, start in enumerate(range(0, num_rows, size)):
            stop = min(start + size, num_rows)
            ranges.append((f"{stem}-{index:05d}", offset + start, offset + stop))
        offset += num_rows
    return ranges


def _rejects(
    rows: pa.Table,
    outcome: npt.NDArray[np.int64],
    ranges: list[tuple[str, int, int]],
    names: dict[str, str],
) -> pa.Table:
    rejected = np.flatnonzero(outcome > _CODES[_DUPLICATE])
    part_index = np.searchsorted([stop for _, _, stop in ranges], rejected, side="right")
    codes = pa.array(outcome[rejected])
    table = rows.take(pa.array(rejected))
    reasons = pa.array([reason.value if reason else None for _, reason, _ in _OUTCOMES], pa.string())
    details = pa.array([detail.format(**names) for _, _, detail in _OUTCOMES])
    reason, detail = reasons.take(codes), details.take(codes)
    if "reason" in rows.column_names:
        is_given = pc.equal(codes, _CODES[_GIVEN])
        reason = pc.if_else(is_given, table["reason"], reason)
        detail = pc.if_else(is_given, table["detail"], detail)
    columns = {
        "stage": pa.repeat(STAGE, len(table)),
        "part": pa.array([name for name, _, _ in ranges], pa.string()).take(pa.array(part_index)),
        "recipe": pa.nulls(len(table), pa.string()),
        "clip_id": table["clip_id"],
        "key": table["key"],
        "reason": reason,
        "detail": detail,
    }
    ordered = pa.table(columns).sort_by(
        [("part", "ascending"), ("clip_id", "ascending"), ("key", "ascending")]
    )
    return ordered.cast(REJECT_SCHEMA)


def _count(outcome: npt.NDArray[np.int64], rejects: pa.Table, num_out: int) -> StageCount:
    """Account for every row; `num_out` is counted in the parts themselves."""
    rejected = Counter(rejects["reason"].to_pylist())
    count = StageCount(
        stage=STAGE,
        num_in=len(outcome),
        num_out=num_out,
        rejected=dict(sorted(rejected.items())),
        duplicates=int((outcome == _CODES[_DUPLICATE]).sum()),
    )
    if not count.is_balanced:
        raise AccountingError(f"catalog: rows don't add up: {count.to_json()}; please report this")
    return count
