"""Questions about single clips, one sample each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption.conversations import make_conversations
from weave_data.config.captions import QUESTION_TYPES
from weave_data.errors import SourceError
from weave_data.records import SAMPLE_SCHEMA

__all__ = ["question_samples"]


def question_samples(
    clips: pa.Table,
    questions: pa.Table,
    *,
    types: Sequence[str] = QUESTION_TYPES,
    incomplete: Literal["error", "keep", "drop"] = "error",
) -> pa.Table:
    """One sample per clip and question.

    Args:
        clips: CLIP_SCHEMA. A clip without any question gets no sample.
        questions: `clip_id`, `type`, `question`, `answer`: string; those about other clips are left
            aside. A clip may be asked several questions of one type.
        types: The ones to use, in the order of a clip's samples.
        incomplete: What happens to a clip that is asked about but lacks one of the types: an error,
            the samples there are, or none.

    Returns:
        SAMPLE_SCHEMA, clips in their order; `sample_key` is `<clip_id>/<type>/<n>`, n from 0.

    Raises:
        SourceError: A clip lacks a type and `incomplete` is `error`.

    Source:
        VideoWeave: four samples per matched video, `<image>`, a line break and the question.
    """
    rows = pc.index_in(questions["clip_id"], value_set=clips["clip_id"].combine_chunks())
    kinds = pc.index_in(questions["type"], value_set=pa.array(list(types)))
    is_used = pc.and_(rows.is_valid(), kinds.is_valid())
    used = questions.filter(is_used)
    clip_rows, type_places = (np.asarray(column.filter(is_used)) for column in (rows, kinds))
    is_kept = _complete(clip_rows, type_places, len(types))
    if incomplete == "error" and not is_kept.all():
        lost = clips["clip_id"][int(clip_rows[~is_kept][0])].as_py()
        num_lost = len(np.unique(clip_rows[~is_kept]))
        raise SourceError(
            f"questions.file: {num_lost} clips lack one of the types {', '.join(types)}, the first is {lost}"
            "; complete them, or set questions.incomplete to keep or drop"
        )
    if incomplete == "keep":
        is_kept[:] = True
    order = np.lexsort((type_places, clip_rows))  # stable: questions of one type stay in file order
    order = order[is_kept[order]]
    chosen = used.take(pa.array(order)).combine_chunks()
    return _samples(chosen, clip_rows[order].astype(np.int64) * len(types) + type_places[order])


def _complete(clip_rows: np.ndarray, type_places: np.ndarray, num_types: int) -> np.ndarray:
    """bool[n]: the question's clip is asked about every type."""
    if len(clip_rows) == 0:
        return np.zeros(0, dtype=bool)
    pairs = np.unique(clip_rows.astype(np.int64) * num_types + type_places)
    counts = np.bincount(pairs // num_types, minlength=int(clip_rows.max()) + 1)
    return np.asarray(counts[clip_rows] == num_types)


def _samples(chosen: pa.Table, runs: np.ndarray) -> pa.Table:
    """Rows of SAMPLE_SCHEMA; equal neighbours in `runs` are questions of one clip and type."""
    num_samples = chosen.num_rows
    is_first = np.diff(runs, prepend=-1) != 0
    starts = np.maximum.accumulate(np.where(is_first, np.arange(num_samples), 0)) if num_samples else runs
    numbers = pa.array(np.arange(num_samples) - starts).cast(pa.string())
    clip_ids, types, asked, answers = (
        pa.concat_arrays(chosen[name].chunks) if num_samples else pa.array([], pa.string())
        for name in ("clip_id", "type", "question", "answer")
    )
    offsets = pa.array(np.arange(num_samples + 1, dtype=np.int32))
    clip_lists = pa.ListArray.from_arrays(offsets, clip_ids, type=SAMPLE_SCHEMA.field("clip_ids").type)
    keys = pc.binary_join_element_wise(clip_ids, types, numbers, "/")
    no_record = pa.nulls(num_samples, pa.string())
    return pa.table([keys, clip_lists, make_conversations(asked, answers), no_record], schema=SAMPLE_SCHEMA)
