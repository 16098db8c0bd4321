"""The nouns: Arrow schemas first, frozen dataclasses as views of one row.

    Clip         one captioned video of the source                    catalog/<key>/<part>.parquet
    Part         consecutive clips of one source unit, cut once       catalog/<key>/catalog.json
    FrameEntry   where a clip's stored frames lie in a part's tar     frames/<key>/<xx>/<part>/<layer>.parquet
    Reject       one clip that a stage refused, with a typed reason   rejects/<key>.parquet
    Group        exactly L clips that will share a sample             groups/<key>.parquet
    Sample       one sample that a source gives ready made            catalog/<key>/samples.parquet
    PlanRow      one woven sample before any pixel is touched         plans/<key>.parquet
    WovenSample  one row of a shard (schema v1)                       <recipe>/<fingerprint>/<split>/...

Tables stay columnar: a per-row Python loop over a catalog or a plan is a bug. The dataclasses are
for tests, messages and `inspect`.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

__all__ = [
    "CLIP_DEFAULTS",
    "CLIP_SCHEMA",
    "CONTENT_REASONS",
    "EMBEDDING_COLUMNS",
    "FRAME_SCHEMA",
    "GROUP_SCHEMA",
    "PLAN_SCHEMA",
    "QUALITY_SCHEMA",
    "REJECT_SCHEMA",
    "RESERVED_NAMES",
    "SAMPLE_SCHEMA",
    "SCHEMA_VERSION",
    "WOVEN_SCHEMA",
    "Clip",
    "Part",
    "RejectReason",
    "StageCount",
    "Turn",
    "WovenClip",
    "WovenSample",
    "canonical_json",
    "clips_table",
    "content_key",
    "embedding_schema",
    "rejects_table",
]

SCHEMA_VERSION = 1
"""Version of the woven shard and of every intermediate file; part of every stage key."""

RESERVED_NAMES = frozenset(
    {
        "audits",
        "card.md",
        "catalog",
        "duplicates",
        "embeddings",
        "enrich",
        "frames",
        "groups",
        "manifests",
        "plans",
        "rejects",
        "removed",
        "report.html",
        "retries",
        "runs",
        "similarities",
    }
)
"""Names beside the recipes in an output; a recipe may not take them."""


class RejectReason(str, enum.Enum):
    """Why a clip was refused. Content reasons are functions of the bytes and are committed;
    circumstance reasons are retried and, if they persist, leave the part uncommitted.
    """

    EMPTY_CAPTION = "empty_caption"
    MISSING = "missing"
    EMPTY_FILE = "empty_file"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    TRUNCATED = "truncated"
    NO_FRAMES = "no_frames"
    CORRUPT = "corrupt"
    NOT_AN_IMAGE = "not_an_image"
    TOO_SHORT = "too_short"
    NO_NEW_CAPTION = "no_new_caption"
    CLIP_REJECTED = "clip_rejected"
    BAD_RECORD = "bad_record"
    BAD_TURNS = "bad_turns"

    TIMEOUT = "timeout"
    KILLED = "killed"
    STORE_ERROR = "store_error"
    SOURCE_CHANGED = "source_changed"


CONTENT_REASONS = frozenset(
    {
        RejectReason.EMPTY_CAPTION,
        RejectReason.MISSING,
        RejectReason.EMPTY_FILE,
        RejectReason.NOT_A_VIDEO,
        RejectReason.NO_VIDEO_STREAM,
        RejectReason.TRUNCATED,
        RejectReason.NO_FRAMES,
        RejectReason.CORRUPT,
        RejectReason.NOT_AN_IMAGE,
        RejectReason.TOO_SHORT,
        RejectReason.NO_NEW_CAPTION,
        RejectReason.BAD_RECORD,
        RejectReason.BAD_TURNS,
        RejectReason.CLIP_REJECTED,
    }
)


def _required(name: str, data_type: pa.DataType) -> pa.Field:
    return pa.field(name, data_type, nullable=False)


def _list_of(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", item, nullable=False))


CLIP_SCHEMA = pa.schema(
    [
        _required("clip_id", pa.string()),
        _required("key", pa.string()),  # relative to the source root
        _required("caption", pa.string()),
        _required("size_bytes", pa.int64()),
        _required("offset", pa.int64()),  # first byte in the tar that `key` begins with; -1: the whole object
        _required("media", pa.string()),  # `video` or `image`
        _required("page", pa.string()),  # source page, uploader or folder; "": not known
        _required("licence", pa.string()),  # as the source gives it; "": not given
    ]
)
"""`key` of a clip inside a tar is `<key of the tar>/<member>`; the tar's key ends at the first `.tar/`."""

CLIP_DEFAULTS: Mapping[str, Any] = {"offset": -1, "media": "video", "page": "", "licence": ""}
"""Columns of CLIP_SCHEMA that most sources do not know, and what they hold then."""

