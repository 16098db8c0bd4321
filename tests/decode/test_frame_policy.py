"""Frame policies against their definitions, and draws that only their own key decides."""

from __future__ import annotations

import json
from fractions import Fraction
from math import floor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.frame_policy import GRID, FrameAsk, random_sorted_table

LENGTHS = st.integers(1, 3000)
COUNTS = st.integers(1, 40)


def seconds_of(length: int, rate: Fraction) -> np.float32:
    return np.float32(float((length - 1) / rate))


def repeated_last(length: int, count: int) -> list[int]:
    return [min(index, length - 1) for index in range(count)]


@given(length=LENGTHS, count=COUNTS)
def test_linspace_and_segment_centers_are_their_definitions(length: int, count: int) -> None:
    linspace = np.linspace(0, length - 1, count).astype(int).tolist()
    centers = [floor(Fraction(2 * i + 1, 2) * length / count) for i in range(count)]
    is_long = length >= count
    assert FrameAsk("linspace", count).indices(length, 0).tolist() == (
        linspace if is_long else repeated_last(length, count)
    )
    assert FrameAsk("segment-center", count).indices(length, 0).tolist() == (
        centers if is_long else repeated_last(length, count)
    )


@given(
    length=LENGTHS,
    count=COUNTS,
    shown=st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)]),
    rate=st.sampled_from([1.0, 2.0, 2.5, 8.0, 120.0]),
)
def test_fps_takes_the_frame_on_the_screen_at_each_instant(length, count, shown, rate) -> None:
    indices = FrameAsk("fps", count, rate).indices(length, seconds_of(length, shown)).tolist()
    instants = [floor(i * shown / Fraction(rate)) for i in range(count)]
    expected = [min(index, length - 1) for index in instants]
    assert indices == (expected if length >= count else repeated_last(length, count))


def test_the_documented_examples_hold() -> None:
    assert FrameAsk("segment-center", 4).indices(10, 0).tolist() == [1, 3, 6, 8]
    assert FrameAsk("fps", 4, 2.0).indices(9, 2.0).tolist() == [0, 2, 4, 6]
    assert FrameAsk("fps", 4, 2.0).indices(9, 0.0).tolist() == [0, 8, 8, 8]  # all at one time
    assert FrameAsk("fps", 3, 1.0).indices(1, 0.0).tolist() == [0, 0, 0]
    assert FrameAsk("linspace", 32) == GRID


@settings(deadline=None)
@given(lengths=st.lists(LENGTHS, max_size=6), count=COUNTS, rate=st.sampled_from([0.5, 3.0]))
def test_many_clips_are_each_as_one(lengths: list[int], count: int, rate: float) -> None:
    seconds = np.array([seconds_of(length, Fraction(25)) for length in lengths], dtype=np.float32)
    for ask in (FrameAsk("linspace", count), FrameAsk("segment-center", count), FrameAsk("fps", count, rate)):
        table = ask.table(np.array(lengths, dtype=np.int32), seconds)
        assert (table.dtype, table.shape) == (np.int32, (len(lengths), count))
        for row, length, span in zip(table, lengths, seconds, strict=True):
            assert row.tolist() == ask.indices(length, float(span)).tolist()
            assert (np.diff(row) >= 0).all()
            assert row[-1] < length


@pytest.mark.parametrize(
    "make",
    [
        lambda: FrameAsk("linspace", 0),
        lambda: FrameAsk("linspace", 4, 2.0),
        lambda: FrameAsk("fps", 4),
        lambda: FrameAsk("fps", 4, 0.0),
        lambda: FrameAsk("linspace", 4).indices(0, 0.0),
        lambda: random_sorted_table(np.array([90]), 33, pa.array(["a"]), seed=1, epoch=0),
    ],
)
def test_what_can_not_be_asked_is_refused(make) -> None:
    with pytest.raises(ValueError, match="ask|rate"):
        make()


def test_asks_survive_json() -> None:
    for ask in (GRID, FrameAsk("fps", 4, 2.5), FrameAsk("segment-center", 7)):
        assert FrameAsk.from_json(ask.to_json()) == ask


@settings(deadline=None)
@given(lengths=st.lists(LENGTHS, min_size=1, max_size=8), count=st.integers(1, 32), epoch=st.integers(0, 9))
def test_draws_are_distinct_ascending_candidates_of_the_grid(lengths, count, epoch) -> None:
    keys = pa.array([f"clip-{index}" for index in range(len(lengths))])
    table = random_sorted_table(np.array(lengths), count, keys, seed=3, epoch=epoch)
    for row, length in zip(table.tolist(), lengths, strict=True):
        if length < count:
            assert row == repeated_last(length, count)
            continue
        assert row == sorted(set(row))
        assert set(row) <= set(GRID.indices(length, 0).tolist())


def test_a_draw_depends_on_key_seed_and_epoch_only() -> None:
    lengths, keys = np.full(400, 300), pa.array([f"clip-{index}" for index in range(400)])
    base = random_sorted_table(lengths, 4, keys, seed=1, epoch=0)
    backwards = random_sorted_table(lengths, 4, keys[::-1], seed=1, epoch=0)
    np.testing.assert_array_equal(base, backwards[::-1])
    for seed, epoch in ((2, 0), (1, 1)):
        other = random_sorted_table(lengths, 4, keys, seed=seed, epoch=epoch)
        assert (base != other).any(axis=1).mean() > 0.95
    assert len(np.unique(base, axis=0)) > 350


def test_every_candidate_is_drawn_equally_often() -> None:
    keys = pa.array([f"clip-{index}" for index in range(8000)])
    table = random_sorted_table(np.full(8000, 32), 4, keys, seed=1, epoch=0)
    shares = np.bincount(table.ravel(), minlength=32) / 8000
    assert np.abs(shares - 4 / 32).max() < 0.02  # five standard deviations


@pytest.mark.parametrize(
    ("span", "expected"),
    [((0.0, 2.0), [0, 3, 7]), ((0.0, 9.0), [0, 4, 8]), ((1.0, 2.0), [4, 5, 7]), ((1.9, 1.95), [8, 8, 8]),
     ((5.0, 1e30), [8, 8, 8]), ((0.0, 0.01), [0, 0, 0])],
)  # fmt: skip
def test_a_span_takes_the_frames_presented_within_it(span, expected) -> None:
    ask = FrameAsk("linspace", 3, span_seconds=span)
    assert ask.indices(9, 2.0).tolist() == expected  # a frame every quarter of a second
    assert FrameAsk.from_json(json.loads(json.dumps(ask.to_json()))) == ask


def test_a_span_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="must start at 0 or later and stop after its start"):
        FrameAsk("linspace", 3, span_seconds=(2.0, 1.0))
