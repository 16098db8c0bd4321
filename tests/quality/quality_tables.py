"""Small catalogs with measurements, for tests of filters."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from weave_data.quality import SIMILARITY_SCHEMA
from weave_data.records import QUALITY_SCHEMA, clips_table

MEASURES = ("duration_seconds", "frame_rate", "motion", "black_fraction", "sharpness", "luma")

SIMILARITY = SIMILARITY_SCHEMA.field("caption_similarity")

rows = st.fixed_dictionaries(
    {
        "caption": st.text("ab é", max_size=5),
        "size_bytes": st.integers(1, 6),
        "media": st.sampled_from(["video", "video", "image"]),
        "sha256": st.sampled_from(["aa", "bb", "cc", "dd"]),
        "width": st.integers(1, 4),
        "height": st.integers(1, 4),
        **{name: st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5]) for name in MEASURES},
        "caption_similarity": st.sampled_from([None, 0.0, 0.1, 1.0, 2.5]),
    }
)


def clip_rows(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with ids whose order is not theirs."""
    return [{**row, "clip_id": f"c{(index * 7) % 97:02d}"} for index, row in enumerate(values)]


def make_clips(values: list[dict[str, Any]]) -> pa.Table:
    """CLIP_SCHEMA of rows."""
    ids = pa.array([row["clip_id"] for row in values], pa.string())
    return clips_table(
        {
            "clip_id": ids,
            "key": pa.array([f"{row['clip_id']}.mp4" for row in values], pa.string()),
            "caption": pa.array([row.get("caption", "a clip") for row in values], pa.string()),
            "size_bytes": pa.array([row.get("size_bytes", 9) for row in values], pa.int64()),
            "media": pa.array([row.get("media", "video") for row in values], pa.string()),
        }
    )


def make_quality(values: list[dict[str, Any]]) -> pa.Table:
    """QUALITY_SCHEMA and `caption_similarity` of rows, in the opposite order."""
    defaults = {"sha256": "", "width": 64, "height": 48, **dict.fromkeys((*MEASURES, SIMILARITY.name), 1.0)}
    schema = QUALITY_SCHEMA.append(SIMILARITY)
    plain = [{name: row.get(name, defaults.get(name)) for name in schema.names} for row in values]
    return pa.Table.from_pylist(plain[::-1], schema=schema)
