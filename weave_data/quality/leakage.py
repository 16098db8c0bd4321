"""Copies of a val clip in train: a model would be tested on what it was trained on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.quality.duplicates import duplicate_labels
from weave_data.quality.reasons import FilterReason
from weave_data.quality.rejects import filter_rejects
from weave_data.records import StageCount

__all__ = ["Leakage", "check_leakage", "drop_val_leaks", "val_leaks"]

STAGE = "val_leaks"


@dataclass(frozen=True)
class Leakage:
    """What val shares with train, in clips.

    Attributes:
        num_val: Clips woven into val.
        in_both: Clips woven into train too.
        near_duplicates: Clips of val that look like one of train.
        exact_duplicates: Clips of val with the same bytes as another of train.
    """

    num_val: int
    in_both: int
    near_duplicates: int
    exact_duplicates: int

    @property
    def is_clean(self) -> bool:
        """Nothing of val is in train, in any form."""
        return not (self.in_both or self.near_duplicates or self.exact_duplicates)

    def to_json(self) -> dict[str, int]:
        """Plain dict."""
        return dataclasses.asdict(self)


def check_leakage(
    plan: pa.Table, duplicates: pa.Table | None = None, quality: pa.Table | None = None
) -> Leakage:
    """Count what val shares with train over every row of a plan: all recipes and epochs given.

    Args:
        plan: `split` and `clips` of PLAN_SCHEMA; plans of several recipes one after another.
        duplicates: clip_id, duplicate_of; None: looks are not compared.
        quality: clip_id and sha256 of at least the woven clips; None: bytes are not compared.
    """
    ids, in_train, in_val = _woven(plan)
    is_both = in_train & in_val

    def leaking(labels: npt.NDArray[np.int64]) -> int:
        return int((in_val & ~is_both & np.isin(labels, labels[in_train])).sum())

    return Leakage(
        num_val=int(in_val.sum()),
        in_both=int(is_both.sum()),
        near_duplicates=0 if duplicates is None else leaking(duplicate_labels(ids, duplicates=duplicates)),
        exact_duplicates=0 if quality is None else leaking(duplicate_labels(ids, quality=quality)),
    )


def val_leaks(splits: pa.Array | pa.ChunkedArray, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows of val clips that have a copy in train, ascending.

    Args:
        splits: string[n], `train` or `val`.
        labels: int64[n], equal for copies (`duplicate_labels`).
    """
    is_val = np.asarray(pc.equal(splits, "val"))
    return np.flatnonzero(is_val & np.isin(labels, labels[~is_val]))


def drop_val_leaks(
    clips: pa.Table,
    splits: pa.Array | pa.ChunkedArray,
    labels: npt.NDArray[np.int64],
    *,
    recipe: str | None = None,
) -> tuple[pa.Table, pa.Table, StageCount]:
    """Take clips out of val that have a copy in train; before grouping, so that no group is broken.

    The splits of the clips kept are `np.delete(splits, val_leaks(splits, labels))`.

    Args:
        clips: CLIP_SCHEMA[n].
        splits: string[n], `train` or `val`.
        labels: int64[n], equal for copies (`duplicate_labels`).
        recipe: Whose splits these are; None: of every recipe.

    Returns:
        The clips kept, in their order; REJECT_SCHEMA of the others (stage `val_leaks`), which name a copy
        in train; their count.
    """
    goes = val_leaks(splits, labels)
    train = np.flatnonzero(np.asarray(pc.equal(splits, "train")))
    first, where = np.unique(labels[train], return_index=True)
    copies = train[where[np.searchsorted(first, labels[goes])]]
    told = clips["clip_id"].take(pa.array(copies))
    details = pc.binary_join_element_wise("a copy is in train: clip ", told, "")
    rejects = filter_rejects(clips, goes, FilterReason.VAL_LEAK, details, stage=STAGE, recipe=recipe)
    is_kept = np.ones(len(clips), np.bool_)
    is_kept[goes] = False
    filtered = {FilterReason.VAL_LEAK.value: len(goes)} if len(goes) else {}
    count = StageCount(STAGE, len(clips), len(clips) - len(goes), filtered)
    return clips.filter(pa.array(is_kept)), rejects.sort_by("clip_id"), count


def _woven(plan: pa.Table) -> tuple[pa.Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Distinct clips of a plan: ids, whether in train, whether in val."""
    used = pa.table(
        {
            "clip_id": pc.struct_field(pc.list_flatten(plan["clips"]), "clip_id"),
            "is_val": pc.equal(plan["split"], "val").take(pc.list_parent_indices(plan["clips"])),
        }
    )
    found = used.group_by("clip_id").aggregate([("is_val", "min"), ("is_val", "max")])
    ids = found["clip_id"].combine_chunks()
    return ids, ~found["is_val_min"].to_numpy(), found["is_val_max"].to_numpy()
