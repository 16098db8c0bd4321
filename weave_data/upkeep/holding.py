"""Which rows of a table, and which objects, hold one of some ids; and values without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.storage import Store
from weave_data.upkeep.columns import iter_columns, open_parquet

__all__ = ["bytes_hold", "parquet_holds", "rows_holding", "values_without", "without_rows"]

_ID_COLUMNS = ("clip_id", "clip_ids", "clips", "duplicate_of")
_GROUP_COLUMNS = ("split", "epoch", "group_index")


def rows_holding(table: pa.Table, ids: pa.Array) -> npt.NDArray[np.bool_]:
    """bool[rows]: one of the id columns, however nested, holds one of the ids."""
    held = np.zeros(table.num_rows, dtype=bool)
    for name in _ID_COLUMNS:
        if name in table.column_names:
            held |= _held(_array(table[name]), ids)
    return held


def _held(column: Any, ids: pa.Array) -> npt.NDArray[np.bool_]:
    if pa.types.is_list(column.type):
        inner = _held(column.flatten(), ids)
        rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)[inner]
        held = np.zeros(len(column), dtype=bool)
        held[rows] = True
        return held
    if pa.types.is_struct(column.type):
        return _held(column.field("clip_id"), ids)
    found: npt.NDArray[np.bool_] = pc.is_in(column, value_set=ids).to_numpy(zero_copy_only=False)
    return found


def without_rows(table: pa.Table, ids: pa.Array) -> pa.Table:
    """The table without rows that hold an id, without the groups they belong to, and without a word of
    the ids in the details of other rows; metadata is kept.
    """
    held = rows_holding(table, ids)
    if "group_index" in table.column_names and held.any():
        names = [name for name in _GROUP_COLUMNS if name in table.column_names]
        numbered = table.select(names).append_column("row", pa.array(np.arange(table.num_rows)))
        gone = numbered.filter(pa.array(held)).select(names).group_by(names).aggregate([])
        rows = numbered.join(gone, names, join_type="left semi")["row"].to_numpy()
        held[rows] = True
    kept = table.filter(pa.array(~held))
    if "detail" in kept.column_names:
        detail = kept["detail"]
        for name in ids.to_pylist():
            detail = pc.replace_substring(detail, name, "(removed)")
        field = kept.schema.field("detail")
        kept = kept.set_column(kept.schema.get_field_index("detail"), field, detail)
    return kept


def parquet_holds(store: Store, key: str, size_bytes: int, ids: pa.Array) -> bool:
    """True when an id column of a stored table holds one of the ids, or a detail mentions one."""
    names = open_parquet(store, key, size_bytes).schema_arrow.names
    paths = {"clips": "clips.list.element.clip_id"}
    wanted = [paths.get(name, name) for name in (*_ID_COLUMNS, "detail") if name in names]
    for table in iter_columns(store, key, size_bytes, wanted) if wanted else ():
        if rows_holding(table, ids).any():
            return True
        if "detail" in names:
            said = "\n".join(table["detail"].to_pylist())
            if any(name in said for name in ids.to_pylist()):
                return True
    return False


def bytes_hold(data: bytes, ids: pa.Array) -> bool:
    """True when an id occurs in the bytes."""
    return any(name.encode() in data for name in ids.to_pylist())


def values_without(value: Any, ids: frozenset[str], renamed: Mapping[str, str]) -> Any:
    """Nested plain data without the ids, as keys or items of lists, and with other names for some strings."""
    if isinstance(value, Mapping):
        return {k: values_without(item, ids, renamed) for k, item in value.items() if k not in ids}
    if isinstance(value, (list, tuple)):
        kept = (item for item in value if not (isinstance(item, str) and item in ids))
        return [values_without(item, ids, renamed) for item in kept]
    return renamed.get(value, value) if isinstance(value, str) else value


def _array(column: Any) -> Any:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
