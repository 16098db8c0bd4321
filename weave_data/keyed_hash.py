"""Counter-based randomness: the hash of (key, id) decides, so neither order nor workers can.

Splits, the order of clips within a group and the order of samples within a shard all come from
here. An id's hash does not depend on which other ids there are, so a subset keeps its relative
order and more input never reshuffles what was there.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["keyed_hashes", "keyed_ranks"]


def keyed_hashes(ids: pa.Array | pa.ChunkedArray, *, key: str) -> npt.NDArray[np.uint64]:
    """Hash every id under a key: 8 bytes of blake2b, uniform over uint64.

    Args:
        ids: string[n], no nulls.
        key: What the hash is for, with the seed if there is one; at most 64 bytes.

    Returns:
        uint64[n], in the order of `ids`.
    """
    secret = key.encode()
    # one digest per id is the price (about 1 us); Arrow and numpy have no keyed hash
    digests = b"".join(
        [
            hashlib.blake2b(item, digest_size=8, key=secret).digest()
            for item in ids.cast(pa.binary()).to_pylist()
        ]
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def keyed_ranks(ids: pa.Array | pa.ChunkedArray, *, key: str) -> npt.NDArray[np.int64]:
    """Position of each id in the keyed permutation of all of them.

    Args:
        ids: string[n], ascending and distinct: equal hashes then rank by id.
        key: As for `keyed_hashes`.

    Returns:
        int64[n], a permutation of 0..n-1.
    """
    order = np.argsort(keyed_hashes(ids, key=key), kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks
