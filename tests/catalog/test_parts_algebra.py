"""Cutting against a plain per-row reference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.catalog.listing import LISTING_SCHEMA
from weave_data.catalog.parts import cut_catalog, part_rows

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b", "c", "d"]),
        st.sampled_from("uvwxyz"),
        st.sampled_from(["", " ", "cap"]),
    ),
    max_size=12,
)
UNITS = st.lists(ROWS, min_size=1, max_size=3).filter(any)
LISTING = st.dictionaries(st.sampled_from("uvwxyz"), st.integers(0, 2))


def table(rows):
    names = ("clip_id", "key", "caption")
    return pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)})


def reference(units, listing, part_clips):
    """One row at a time: {part: clips}, [(part, id, reason)], duplicates."""
    seen, parts, rejects, duplicates = set(), {}, [], 0
    for unit, rows in enumerate(units):
        for index, (clip_id, key, caption) in enumerate(rows):
            part = f"u{unit}-{index // part_rows(len(rows), part_clips):05d}"
            if clip_id in seen:
                duplicates += 1
                continue
            seen.add(clip_id)
            if not clip_id:
                rejects.append((part, clip_id, "missing"))
            elif not caption.strip():
                rejects.append((part, clip_id, "empty_caption"))
            elif key not in listing:
                rejects.append((part, clip_id, "missing"))
            elif listing[key] == 0:
                rejects.append((part, clip_id, "empty_file"))
            else:
                parts.setdefault(part, []).append((clip_id, key, caption, listing[key]))
    return parts, sorted(rejects), duplicates


@settings(max_examples=80, deadline=None)
@given(units=UNITS, listing=LISTING, part_clips=st.sampled_from(["auto", 1, 3, 100]))
def test_cutting_equals_a_loop_over_rows(units, listing, part_clips):
    listed = pa.table([sorted(listing), [listing[key] for key in sorted(listing)]], schema=LISTING_SCHEMA)
    named = [(f"u{index}.csv", table(rows)) for index, rows in enumerate(units)]
    cut = cut_catalog(named, listed, part_clips=part_clips)
    parts, rejects, duplicates = reference(units, listing, part_clips)
    found = {name: [tuple(clip.values())[:4] for clip in clips.to_pylist()] for name, clips in cut.parts}
    assert found == parts
    assert [(item["part"], item["clip_id"], item["reason"]) for item in cut.rejects.to_pylist()] == rejects
    assert cut.count.duplicates == duplicates
    assert cut.count.is_balanced
    assert cut.count.num_in == sum(len(rows) for rows in units)


def test_a_hundred_thousand_rows_are_cut_in_columns():
    count = 100_000
    ids = pa.array(np.char.mod("%07d", np.arange(count)))
    rows = pa.table({"clip_id": ids, "key": ids, "caption": pa.repeat("a caption", count)})
    listing = pa.table([ids, pa.array(np.full(count, 5))], schema=LISTING_SCHEMA)
    cut = cut_catalog([("all.csv", rows)], listing, part_clips="auto")
    assert [len(clips) for _, clips in cut.parts] == [1024] * 97 + [672]
    assert cut.count.num_out == count
