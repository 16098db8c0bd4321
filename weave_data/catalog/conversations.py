"""Records and a listing -> samples, the media they name as clips, rejects and a count. Columnar.

Counted are records. A record is, in this order: refused as it stands (`bad_record`, `bad_turns`), a
duplicate (an equal record came before), refused for its media (`missing`, `empty_file`, or
`bad_record` where one file is image and video), filtered by a conversion, or used.

A medium is one clip, however many records name it; its id is its key. It belongs to the first file
of records that names it, and parts are ranges of the media a file is the first to name: borders
depend neither on what is missing nor on later files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.conversation_media import MEDIA_PROBLEMS, Media, gather_media, media_problems
from weave_data.catalog.conversation_rows import RECORD_SCHEMA
from weave_data.catalog.parts import STAGE, CutCatalog, is_first, part_rows, unit_stems
from weave_data.errors import AccountingError, SourceError
from weave_data.mixtures import ImageToVideo, convert_images
from weave_data.records import CLIP_SCHEMA, REJECT_SCHEMA, SAMPLE_SCHEMA, StageCount, clips_table

__all__ = ["cut_conversations"]


def cut_conversations(
    units: Sequence[tuple[str, pa.Table]],
    listing: pa.Table,
    *,
    part_clips: int | Literal["auto"],
    image_to_video: ImageToVideo = "none",
    frames_per_video: int | None = None,
) -> CutCatalog:
    """Decide what every record is, and gather what the used ones name.

    A sample's key is its record's id; of different records with one id, the later ones' is
    `<id>#<8 hex digits of their content>`. A clip's caption is the answer of the first two-turn record
    about it alone, empty where there is none.

    Args:
        units: (name of the file, RECORD_SCHEMA) in order.
        listing: `LISTING_SCHEMA`; may be empty, as for text only.
        part_clips: Media per part, or `auto`.
        image_to_video: See `convert_images`.
        frames_per_video: What the configuration says the records' `num_frames_per_video` is.

    Returns:
        Clips in order of first mention, samples in order of the records; counted are records.

    Raises:
        SourceError: A record's `num_frames_per_video` is another; a made-up key is taken.
        AccountingError: A record was lost or invented.
    """
    for name, table in units:
        _check_frames_per_video(name, table, frames_per_video)
    unit = pa.array(np.repeat(np.arange(len(units)), [len(table) for _, table in units]))
    records = pa.concat_tables([RECORD_SCHEMA.empty_table(), *(table for _, table in units)])
    records = records.append_column("unit", unit)
    formed = records.filter(records["reason"].is_null())
    distinct = formed.filter(pa.array(is_first(formed["digest"])))
    media = gather_media(distinct, listing)
    problems, about = media_problems(media, len(distinct))
    whole = np.flatnonzero(problems < 0)
    samples = _samples(distinct, whole)
    converted = convert_images(samples, _is_one_image(distinct, whole), form=image_to_video)
    used = whole[converted.is_used]
    clips = _clips(distinct, media, used)
    stems = unit_stems([name for name, _ in units])
    rejects = pa.concat_tables([_malformed(records), _unusable(distinct, media, problems, about)])
    count = StageCount(
        stage=STAGE,
        num_in=len(records),
        num_out=len(used),
        filtered=converted.filtered,
        rejected=_by_reason(rejects),
        duplicates=len(formed) - len(distinct),
    )
    if not count.is_balanced:
        raise AccountingError(f"catalog: records don't add up: {count.to_json()}; please report this")
    return CutCatalog(
        parts=_parts(clips, distinct, media, stems, part_clips),
        samples=converted.samples,
        rejects=_reject_table(rejects, stems),
        listed=clips.select(["key", "size_bytes"]),
        count=count,
        num_unused=pc.sum(distinct["num_unused"].take(pa.array(used))).as_py() or 0,
    )


def _check_frames_per_video(name: str, records: pa.Table, expected: int | None) -> None:
    found = records["frames_per_video"]
    other = pc.is_valid(found) if expected is None else pc.not_equal(found, expected)
    wrong = records.filter(pc.fill_null(other, False))
    if len(wrong):
        row = wrong.slice(0, 1).to_pylist()[0]
        raise SourceError(
            f"{name}: row {row['row']} (id {row['record_id']!r}) takes {row['frames_per_video']} frames of "
            f"each video, source.frames_per_video is {'not set' if expected is None else expected}; set it "
            f"to {row['frames_per_video']} and let the recipe take as many frames of a clip"
        )


def _is_one_image(records: pa.Table, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    is_one = pc.equal(pc.list_value_length(records["keys"]), 1).to_numpy()
    return (is_one & (records["num_videos"].to_numpy() == 0))[rows]


def _samples(records: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    # an id is taken by the first record that has it, even one whose media are missing today
    ids = records["record_id"]
    suffix = pc.utf8_slice_codeunits(records["digest"], 0, 8)
    keys = pc.if_else(pa.array(is_first(ids)), ids, pc.binary_join_element_wise(ids, suffix, "#"))
    repeated = keys.filter(pa.array(~is_first(keys)))
    if len(repeated):
        raise SourceError(
            f"source.catalog: {repeated[0].as_py()!r} is the id of one record and stands for another record "
            f"whose id was taken ({len(repeated)} of them); give the records ids of their own"
        )
    columns = [keys, records["keys"], records["conversations"], ids]
    return pa.table(columns, schema=SAMPLE_SCHEMA).take(pa.array(rows))


def _clips(records: pa.Table, media: Media, used: npt.NDArray[np.int64]) -> pa.Table:
    """CLIP_SCHEMA and `medium`, the position among all media; by first mention."""
    is_used = np.zeros(len(records), dtype=bool)
    is_used[used] = True
    references = np.flatnonzero(is_used[media.owner])
    mediums, first = np.unique(media.medium[references], return_index=True)
    rows = pa.array(mediums)
    table = clips_table(
        {
            "clip_id": media.keys.take(rows),
            "key": media.keys.take(rows),
            "caption": _captions(records, media, references, mediums),
            "size_bytes": media.size_bytes[mediums],
            "media": pa.array(["image", "video"]).take(
                pa.array(media.is_video[references[first]].astype(np.int64))
            ),
        }
    )
    return table.append_column("medium", rows)


def _captions(
    records: pa.Table, media: Media, references: npt.NDArray[np.int64], mediums: npt.NDArray[np.int64]
) -> pa.ChunkedArray:
    """string[mediums]: the answer of the first two-turn record about this medium alone, or empty."""
    is_pair = pc.and_(
        pc.equal(pc.list_value_length(records["keys"]), 1),
        pc.equal(pc.list_value_length(records["conversations"]), 2),
    ).to_numpy()
    telling = references[is_pair[media.owner[references]]]
    described, first = np.unique(media.medium[telling], return_index=True)
    turns = records["conversations"].take(pa.array(media.owner[telling[first]]))
    answers = pc.struct_field(pc.list_element(turns, 1), "value")
    return pc.fill_null(answers.take(pc.index_in(pa.array(mediums), value_set=pa.array(described))), "")


def _parts(
    clips: pa.Table, records: pa.Table, media: Media, stems: list[str], part_clips: int | Literal["auto"]
) -> tuple[tuple[str, pa.Table], ...]:
    unit = records["unit"].to_numpy()[media.first]  # ascending: media lie by first mention
    medium = clips["medium"].to_numpy()
    parts = []
    for index, stem in enumerate(stems):
        start, stop = np.searchsorted(unit, [index, index + 1])
        borders = range(int(start), int(stop), part_rows(int(stop - start), part_clips))
        for number, first in enumerate(borders):
            last = min(first + borders.step, stop)
            rows = clips.slice(*_range(medium, first, last))
            if len(rows):
                parts.append((f"{stem}-{number:05d}", rows.select(CLIP_SCHEMA.names).cast(CLIP_SCHEMA)))
    return tuple(parts)


def _range(medium: npt.NDArray[np.int64], first: int, last: int) -> tuple[int, int]:
    """Offset and length of the clips whose medium is in [first, last)."""
    start, stop = np.searchsorted(medium, [first, last])
    return int(start), int(stop - start)


def _malformed(records: pa.Table) -> pa.Table:
    refused = records.filter(records["reason"].is_valid())
    none = pa.chunked_array([pa.repeat("", len(refused))])
    return _reject_rows(refused, none, refused["reason"], refused["detail"])


def _unusable(
    records: pa.Table, media: Media, problems: npt.NDArray[np.int8], about: npt.NDArray[np.int64]
) -> pa.Table:
    rows = np.flatnonzero(problems >= 0)
    codes = pa.array(problems[rows])
    reasons = pa.array([reason.value for reason, _ in MEDIA_PROBLEMS]).take(codes)
    details = pa.array([detail for _, detail in MEDIA_PROBLEMS]).take(codes)
    keys = media.keys.take(pa.array(about[rows]))
    return _reject_rows(records.take(pa.array(rows)), keys, pa.chunked_array([reasons]), details)


def _reject_rows(
    records: pa.Table, keys: pa.ChunkedArray, reasons: pa.ChunkedArray, details: pa.ChunkedArray
) -> pa.Table:
    row = pc.binary_join_element_wise("row", records["row"].cast(pa.string()), " ")
    return pa.table(
        {
            "unit": records["unit"],
            "row": records["row"],
            "clip_id": records["record_id"],
            "key": keys,
            "reason": reasons,
            "detail": pc.binary_join_element_wise(row, details, ": "),
        }
    )


def _by_reason(rejects: pa.Table) -> dict[str, int]:
    counts = rejects["reason"].value_counts().to_pylist()
    return {item["values"]: item["counts"] for item in sorted(counts, key=lambda item: str(item["values"]))}


def _reject_table(rejects: pa.Table, stems: list[str]) -> pa.Table:
    columns = {
        "stage": pa.repeat(STAGE, len(rejects)),
        "part": pa.array(stems, pa.string()).take(rejects["unit"]),
        "recipe": pa.nulls(len(rejects), pa.string()),
        **{name: rejects[name] for name in ("clip_id", "key", "reason", "detail", "row")},
    }
    ordered = pa.table(columns).sort_by(
        [("part", "ascending"), ("clip_id", "ascending"), ("row", "ascending")]
    )
    return ordered.select(REJECT_SCHEMA.names).cast(REJECT_SCHEMA)
