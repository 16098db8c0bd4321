"""Configurations of small builds over the rendered world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weave_data.config import BuildConfig

NUM_CLIPS = 26

MakeConfig = Callable[..., BuildConfig]


def settings(source: str, output: str) -> dict[str, Any]:
    """Two recipes over a rendered world."""
    return {
        "source": {
            "kind": "webvid",
            "catalog": f"{source}/clips.csv",
            "videos": f"{source}/videos",
            "part_clips": 7,
        },
        "frames": {"short_side_px": 64},
        "embedding": {"model": "none", "frames_per_clip": 2},
        "recipes": [
            {
                "name": "l1",
                "strategy": "single",
                "frames_per_sample": 4,
                "shard_rows": 16,
                "row_group_rows": 4,
            },
            {
                "name": "l4",
                "strategy": "clustered",
                "clips_per_sample": 4,
                "frames_per_sample": 8,
                "shard_rows": 4,
                "row_group_rows": 2,
            },
        ],
        "output": output,
        "execution": {"in_process": True},
    }
