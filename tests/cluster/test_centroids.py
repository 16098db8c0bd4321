"""Claims about frozen centroids, drift, and labels of clips that must not meet."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pytest
from clouds import cloud, names
from test_groups import group, members

from weave_data.cluster import (
    apart_labels,
    drift,
    fit_centroids,
    mean_pair_cosine,
    measure_distances,
)
from weave_data.cluster import centroids as module
from weave_data.cluster.centroids import nearest_centroids, train_centroids
from weave_data.cluster.cosines import SCALE, UnitRows, quantize
from weave_data.cluster.drift import CentroidDistances
from weave_data.config.groups import GroupsConfig
from weave_data.errors import VerificationError


def test_a_grown_catalog_keeps_the_clusters_of_its_old_clips() -> None:
    clip_ids, vectors = names(1500), cloud(1500, seed=3)
    centroids = fit_centroids(vectors[:1000], 7)
    assert centroids.dtype == np.float32
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(np.ones(4), abs=1e-4)
    small = group(clip_ids[:1000], vectors[:1000], centroids=centroids).table
    large = group(clip_ids, vectors, centroids=centroids).table
    cluster_of = dict(zip(large["clip_id"].to_pylist(), large["cluster_id"].to_pylist(), strict=True))
    assert [cluster_of[clip] for clip in small["clip_id"].to_pylist()] == small["cluster_id"].to_pylist()
    assert set(small["cluster_id"].to_pylist()) == {0, 1, 2, 3}
    trained = mean_pair_cosine(group(clip_ids, vectors).table, clip_ids, vectors)
    assert mean_pair_cosine(large, clip_ids, vectors) > 0.98 * trained


def test_centroids_are_the_same_from_a_memory_map_of_half_precision(tmp_path) -> None:
    vectors = cloud(900, dim=32).astype(np.float16)
    vectors.tofile(tmp_path / "vectors")
    mapped = np.memmap(tmp_path / "vectors", dtype=np.float16, mode="r", shape=vectors.shape)
    assert np.array_equal(fit_centroids(mapped, 1), fit_centroids(vectors.astype(np.float32), 1))
    assert not np.array_equal(fit_centroids(mapped, 1), fit_centroids(mapped, 2))
    assert group(names(900), mapped).table.equals(group(names(900), vectors).table)


def test_centroids_of_another_model_are_refused() -> None:
    with pytest.raises(VerificationError, match=r"centroids have shape \(2, 32\), the clips' vectors 64"):
        group(names(50), cloud(50), centroids=cloud(2, dim=32))


def test_centroids_of_two_levels_are_as_near_as_those_of_one(monkeypatch) -> None:
    vectors = cloud(6000, dim=32, num_clusters=300, noise=0.5, seed=8)
    rows, ranks = UnitRows(vectors, np.arange(6000)), np.random.default_rng(0).permutation(6000)
    train = functools.partial(train_centroids, rows, ranks, rows_per_cluster=32)
    two, again = (train(seed=3) for _ in range(2))
    monkeypatch.setattr(module, "_TWO_LEVEL_CLUSTERS", 10_000)
    one = train(seed=3)
    assert two.shape == one.shape == (188, 32)
    assert np.array_equal(two, again)
    assert not np.array_equal(two, one)
    near_two, near_one = (nearest_centroids(rows, found, 1)[1].mean() for found in (two, one))
    assert near_two > 0.99 * near_one


def test_the_nearest_centroids_come_in_order_and_ties_go_to_the_lower_id() -> None:
    centroids = quantize(cloud(40, dim=8, seed=1))
    centroids[[7, 30]] = centroids[3]
    rows = UnitRows(cloud(500, dim=8, seed=2), np.arange(500))
    ids, cosines = nearest_centroids(rows, centroids, 5)
    products = rows.take(np.arange(500)) @ centroids.T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :5]
    assert np.array_equal(ids, expected)
    assert cosines == pytest.approx(np.take_along_axis(products, expected, axis=1) / SCALE**2)


def test_drift_is_near_zero_for_more_of_the_same_and_large_for_something_else() -> None:
    vectors = cloud(3000, seed=5)
    centroids = fit_centroids(vectors[:2000], 0)
    old, same = (measure_distances(part, centroids) for part in (vectors[:2000], vectors[2000:]))
    assert abs(drift(old, same).shift) < 0.2
    other = measure_distances(cloud(500, seed=99), centroids)
    assert drift(old, other).shift > 1
    nearest = (vectors[2000:] @ centroids.T).max(axis=1)
    assert (same.num_clips, same.mean) == (1000, pytest.approx(1 - nearest.mean(), abs=1e-3))
    assert same.deviation == pytest.approx(nearest.std(), abs=1e-3)
    assert CentroidDistances.from_json(old.to_json()) == old


def test_drift_without_clips_is_not_a_number() -> None:
    none = measure_distances(cloud(0), cloud(2))
    assert none == CentroidDistances(0, 0.0, 0.0)
    assert np.isnan(drift(none, CentroidDistances(2, 0.5, 0.1)).shift)
    assert drift(none, none).to_json()["shift"] is None
    assert drift(CentroidDistances(1, 0.5, 0.0), CentroidDistances(1, 0.75, 0.0)).shift == np.inf


def test_copies_and_pages_are_joined_and_unknown_pages_keep_nothing_apart() -> None:
    ids = pa.array(["a", "b", "c", "d", "e", "f"])
    copies = pa.table({"clip_id": ["c", "x", "f"], "duplicate_of": ["a", "b", "gone"]})
    pages = pa.array(["p", "", "q", "q", "", ""])
    assert apart_labels(ids).tolist() == [0, 1, 2, 3, 4, 5]
    assert apart_labels(ids, duplicates=copies).tolist() == [0, 1, 0, 2, 3, 4]
    assert apart_labels(ids, pages=pages).tolist() == [0, 1, 2, 2, 3, 4]
    both = apart_labels(pa.chunked_array([ids]), duplicates=copies, pages=pa.chunked_array([pages]))
    assert both.tolist() == [0, 1, 0, 0, 2, 3]


def test_clips_of_one_page_share_no_group() -> None:
    ids = names(120)
    pages = pa.array([f"page {number % 30}" for number in range(120)])
    page_of = dict(zip(ids.to_pylist(), pages.to_pylist(), strict=True))
    found = group(ids, cloud(120), labels=apart_labels(ids, pages=pages))
    assert len(found.dropped) == 0
    assert all(len({page_of[clip] for clip in clips}) == 4 for clips in members(found.table))


def test_groups_are_free_and_fitted_unless_configured() -> None:
    assert GroupsConfig().model_dump() == {"near_duplicates": None, "same_page": "allow", "centroids": "fit"}
