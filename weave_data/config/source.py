"""Where the clips come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from weave_data.config.loading import StrictModel

__all__ = ["ColumnsConfig", "SourceConfig"]

_OF_EVERY_KIND = frozenset({"kind", "videos", "part_clips", "limit"})
_OF_KIND: Mapping[str, frozenset[str]] = {
    "webvid": frozenset({"catalog", "path"}),
    "folder": frozenset({"catalog", "captions", "columns"}),
    "webdataset": frozenset(),
    "manifest": frozenset({"catalog", "columns"}),
    "conversations": frozenset({"catalog", "image_to_video", "frames_per_video"}),
}
_NEEDS_CATALOG = frozenset({"webvid", "manifest", "conversations"})


class ColumnsConfig(StrictModel):
    """What the columns of a table of clips are called.

    `path` is relative to `source.videos`, or begins with it. Without `id` a clip is named after its
    file; without `media` the suffix says what is an image. `page` is what clips of one origin share.
    """

    id: str | None = None
    path: str = "path"
    caption: str = "caption"
    page: str | None = None
    licence: str | None = None
    media: str | None = None


class SourceConfig(StrictModel):
    """Clips and their captions; `kind` says how they lie.

    `webvid`: `catalog` is one CSV or Parquet file or a prefix of such partitions with the columns
    videoid and name; `path` is a template over their columns giving a video's place below `videos`; by
    default `contentUrl` when that is relative.
    `folder`: videos below `videos`, with captions from `NAME.txt` beside them, from a table (`catalog`, or
    the one CSV in the folder, with `columns`), or from their names; `captions: auto` is the first of these
    that is there.
    `webdataset`: tars below `videos` as video2dataset and img2dataset write them.
    `manifest`: JSON lines, Parquet or CSV files (`catalog`) with `columns` that name files below `videos`.

    `conversations`: JSON or JSON lines (`catalog`) of LLaVA, Video-LLaVA or VideoWeave records that name
    images, frames and videos below `videos`: samples ready made, for recipes of strategy `given`.
    `image_to_video: 2-frame` asks about pairs of images in both orders; `frames_per_video` is what records'
    `num_frames_per_video` must say, if they say it.

    `part_clips: auto` is 1024, or a sixteenth of a unit smaller than 16384.
    `limit` keeps the first clips of the catalog only (`--limit N`): a preview.
    """

    kind: Literal["webvid", "folder", "webdataset", "manifest", "conversations"] = "webvid"
    catalog: str | None = None
    videos: str
    path: str | None = None
    captions: Literal["auto", "txt", "csv", "names"] = "auto"
    columns: ColumnsConfig | None = None
    image_to_video: Literal["none", "1-frame", "2-frame"] = "none"
    frames_per_video: Annotated[int, Field(ge=1, le=1024)] | None = None
    part_clips: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    limit: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> SourceConfig:
        known = _OF_EVERY_KIND | _OF_KIND[self.kind]
        for name in sorted(self.model_fields_set - known):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is no setting of kind {self.kind} ({', '.join(sorted(known))})")
        if self.kind in _NEEDS_CATALOG and not self.catalog:
            raise ValueError(f"kind {self.kind} needs catalog: the file or folder that names the clips")
        if self.kind == "folder" and self.catalog and self.captions not in ("auto", "csv"):
            raise ValueError(f"catalog holds captions, but captions is {self.captions}; set it to csv")
        return self

    @model_serializer(mode="wrap")
    def _only_of_this_kind(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # a setting that another kind gains leaves the settings recorded for this one as they are
        known = _OF_EVERY_KIND | _OF_KIND[self.kind]
        return {name: value for name, value in write(self).items() if name in known}
