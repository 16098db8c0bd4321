"""Where the clips come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from weave_data.config.loading import StrictModel

__all__ = ["SourceConfig"]


class SourceConfig(StrictModel):
    """WebVid-style clips: a CSV catalog and the videos it names.

    `catalog` is one CSV file or a prefix of CSV partitions. `path` is a template over the CSV's
    columns giving a video's place below `videos`; by default `contentUrl` when that is relative.
    `part_clips: auto` is 1024, or a sixteenth of a unit smaller than 16384.
    `limit` keeps the first clips of the catalog only (`--limit N`): a preview.
    """

    kind: Literal["webvid"] = "webvid"
    catalog: str
    videos: str
    path: str | None = None
    part_clips: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    limit: Annotated[int, Field(ge=1)] | None = None
