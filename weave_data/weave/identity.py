"""What a sample is called and where it lies: both follow from its content.

`sample_id` is the first 32 hex digits of sha256 over netstrings (`5:train,` style, lengths in bytes)
of: recipe, strategy, split, epoch; of each clip clip_id, key, caption, cluster_id, num_frames and
its frame indices joined by blanks; of each turn from and value; of the record's own id where it has one.
Netstrings leave nothing ambiguous: no caption can imitate another row.

Within a split, samples lie in the order of a hash of (seed, sample_id). Neighbours are unrelated,
any prefix is an unbiased sample, and a sample keeps its place among the others when more are added.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.keyed_hash import keyed_hashes

__all__ = ["identify", "shard_order"]

_ID_DIGITS = 32
_KEY = "shard"
_CLIP_FIELDS = ("clip_id", "key", "caption", "cluster_id", "num_frames")


def identify(columns: dict[str, pa.Array]) -> pa.StringArray:
    """Content hash of each plan row: string[n], 32 hex digits.

    Args:
        columns: PLAN_SCHEMA without `sample_id`.
    """
    content = pc.binary_join_element_wise(
        *(_netstring(columns[name]) for name in ("recipe", "strategy", "split", "epoch")),
        _clips_content(columns),
        _joined(columns["conversations"], ("from", "value")),
        pc.fill_null(_netstring(columns["record_id"]), ""),
        "",
    )
    digests = [hashlib.sha256(row).hexdigest()[:_ID_DIGITS] for row in content.cast(pa.binary()).to_pylist()]
    return pa.array(digests, pa.string())


def shard_order(sample_ids: pa.Array, splits: pa.Array, *, seed: int) -> npt.NDArray[np.int64]:
    """Rows in shard order: train before val, then by hash of (seed, sample_id), then by sample_id.

    Args:
        sample_ids: string[n].
        splits: string[n].
        seed: The recipe's.

    Returns:
        int64[n], a permutation of 0..n-1.
    """
    is_val = pc.not_equal(splits, "train").to_numpy(zero_copy_only=False)
    hashes = keyed_hashes(sample_ids, key=f"{_KEY}:{seed}")
    names = np.array(sample_ids.to_pylist(), dtype=f"S{_ID_DIGITS}")
    return np.lexsort((names, hashes, is_val))


def _clips_content(columns: dict[str, pa.Array]) -> pa.StringArray:
    """Netstrings of each row's clips, every clip followed by its frame indices."""
    clips, frame_index = columns["clips"], columns["frame_index"]
    flat = clips.flatten()
    counts = flat.field("num_frames").to_numpy()
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    indices = pa.ListArray.from_arrays(pa.array(offsets), frame_index.flatten().cast(pa.string()))
    texts = [_netstring(flat.field(name)) for name in _CLIP_FIELDS]
    texts.append(_netstring(pc.binary_join(indices, " ")))
    return _join_lists(clips, pc.binary_join_element_wise(*texts, ""))


def _joined(lists: pa.ListArray, fields: tuple[str, ...]) -> pa.StringArray:
    flat = lists.flatten()
    texts = [_netstring(flat.field(name)) for name in fields]
    return _join_lists(lists, pc.binary_join_element_wise(*texts, ""))


def _join_lists(lists: pa.ListArray, texts: pa.StringArray) -> pa.StringArray:
    offsets = pc.subtract(lists.offsets, lists.offsets[0])  # `flatten` starts at the first row's values
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), "")


def _netstring(values: pa.Array) -> pa.StringArray:
    texts = values.cast(pa.string())
    return pc.binary_join_element_wise(pc.binary_length(texts).cast(pa.string()), ":", texts, ",", "")
