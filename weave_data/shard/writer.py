"""Write one shard: plan rows + stored frames (or their addresses) -> one Parquet object, committed once.

Bytes are a function of the plan rows, the frames and the pinned layout: not of threads, of other
shards or of who computes it. A shard that is there already is reused without touching a frame.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import WOVEN_SCHEMA
from weave_data.shard.addresses import FramePlaces, as_array, locate_frames
from weave_data.shard.gather import gather_frames
from weave_data.shard.layout import FOOTER_TAIL_BYTES, footer_span, open_writer, parse_footer
from weave_data.shard.manifest import ShardEntry
from weave_data.shard.reference import reference_columns, rows_schema
from weave_data.shard.slices import num_row_groups, row_group_span
from weave_data.storage import ObjectInfo, Store, commit_exact, scratch_folder

__all__ = ["MAX_SHARD_BYTES", "ShardReceipt", "ShardRequest", "estimate_shard_bytes", "write_shard"]

MAX_SHARD_BYTES = 1 << 30
"""One conditional PUT and one Arrow list<binary> column stay safe below this."""

_READ_BLOCK_BYTES = 16 << 20
_ROW_OVERHEAD_BYTES = 256  # ids, lists and the row's share of page headers and footer


@dataclass(frozen=True)
class ShardRequest:
    """Which shard to write.

    `path` is its key relative to the output (`slices.shard_path`); `pixels` is `inline`, or `reference` for
    addresses of the frames instead of their bytes.
    """

    path: str
    split: str
    epoch: int
    row_group_rows: int
    pixels: str = "inline"


@dataclass(frozen=True)
class ShardReceipt:
    """What the manifest says of the shard, and whether it was there already."""

    entry: ShardEntry
    is_reused: bool


def write_shard(
    request: ShardRequest,
    plan: pa.Table,
    addresses: pa.Table,
    store: Store,
    *,
    scratch_dir: Path | None = None,
    num_threads: int = 16,
) -> ShardReceipt:
    """Write and commit the shard of one plan slice, or reuse the committed one.

    Args:
        request: Where it goes and how rows are grouped.
        plan: The slice's rows, `records.PLAN_SCHEMA`.
        addresses: `addresses.ADDRESS_SCHEMA`, at least for the clips of the slice.
        store: The output; holds the frame tars and takes the shard.
        scratch_dir: Local directory for the file while it is written.
        num_threads: Ranged reads under way at once.

    Raises:
        ConfigError: The shard would pass 1 GiB; nothing was read.
        VerificationError: A frame is not stored, or stored bytes are not what the index promises.
        CommitError: Other bytes are committed under the same key.
    """
    present = store.head(request.path)
    if present is not None:
        return ShardReceipt(_existing_entry(request, plan.num_rows, present, store), is_reused=True)
    places = locate_frames(plan, addresses)
    if request.pixels == "inline":
        _check_size(plan, places)
    with scratch_folder(scratch_dir, prefix="shard-") as scratch:
        path = scratch / "shard.parquet"
        _write_file(path, request, plan, places, store, num_threads=num_threads)
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            file.seek(-FOOTER_TAIL_BYTES, 2)
            footer_start, footer_stop = footer_span(file.read(), size_bytes, name=request.path)
        committed = commit_exact(store, request.path, path)
    entry = ShardEntry(
        path=request.path,
        split=request.split,
        epoch=request.epoch,
        rows=plan.num_rows,
        bytes=size_bytes,
        sha256=committed.sha256,
        footer_offset=footer_start,
        footer_bytes=footer_stop - footer_start,
    )
    return ShardReceipt(entry, is_reused=not committed.is_ours)


def estimate_shard_bytes(plan: pa.Table, places: FramePlaces) -> int:
    """Size of the shard before reading a frame: exact for pixels, uncompressed for text."""
    text = sum(plan[name].nbytes for name in ("clips", "conversations"))
    return int(places.size_bytes.sum()) + text + plan.num_rows * _ROW_OVERHEAD_BYTES


def _check_size(plan: pa.Table, places: FramePlaces) -> None:
    estimate = estimate_shard_bytes(plan, places)
    if estimate <= MAX_SHARD_BYTES:
        return
    recipe = plan["recipe"][0].as_py()
    fitting = int(plan.num_rows * MAX_SHARD_BYTES / estimate * 0.9)
    raise ConfigError(
        f"recipes.{recipe}.shard_rows: {plan.num_rows} rows make a shard of about "
        f"{estimate / 2**30:.2f} GiB, the limit is {MAX_SHARD_BYTES / 2**30:g} GiB; "
        f"set it to {max(1, fitting)} or less (a multiple of row_group_rows)"
    )


def _write_file(
    path: Path, request: ShardRequest, plan: pa.Table, places: FramePlaces, store: Store, *, num_threads: int
) -> None:
    groups = num_row_groups(plan.num_rows, request.row_group_rows)
    spans = [row_group_span(plan.num_rows, request.row_group_rows, index) for index in range(groups)]
    with open_writer(path, pixels=request.pixels) as writer:
        if request.pixels == "reference":
            for start, stop in spans:
                writer.write_table(_row_group(plan.slice(start, stop - start), places, start, None))
            return
        bounds = [(int(places.row_offsets[a]), int(places.row_offsets[b])) for a, b in spans]
        with contextlib.closing(gather_frames(places, bounds, store, num_threads=num_threads)) as gathered:
            for (start, stop), images in zip(spans, gathered, strict=True):
                writer.write_table(_row_group(plan.slice(start, stop - start), places, start, images))


def _row_group(plan: pa.Table, places: FramePlaces, start: int, images: list[bytes] | None) -> pa.Table:
    """Rows with the pictures given, or with their addresses where there are none."""
    stop = start + plan.num_rows
    offsets = places.row_offsets[start : stop + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    schema = rows_schema("reference" if images is None else "inline")
    if images is None:
        pixels = reference_columns(places, first, last, offsets - first)
    else:
        pixels = {"frames": _lists(pa.array(images, pa.binary()), offsets - first, "frames")}
    gathered = {
        **pixels,
        "frame_seconds": _lists(pa.array(places.seconds[first:last]), offsets - first, "frame_seconds"),
        "width": pa.array(places.width[start:stop]),
        "height": pa.array(places.height[start:stop]),
    }
    columns = [gathered[name] if name in gathered else _plan_column(plan, name) for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def _lists(values: pa.Array, offsets: Any, name: str) -> pa.Array:
    starts = pa.array(offsets.astype(np.int32))
    return pa.ListArray.from_arrays(starts, values, type=WOVEN_SCHEMA.field(name).type)


def _plan_column(plan: pa.Table, name: str) -> pa.Array:
    column = as_array(plan[name])
    wanted = WOVEN_SCHEMA.field(name).type
    return column.dictionary_encode() if pa.types.is_dictionary(wanted) else column.cast(wanted)


def _existing_entry(request: ShardRequest, rows: int, present: ObjectInfo, store: Store) -> ShardEntry:
    """Describe a committed shard from its metadata and footer; frames are not read again."""
    size = present.size_bytes
    tail = store.get_range(request.path, max(0, size - FOOTER_TAIL_BYTES), size)
    start, stop = footer_span(tail, size, name=request.path)
    footer = parse_footer(store.get_range(request.path, start, stop), name=request.path)
    if footer.num_rows != rows:
        raise VerificationError(
            f"{request.path}: holds {footer.num_rows} rows, its plan has {rows}; delete it and build again"
        )
    return ShardEntry(
        path=request.path,
        split=request.split,
        epoch=request.epoch,
        rows=rows,
        bytes=size,
        sha256=present.sha256 or _hash_object(store, request.path, size),
        footer_offset=start,
        footer_bytes=stop - start,
    )


def _hash_object(store: Store, key: str, size_bytes: int) -> str:
    """sha256 of an object that carries no sum (copied by another tool), block by block."""
    digest = hashlib.sha256()
    for start in range(0, size_bytes, _READ_BLOCK_BYTES):
        digest.update(store.get_range(key, start, min(start + _READ_BLOCK_BYTES, size_bytes)))
    return digest.hexdigest()