FRAME_SCHEMA = pa.schema(
    [
        _required("clip_id", pa.string()),
        _required("source_frames", pa.int32()),  # n: frames a full decode presents
        _required("source_seconds", pa.float32()),  # presentation time of the last frame minus the first
        _required("width", pa.int32()),  # of the stored frames, px
        _required("height", pa.int32()),
        _required("frame_index", _list_of(pa.int32())),  # in stored order
        _required("frame_seconds", _list_of(pa.float32())),  # presentation time, same order
        _required("frame_offset", _list_of(pa.int64())),  # of the frame's first byte in the tar
        _required("frame_bytes", _list_of(pa.int32())),
    ]
)

QUALITY_SCHEMA = pa.schema(
    [
        _required("clip_id", pa.string()),
        _required("sha256", pa.string()),  # of the bytes in the source
        _required("duration_seconds", pa.float32()),  # 0: one picture
        _required("frame_rate", pa.float32()),  # mean, frames per second; 0: one picture
        _required("width", pa.int32()),  # of the source as it is shown, px
        _required("height", pa.int32()),
        _required("motion", pa.float32()),  # 0..1, the rules are in decode/measures.py
        _required("black_fraction", pa.float32()),
        _required("sharpness", pa.float32()),
        _required("luma", pa.float32()),
    ]
)
"""What decoding measures of a clip once, whatever frames are asked for."""

REJECT_SCHEMA = pa.schema(
    [
        _required("stage", pa.string()),
        _required("part", pa.string()),
        pa.field("recipe", pa.string()),  # null: every recipe of the build
        _required("clip_id", pa.string()),
        _required("key", pa.string()),
        _required("reason", pa.string()),
        _required("detail", pa.string()),
    ]
)

EMBEDDING_COLUMNS = ("clip_id", "vector")


def embedding_schema(dim: int) -> pa.Schema:
    """Schema of one part's vectors: unit length, stored as float16[dim]."""
    return pa.schema([_required("clip_id", pa.string()), _required("vector", pa.list_(pa.float16(), dim))])


GROUP_SCHEMA = pa.schema(
    [
        _required("group_index", pa.int64()),
        _required("slot", pa.int16()),  # position of the clip within its group, 0..L-1
        _required("clip_id", pa.string()),
        _required("cluster_id", pa.int32()),  # -1: not clustered
        _required("split", pa.string()),
    ]
)

_TURN = pa.struct([_required("from", pa.string()), _required("value", pa.string())])
_WOVEN_CLIP = pa.struct(
    [
        _required("clip_id", pa.string()),
        _required("key", pa.string()),
        _required("caption", pa.string()),
        _required("cluster_id", pa.int32()),
        _required("num_frames", pa.int32()),
    ]
)
SAMPLE_SCHEMA = pa.schema(
    [
        _required("sample_key", pa.string()),  # the record's own id, made unique within the source
        _required("clip_ids", _list_of(pa.string())),  # none for text only
        _required("conversations", _list_of(_TURN)),
        pa.field("record_id", pa.string()),  # as the record has it; null: made here (questions)
    ]
)
"""Samples a source gives ready made (LLaVA, Video-LLaVA and VideoWeave records, questions)."""

_LABEL = pa.dictionary(pa.int32(), pa.string())

PLAN_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("frame_clip", _list_of(pa.int16())),
        _required("frame_index", _list_of(pa.int32())),
        _required("clips", _list_of(_WOVEN_CLIP)),
        _required("conversations", _list_of(_TURN)),
        _required("recipe", pa.string()),
        _required("strategy", pa.string()),
        _required("split", pa.string()),
        _required("epoch", pa.int32()),
        _required("num_frames", pa.int32()),
        _required("text_bytes", pa.int32()),
        pa.field("record_id", pa.string()),  # of a sample that a source gives; exports use it as id
    ]
)
"""Rows lie in shard order: split (train before val), epoch, then the keyed permutation."""

WOVEN_SCHEMA = pa.schema(
    [
        _required("sample_id", pa.string()),
        _required("frames", _list_of(pa.binary())),
        _required("frame_clip", _list_of(pa.int16())),
        _required("frame_index", _list_of(pa.int32())),
        _required("frame_seconds", _list_of(pa.float32())),
        _required("clips", _list_of(_WOVEN_CLIP)),
        _required("conversations", _list_of(_TURN)),
        _required("recipe", _LABEL),
        _required("strategy", _LABEL),
        _required("split", _LABEL),
        _required("epoch", pa.int32()),
        _required("num_frames", pa.int32()),
        _required("width", pa.int32()),
        _required("height", pa.int32()),
        _required("text_bytes", pa.int32()),
    ],
    metadata={"weave_schema": str(SCHEMA_VERSION)},
)


