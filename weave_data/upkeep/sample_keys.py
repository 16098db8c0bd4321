"""What tells samples apart, in 48 bytes each: hashes of their id, clips, text, frames and split.

Read from the plans, or from the shards where a plan is gone; no pixel is read either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.keyed_hash import keyed_hashes
from weave_data.shard import Manifest
from weave_data.storage import ObjectInfo, Store
from weave_data.tables import read_table_bytes
from weave_data.upkeep.columns import iter_columns
from weave_data.upkeep.outputs import stored_inputs

__all__ = ["SampleKeys", "clip_fates", "iter_samples", "read_sample_keys"]

Hashes = npt.NDArray[np.uint64]
_KEY = "diff"
_COLUMNS = (
    "sample_id",
    "clips.list.element.clip_id",
    "conversations",
    "frame_index",
    "frame_clip",
    "split",
    "epoch",
)


@dataclass(frozen=True)
class SampleKeys:
    """One entry a sample.

    Attributes:
        sample_id: S16[n], the id's 16 bytes.
        clips: uint64[n], of the clip ids in order and the epoch.
        text: uint64[n], of the turns.
        frames: uint64[n], of which frames of which clip.
        split: uint64[n].
    """

    sample_id: npt.NDArray[np.void]
    clips: Hashes
    text: Hashes
    frames: Hashes
    split: Hashes

    def __len__(self) -> int:
        return len(self.sample_id)

    def id_of(self, row: int) -> str:
        """The id in hex digits."""
        return bytes(self.sample_id[row].tobytes()).hex()


def read_sample_keys(store: Store, manifest: Manifest) -> SampleKeys:
    """Keys of all samples of a recipe; one row group of texts is in memory at a time."""
    blocks = [_keys(table) for table in iter_samples(store, manifest, _COLUMNS)]
    columns = [np.concatenate(column) for column in zip(*blocks, strict=True)] if blocks else []
    if not blocks:
        return SampleKeys(np.zeros(0, "V16"), *(np.zeros(0, np.uint64) for _ in range(4)))
    return SampleKeys(*columns)


def iter_samples(store: Store, manifest: Manifest, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """Columns that plans and shards share, from whichever is stored; plans lie epoch by epoch."""
    plans = stored_inputs(store, manifest, "plans")
    if plans is not None:
        for plan in plans:
            yield from iter_columns(store, plan.key, plan.size_bytes, columns)
        return
    for shard in manifest.shards:
        yield from iter_columns(store, shard.path, shard.bytes, columns)


def _keys(table: pa.Table) -> tuple[Any, ...]:
    raw = b"".join(bytes.fromhex(name) for name in table["sample_id"].to_pylist())
    clip_ids = _joined(table, "clips", "clip_id")
    epoch = table["epoch"].combine_chunks().cast(pa.string())
    clips = pc.binary_join_element_wise(epoch, clip_ids, "\n")
    turns = pc.binary_join_element_wise(
        _joined(table, "conversations", "from"), _joined(table, "conversations", "value"), "\0"
    )
    frames = pc.binary_join_element_wise(_numbers(table, "frame_index"), _numbers(table, "frame_clip"), "\n")
    split = table["split"].combine_chunks().cast(pa.string())
    return (
        np.frombuffer(raw, dtype="V16"),
        *(keyed_hashes(values, key=_KEY) for values in (clips, turns, frames, split)),
    )


def _joined(table: pa.Table, column: str, name: str) -> pa.StringArray:
    """string[rows]: one member of each row's list of structs, NUL between items."""
    lists = _array(table[column])
    values = lists.flatten().field(name)
    return pc.binary_join(pa.ListArray.from_arrays(_offsets(lists), values), "\0")


def _numbers(table: pa.Table, column: str) -> pa.StringArray:
    lists = _array(table[column])
    return pc.binary_join(pa.ListArray.from_arrays(_offsets(lists), lists.flatten().cast(pa.string())), " ")


def _array(column: pa.ChunkedArray) -> Any:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _offsets(lists: pa.ListArray) -> pa.Array:
    return pc.subtract(lists.offsets, lists.offsets[0])  # `flatten` starts at the first row's values


def clip_fates(
    there: Store, other: Manifest, keys: SampleKeys, rows: Any, *, store: Store, manifest: Manifest
) -> dict[str, int]:
    """Why samples of one side are not on the other, by what became of their clips there.

    Args:
        there: The other side's output.
        other: The other side's manifest.
        keys: This side's samples.
        rows: int64, which of them.
        store: This side's output.
        manifest: This side's manifest.

    Returns:
        Reason to samples: `a clip was rejected: corrupt`, `a clip is not in the other`, or `woven otherwise`
        when all its clips are there in other samples.
    """
    if not len(rows):
        return {}
    woven = _clip_ids(there, other)
    rejected, reasons = _rejected(there, other)
    counts: Counter[str] = Counter()
    is_asked = np.zeros(len(keys), dtype=bool)
    is_asked[rows] = True
    first = 0
    for table in iter_samples(store, manifest, ("clips.list.element.clip_id",)):
        lists = _array(table["clips"]).filter(pa.array(is_asked[first : first + table.num_rows]))
        first += table.num_rows
        counts.update(_fates(lists, woven, rejected, reasons))
    return dict(counts)


def _fates(lists: pa.ListArray, woven: pa.Array, rejected: pa.Array, reasons: pa.Array) -> list[str]:
    """One reason a row: the first clip that the other side did not weave decides."""
    ids = lists.flatten().field("clip_id")
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    absent = np.flatnonzero(~pc.is_in(ids, value_set=woven).to_numpy(zero_copy_only=False))
    row, first = np.unique(parents[absent], return_index=True)
    known = pc.take(reasons, pc.index_in(ids.take(pa.array(absent[first])), value_set=rejected))
    said = {
        int(where): "a clip is not woven there" if reason is None else f"a clip was rejected: {reason}"
        for where, reason in zip(row, known.to_pylist(), strict=True)
    }
    return [said.get(where, "its clips are woven otherwise") for where in range(len(lists))]


def _clip_ids(store: Store, manifest: Manifest) -> pa.Array:
    """Distinct clip ids of a recipe's samples."""
    found = [
        _array(table["clips"]).flatten().field("clip_id").unique()
        for table in iter_samples(store, manifest, ("clips.list.element.clip_id",))
    ]
    return pa.concat_arrays(found).unique() if found else pa.array([], pa.string())


def _rejected(store: Store, manifest: Manifest) -> tuple[pa.Array, pa.Array]:
    """Clip ids that a recipe's build rejected, and their reasons."""
    info: ObjectInfo | None = store.head(f"rejects/{manifest.fingerprint}.parquet")
    if info is None:
        return pa.array([], pa.string()), pa.array([], pa.string())
    table = read_table_bytes(store.get(info.key))
    return _array(table["clip_id"]), _array(table["reason"])
