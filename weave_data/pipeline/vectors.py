"""Vectors of chosen clips, from the parts' files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.embed import EmbedReceipt, read_vectors
from weave_data.errors import AccountingError
from weave_data.storage import Store

__all__ = ["read_clip_vectors"]


def read_clip_vectors(
    receipts: Sequence[EmbedReceipt], clip_ids: pa.Array, store: Store
) -> npt.NDArray[np.float16]:
    """Vectors in the order of `clip_ids`: float16[n, dim], one part in memory at a time besides.

    Args:
        receipts: Where each part's vectors lie, in catalog order.
        clip_ids: string[n], a subset of their clips in catalog order: each part's are one run of it, so
            no table of all clips is searched for every part.
        store: The output.

    Raises:
        AccountingError: A clip has no vector, or the order is another.
    """
    found: npt.NDArray[np.float16] | None = None
    start = 0
    for receipt in receipts:
        names, block, _ = read_vectors(store.get(receipt.path))
        if found is None:
            found = np.empty((len(clip_ids), block.shape[1]), dtype=np.float16)
        rows = pc.index_in(clip_ids.slice(start, len(names)), value_set=pa.array(names, pa.string()))
        run = rows.drop_null().to_numpy()
        found[start : start + len(run)] = block[run]
        start += len(run)
    if found is None or start != len(clip_ids):
        raise AccountingError(
            f"{len(clip_ids) - start} of {len(clip_ids)} clips have no vector; run the build again"
        )
    return found
