"""Other captions for the same clips."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import SourceError
from weave_data.records import REJECT_SCHEMA, RejectReason

__all__ = ["MissingPolicy", "replace_captions"]

MissingPolicy = Literal["error", "original", "drop"]

_NAMES_SHOWN = 5


def replace_captions(
    clips: pa.Table, captions: pa.Table, *, missing: MissingPolicy, recipe: str | None = None
) -> tuple[pa.Table, pa.Table, int]:
    """Give every clip the caption that is listed for its id.

    Args:
        clips: CLIP_SCHEMA.
        captions: Distinct `clip_id` and their `caption`; ids of no clip are left aside.
        missing: What happens to a clip that is not listed: the build stops, it keeps its own caption,
            or it is rejected (`no_new_caption`).
        recipe: Whose rejects they are.

    Returns:
        Clips in their order, REJECT_SCHEMA of the dropped ones, and how many were not listed.

    Raises:
        SourceError: A clip is not listed and `missing` is `error`.

    Source:
        VideoWeave's cleaned and enriched captions. Differs: one policy for both splits, and counted.
    """
    rows = pc.index_in(clips["clip_id"], value_set=captions["clip_id"].combine_chunks())
    is_missing = rows.is_null()
    num_missing = rows.null_count
    found = captions["caption"].take(rows)
    if num_missing and missing == "error":
        names = clips["clip_id"].filter(is_missing).slice(0, _NAMES_SHOWN).to_pylist()
        more = f" and {num_missing - len(names)} more" if num_missing > len(names) else ""
        raise SourceError(
            f"captions.file has no caption for {num_missing} of {clips.num_rows} clips: {', '.join(names)}"
            f"{more}; add them, or set captions.missing to original or drop"
        )
    place = clips.schema.get_field_index("caption")
    replaced = clips.set_column(place, clips.schema.field(place), pc.coalesce(found, clips["caption"]))
    if missing != "drop":
        return replaced, REJECT_SCHEMA.empty_table(), num_missing
    return replaced.filter(pc.invert(is_missing)), _rejects(clips.filter(is_missing), recipe), num_missing


def _rejects(clips: pa.Table, recipe: str | None) -> pa.Table:
    """As many as there are clips, perhaps: columns, not rows."""
    constants = {
        "stage": "captions",
        "part": "",
        "recipe": recipe,
        "reason": RejectReason.NO_NEW_CAPTION.value,
        "detail": "captions.file has no caption for it; add one, or set captions.missing: original",
    }
    ordered = clips.select(["clip_id", "key"]).sort_by("clip_id")
    columns = {
        name: pa.repeat(pa.scalar(constants[name], REJECT_SCHEMA.field(name).type), ordered.num_rows)
        if name in constants
        else ordered[name]
        for name in REJECT_SCHEMA.names
    }
    return pa.table(columns, schema=REJECT_SCHEMA)
