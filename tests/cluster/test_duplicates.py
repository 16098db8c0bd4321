"""Claims about clips that look alike."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from clouds import cloud, names, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.cluster import duplicates as module
from weave_data.cluster import near_duplicates
from weave_data.cluster.cosines import UnitRows
from weave_data.errors import ConfigError, VerificationError


def with_copies(num_clips: int, num_copies: int, *, blur: float, seed: int = 0) -> np.ndarray:
    """A cloud whose last rows are earlier rows, moved a little."""
    random = np.random.default_rng(seed)
    vectors = cloud(num_clips - num_copies, dim=32, seed=seed)
    copies = vectors[random.integers(0, len(vectors), num_copies)]
    moved = unit(copies + blur * unit(random.standard_normal(copies.shape)))
    return np.concatenate([vectors, moved]).astype(np.float32)


def components(clip_ids: pa.Array, vectors: np.ndarray, min_cosine: float) -> set[frozenset[str]]:
    """Brute force over every pair."""
    ids = clip_ids.to_pylist()
    near = np.argwhere(vectors.astype(np.float64) @ vectors.T >= min_cosine)
    graph = nx.Graph((ids[a], ids[b]) for a, b in near if a != b)
    return {frozenset(found) for found in nx.connected_components(graph)}


def found_components(table: pa.Table) -> set[frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["duplicate_of"], {row["duplicate_of"]}).add(row["clip_id"])
    return {frozenset(group) for group in groups.values()}


@settings(max_examples=25, deadline=None)
@given(num_clips=st.integers(0, 120), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_duplicates_are_the_components_of_all_similar_pairs(num_clips, share, seed) -> None:
    vectors = with_copies(num_clips, int(share * (num_clips // 2)), blur=0.1, seed=seed)
    clip_ids = names(num_clips)
    table = near_duplicates(clip_ids, vectors, min_cosine=0.98)
    assert found_components(table) == components(clip_ids, vectors, 0.98)
    assert table["clip_id"].to_pylist() == sorted(table["clip_id"].to_pylist())
    place = {clip: row for row, clip in enumerate(clip_ids.to_pylist())}
    for row in table.to_pylist():
        assert row["duplicate_of"] < row["clip_id"]
        exact = vectors[place[row["clip_id"]]] @ vectors[place[row["duplicate_of"]]]
        assert row["cosine"] == pytest.approx(exact, abs=2e-3)


def test_copies_are_found_across_the_borders_of_clusters(monkeypatch) -> None:
    monkeypatch.setattr(module, "_CLUSTER_ROWS", 64)
    vectors = with_copies(3000, 600, blur=0.25, seed=1)  # 47 clusters of one cloud without gaps
    expected = components(names(3000), vectors, 0.95)
    found = found_components(near_duplicates(names(3000), vectors.astype(np.float16), min_cosine=0.95))
    assert len(found & expected) >= 0.99 * len(expected) > 300


@pytest.mark.slow
@pytest.mark.parametrize("towards_another", [False, True])
def test_nearly_every_planted_copy_among_twenty_thousand_clips_is_found(towards_another) -> None:
    """Copies at cosines of 0.95 to 0.96: in any direction, or straight towards a clip from elsewhere."""
    random = np.random.default_rng(3)
    vectors = cloud(19_000, dim=512, num_clusters=190, seed=2)
    originals = vectors[random.choice(19_000, 1000, replace=False)].astype(np.float64)
    others = vectors[random.integers(0, 19_000, 1000)] if towards_another else random.normal(size=(1000, 512))
    step = unit(others - (others * originals).sum(axis=1, keepdims=True) * originals)
    cosines = random.uniform(0.951, 0.96, (1000, 1))
    copies = cosines * originals + np.sqrt(1 - cosines**2) * step
    vectors = np.concatenate([vectors, copies]).astype(np.float32)
    expected = components(names(20_000), vectors, 0.95)
    found = found_components(near_duplicates(names(20_000), vectors, min_cosine=0.95))
    assert len(found & expected) >= 0.995 * len(expected)
    assert len(expected) > 900


def test_many_equal_clips_are_one_component_in_small_batches(monkeypatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", 64)
    monkeypatch.setattr(module, "_MAX_EDGES", 1000)
    vectors = np.concatenate([np.tile(cloud(1, seed=4), (500, 1)), cloud(300, seed=5)])
    table = near_duplicates(names(800), vectors, min_cosine=1.0)
    assert len(table) == 499
    assert set(table["duplicate_of"].to_pylist()) == {min(names(500).to_pylist())}
    assert set(table["cosine"].to_pylist()) == {1.0}


def test_equal_clips_are_linked_by_few_pairs() -> None:
    vectors = np.tile(cloud(1, seed=4), (3000, 1))
    rows = UnitRows(vectors, np.arange(3000))
    links = list(module._links(rows, np.arange(3000), 0.9))
    assert sum(len(left) for left, _ in links) < 10 * 3000
    assert (module._components(rows, np.arange(3000), 0.9) == 0).all()


def test_a_chain_of_similar_clips_is_one_component() -> None:
    angles = np.deg2rad([0, 10, 20, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    table = near_duplicates(pa.array(["b", "c", "a", "z"]), vectors, min_cosine=0.98)
    assert table.select(["clip_id", "duplicate_of"]).to_pylist() == [
        {"clip_id": "b", "duplicate_of": "a"},
        {"clip_id": "c", "duplicate_of": "a"},
    ]
    assert table["cosine"].to_pylist() == pytest.approx([np.cos(angles[2]), np.cos(angles[1])], abs=1e-3)


def test_duplicates_do_not_depend_on_the_order_of_the_clips() -> None:
    clip_ids, vectors = names(900), with_copies(900, 200, blur=0.1)
    order = np.random.default_rng(2).permutation(900)
    here = near_duplicates(clip_ids, vectors, min_cosine=0.97)
    there = near_duplicates(clip_ids.take(pa.array(order)), vectors[order], min_cosine=0.97)
    assert here.num_rows > 0
    assert here.equals(there)


@pytest.mark.parametrize("min_cosine", [0.0, 1.01, float("nan")])
def test_a_cosine_out_of_range_is_refused(min_cosine) -> None:
    with pytest.raises(ConfigError, match=r"a cosine within \(0, 1\]"):
        near_duplicates(names(4), cloud(4), min_cosine=min_cosine)


def test_a_vector_is_needed_for_each_clip() -> None:
    with pytest.raises(VerificationError, match=r"each of 4 clips, got shape \(5, 64\)"):
        near_duplicates(names(4), cloud(5), min_cosine=0.9)
