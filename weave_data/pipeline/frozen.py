"""Centroids that a grown catalog is grouped by: fitted once, committed, and how far new clips lie."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weave_data.cluster import CentroidDistances, Drift, drift, fit_centroids, measure_distances
from weave_data.records import content_key
from weave_data.storage import Store, commit_first
from weave_data.tables import read_table_bytes, table_bytes

__all__ = ["FrozenCentroids", "frozen_centroids"]


class FrozenCentroids(NamedTuple):
    """float32[c, dim] centroids, their sha256, and how the clips at hand lie to them."""

    centroids: npt.NDArray[np.float32]
    sha256: str
    drift: Drift


def frozen_centroids(
    vectors: npt.NDArray[np.floating], *, embed_key: str, seed: int, store: Store
) -> FrozenCentroids:
    """The centroids of an embedder and seed, fitted now when nobody has.

    Args:
        vectors: float16 or float32[n, dim] of the clips at hand.
        embed_key: Of what made the vectors; the catalog does not enter, so a grown one finds the same.
        seed: The recipe's.
        store: The output; first writer wins.
    """
    path = f"groups/centroids-{content_key('centroids', embed_key=embed_key, seed=seed)}.parquet"
    if store.head(path) is None:
        commit_first(store, path, _to_bytes(fit_centroids(vectors, seed), vectors))
    data = store.get(path)
    table = read_table_bytes(data)
    lists = table["centroid"].combine_chunks()
    centroids = np.asarray(lists.flatten(), dtype=np.float32).reshape(len(lists), -1)
    old = CentroidDistances.from_json(json.loads((table.schema.metadata or {})[b"distances"]))
    head = store.head(path)
    sha256 = "" if head is None or head.sha256 is None else head.sha256
    return FrozenCentroids(centroids, sha256, drift(old, measure_distances(vectors, centroids)))


def _to_bytes(centroids: npt.NDArray[np.float32], vectors: npt.NDArray[np.floating]) -> bytes:
    flat = pa.array(np.ascontiguousarray(centroids, dtype=np.float32).ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, centroids.shape[1])
    distances = json.dumps(measure_distances(vectors, centroids).to_json(), sort_keys=True)
    return table_bytes(pa.table({"centroid": lists}).replace_schema_metadata({"distances": distances}))
