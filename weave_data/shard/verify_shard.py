"""Check one stored shard against its manifest entry: bytes, layout, rows, pixels."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from weave_data.errors import VerificationError
from weave_data.shard.addresses import as_array, flat_list
from weave_data.shard.layout import FOOTER_TAIL_BYTES, footer_span
from weave_data.shard.manifest import Manifest, ShardEntry
from weave_data.shard.reference import rows_schema
from weave_data.shard.slices import num_row_groups, row_group_span
from weave_data.shard.verify_frames import FrameTars, decode_problem, reference_problems
from weave_data.storage import Store

__all__ = ["ShardFindings", "check_shard"]

_READ_BLOCK_BYTES = 16 << 20
_MAX_PROBLEMS = 20
_FRAME_LISTS = (
    *("frames", "frame_tar", "frame_offset", "frame_bytes"),
    *("frame_clip", "frame_index", "frame_seconds"),
)


def _no_ids() -> pa.Array:
    return pa.array([], pa.string())


@dataclass(frozen=True)
class ShardFindings:
    """What a shard holds and what is wrong with it.

    Attributes:
        problems: One line each, at most 20 and a count of the rest.
        num_frames: Frames over all rows.
        sample_ids: string[rows].
        clip_ids: string, distinct, of all clips in the shard.
    """

    problems: tuple[str, ...] = ()
    num_frames: int = 0
    sample_ids: pa.Array = field(default_factory=_no_ids)
    clip_ids: pa.Array = field(default_factory=_no_ids)


def check_shard(
    store: Store, manifest: Manifest, shard: ShardEntry, tars: FrameTars, *, decode: bool
) -> ShardFindings:
    """Read a shard once, whole, and compare it with what the manifest promises.

    Args:
        store: The output.
        manifest: The recipe the shard belongs to.
        shard: Its entry.
        tars: Frame tars that reference shards point into; it remembers what it has seen.
        decode: Also decode every frame.

    Raises:
        StoreError: The store can't be reached (a missing object is a finding, not an error).
    """
    info = store.head(shard.path)
    if info is None:
        return ShardFindings((f"{shard.path}: missing",))
    if info.size_bytes != shard.bytes:
        return ShardFindings(
            (f"{shard.path}: {info.size_bytes} bytes stored, the manifest says {shard.bytes}",)
        )
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        path = Path(scratch) / "shard.parquet"
        stored_sha256 = _download(store, shard, path)
        problems = []
        if stored_sha256 != shard.sha256:
            problems.append(
                f"{shard.path}: stored bytes have sha256 {stored_sha256}, the manifest says {shard.sha256}"
            )
        try:
            findings = _check_file(path, manifest, shard, tars, decode=decode)
        except (pa.ArrowException, OSError, VerificationError) as error:
            return ShardFindings((*problems, f"{shard.path}: can't be parsed: {error}"))
    problems += findings.problems
    if len(problems) > _MAX_PROBLEMS:
        rest = len(problems) - _MAX_PROBLEMS
        problems = [*problems[:_MAX_PROBLEMS], f"{shard.path}: and {rest} more problems"]
    return ShardFindings(tuple(problems), findings.num_frames, findings.sample_ids, findings.clip_ids)


def _download(store: Store, shard: ShardEntry, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, shard.bytes, _READ_BLOCK_BYTES):
            block = store.get_range(shard.path, start, min(start + _READ_BLOCK_BYTES, shard.bytes))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _check_file(
    path: Path, manifest: Manifest, shard: ShardEntry, tars: FrameTars, *, decode: bool
) -> ShardFindings:
    problems: list[str] = []
    with path.open("rb") as file:
        file.seek(-FOOTER_TAIL_BYTES, io.SEEK_END)
        footer = footer_span(file.read(), shard.bytes, name=shard.path)
    if footer != (shard.footer_offset, shard.footer_offset + shard.footer_bytes):
        problems.append(f"{shard.path}: the footer is at {footer}, the manifest says {shard.footer_offset}")
    with pq.ParquetFile(path) as parquet:
        if not parquet.schema_arrow.equals(rows_schema(manifest.pixels), check_metadata=True):
            what = f"not the columns of a woven shard (pixels: {manifest.pixels})"
            return ShardFindings((*problems, f"{shard.path}: {what}"))
        problems += _row_counts(parquet.metadata, manifest, shard)
        num_frames, ids, clips = 0, [], []
        for index in range(parquet.num_row_groups):
            table = parquet.read_row_group(index, use_threads=False)
            found = list(_row_problems(table, shard, manifest.recipe))
            if manifest.pixels == "reference":
                # lists of unequal length name no frame: their rows are reported, not their frames
                found += [] if found else reference_problems(table, tars, decode=decode)
            elif decode:
                found += _pixel_problems(table)
            problems += [f"{shard.path}: {line}" for line in found]
            num_frames += int(flat_list(table, "frame_clip")[1][-1])
            ids.append(as_array(table["sample_id"]))
            clips.append(flat_list(table, "clips")[0].field("clip_id").unique())
    return ShardFindings(tuple(problems), num_frames, _concat(ids), _concat(clips).unique())


def _concat(arrays: list[pa.Array]) -> pa.Array:
    return pa.concat_arrays(arrays) if arrays else _no_ids()


def _row_counts(footer: pq.FileMetaData, manifest: Manifest, shard: ShardEntry) -> Iterator[str]:
    if footer.num_rows != shard.rows:
        yield f"{shard.path}: {footer.num_rows} rows stored, the manifest says {shard.rows}"
        return
    groups = num_row_groups(shard.rows, manifest.row_group_rows)
    if footer.num_row_groups != groups:
        yield f"{shard.path}: {footer.num_row_groups} row groups, {shard.rows} rows make {groups}"
        return
    for index in range(groups):
        start, stop = row_group_span(shard.rows, manifest.row_group_rows, index)
        stored = footer.row_group(index).num_rows
        if stored != stop - start:
            yield f"{shard.path}: row group {index} has {stored} rows instead of {stop - start}"


def _row_problems(table: pa.Table, shard: ShardEntry, recipe: str) -> Iterator[str]:
    ids = table["sample_id"]
    for name, value in (("recipe", recipe), ("split", shard.split), ("epoch", shard.epoch)):
        for row in _where(as_array(pc.not_equal(table[name].cast(_plain(table[name].type)), value))):
            yield f"sample {ids[row]}: {name} is {table[name][row]}, its shard is {value}"
    promised = table["num_frames"].to_numpy()
    for name in (name for name in _FRAME_LISTS if name in table.column_names):
        lengths = np.diff(flat_list(table, name)[1])
        for row in np.flatnonzero(lengths != promised).tolist():
            yield f"sample {ids[row]}: {lengths[row]} {name}, num_frames is {promised[row]}"
    yield from _clip_problems(table, promised)


def _plain(data_type: pa.DataType) -> pa.DataType:
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def _clip_problems(table: pa.Table, promised: npt.NDArray[np.int32]) -> Iterator[str]:
    """Frames must be all of clip 0, then all of clip 1, ..., as many as each clip says."""
    ids = table["sample_id"]
    clips, clip_offsets = flat_list(table, "clips")
    per_clip = clips.field("num_frames").to_numpy(zero_copy_only=False)
    frame_clip, frame_offsets = flat_list(table, "frame_clip")
    running = np.concatenate([[0], np.cumsum(per_clip)])
    totals = np.diff(running[clip_offsets])
    if not np.array_equal(totals, promised):
        for bad in np.flatnonzero(totals != promised).tolist():
            yield f"sample {ids[bad]}: its clips have {totals[bad]} frames, num_frames is {promised[bad]}"
    elif len(frame_clip) == running[-1]:
        slots = np.arange(len(per_clip)) - np.repeat(clip_offsets[:-1], np.diff(clip_offsets))
        differs = np.repeat(slots, per_clip) != frame_clip.to_numpy(zero_copy_only=False)
        rows = np.repeat(np.arange(table.num_rows), np.diff(frame_offsets))
        for bad in np.unique(rows[differs]).tolist():
            yield f"sample {ids[bad]}: frame_clip does not follow the order of its clips"


def _pixel_problems(table: pa.Table) -> Iterator[str]:
    ids, widths, heights = table["sample_id"], table["width"], table["height"]
    frames, offsets = flat_list(table, "frames")
    for row in range(table.num_rows):
        for frame in range(offsets[row], offsets[row + 1]):
            position = frame - offsets[row]
            expected = (widths[row].as_py(), heights[row].as_py()) if position == 0 else None
            problem = decode_problem(frames[frame].as_py(), expected)
            if problem is not None:
                yield f"sample {ids[row]}: frame {position} {problem}"


def _where(mask: pa.Array) -> list[int]:
    return [int(row) for row in pc.indices_nonzero(mask).to_pylist()]