@dataclass(frozen=True)
class Clip:
    """One captioned video or image. `key` is relative to the source root; `size_bytes` as listed."""

    clip_id: str
    key: str
    caption: str
    size_bytes: int
    offset: int = -1
    media: str = "video"
    page: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Part:
    """Consecutive clips of one source unit; `sha256` is of its committed catalog file."""

    name: str
    num_clips: int
    sha256: str


@dataclass(frozen=True)
class Turn:
    """One conversation turn as VideoWeave and LLaVA write it; `speaker` is `human` or `gpt`."""

    speaker: str
    value: str


@dataclass(frozen=True)
class WovenClip:
    """Provenance of one clip within a woven sample."""

    clip_id: str
    key: str
    caption: str
    cluster_id: int
    num_frames: int


@dataclass(frozen=True)
class WovenSample:
    """One row of a shard. `frames` are JPEG, PNG, WebP or GIF bytes, all of clip 1, then clip 2, ...

    `record_id` is no column of a shard: exports take it from the plan.
    """

    sample_id: str
    frames: tuple[bytes, ...] = field(repr=False)
    frame_clip: tuple[int, ...]
    frame_index: tuple[int, ...]
    frame_seconds: tuple[float, ...]
    clips: tuple[WovenClip, ...]
    conversations: tuple[Turn, ...]
    recipe: str
    strategy: str
    split: str
    epoch: int
    num_frames: int
    width: int
    height: int
    text_bytes: int
    record_id: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> WovenSample:
        """Build the view from one row of `Table.to_pylist()`."""
        values = dict(row)
        values["clips"] = tuple(WovenClip(**clip) for clip in row["clips"])
        values["conversations"] = tuple(Turn(turn["from"], turn["value"]) for turn in row["conversations"])
        for name in ("frames", "frame_clip", "frame_index", "frame_seconds"):
            values[name] = tuple(row[name])
        return cls(**values)


@dataclass(frozen=True)
class StageCount:
    """Accounting of one stage over one part (or in total): what went in must come out somewhere."""

    stage: str
    num_in: int
    num_out: int
    filtered: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0

    @property
    def is_balanced(self) -> bool:
        """True when in = out + filtered + rejected + duplicates."""
        lost = sum(self.filtered.values()) + sum(self.rejected.values()) + self.duplicates
        return self.num_in == self.num_out + lost

    def __add__(self, other: StageCount) -> StageCount:
        def merge(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
            return {reason: a.get(reason, 0) + b.get(reason, 0) for reason in sorted({*a, *b})}

        return StageCount(
            stage=self.stage,
            num_in=self.num_in + other.num_in,
            num_out=self.num_out + other.num_out,
            filtered=merge(self.filtered, other.filtered),
            rejected=merge(self.rejected, other.rejected),
            duplicates=self.duplicates + other.duplicates,
        )

    def without(self, filtered: Mapping[str, int], *, epoch: int = 0) -> StageCount:
        """The same, with more filtered out; stage labelled with the epoch when it is not the first."""
        more = {reason: number for reason, number in filtered.items() if number}
        return StageCount(
            stage=self.stage + (f" epoch {epoch}" if epoch else ""),
            num_in=self.num_in,
            num_out=self.num_out - sum(more.values()),
            filtered={**self.filtered, **more},
            rejected=self.rejected,
            duplicates=self.duplicates,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain dict with sorted reasons, for manifests and cards."""
        return {
            "stage": self.stage,
            "in": self.num_in,
            "out": self.num_out,
            "filtered": dict(sorted(self.filtered.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "duplicates": self.duplicates,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StageCount:
        """Inverse of `to_json`."""
        return cls(
            values["stage"],
            values["in"],
            values["out"],
            values["filtered"],
            values["rejected"],
            values["duplicates"],
        )


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def content_key(stage: str, **inputs: Any) -> str:
    """Stage key: 32 hex digits of sha256 over stage, schema version and inputs.

    Pass only what changes the stage's bytes: no path, root, credential, host, clock or worker count.
    """
    return hashlib.sha256(
        canonical_json({"stage": stage, "schema": SCHEMA_VERSION, "inputs": inputs})
    ).hexdigest()[:32]


def clips_table(columns: pa.Table | Mapping[str, Any]) -> pa.Table:
    """Table of CLIP_SCHEMA from some of its columns; the others get `CLIP_DEFAULTS`.

    Args:
        columns: clip_id, key, caption, size_bytes and any others of the schema; more are dropped.
    """
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    for name, value in CLIP_DEFAULTS.items():
        if name not in table.column_names:
            constant = pa.repeat(pa.scalar(value, CLIP_SCHEMA.field(name).type), len(table))
            table = table.append_column(name, constant)
    return table.select(CLIP_SCHEMA.names).cast(CLIP_SCHEMA)


def rejects_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Table of rejects in canonical order (stage, recipe, part, clip_id)."""
    ordered = sorted(rows, key=lambda r: (r["stage"], r.get("recipe") or "", r["part"], r["clip_id"]))
    return pa.Table.from_pylist(ordered, schema=REJECT_SCHEMA)
