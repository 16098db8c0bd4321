"""Which frames of a clip a policy takes: numpy only, shared by decoding and by the plan.

    linspace        k = 4 of n = 10 presented frames  ->  0, 3, 6, 9   (both ends, as VideoWeave samples)
    segment-center  k = 4 of n = 10                   ->  1, 3, 6, 8   (the middle of each quarter)
    fps             k = 4, rate 2 Hz, 9 frames in 2 s ->  0, 2, 4, 6   (half a second apart, from the start)
    any             k = 4 of n = 2                    ->  0, 1, 1, 1   (the last frame is repeated)

The plan is made before any pixel of a recipe is read and decoding before any plan, so both must
compute the same indices from (n, seconds, k) alone. A policy that draws anew in every epoch takes
its frames from `GRID`, which is what is stored for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GRID", "FrameAsk", "linspace_indices", "linspace_table", "random_sorted_table"]

Policy = Literal["linspace", "segment-center", "fps"]

# `source_seconds` is a float32: a time that falls on a frame must not slip to the one before it
_ROUNDING = 1 + 2.0**-22

_CHUNK_ROWS = 1 << 16
_GOLDEN, _MIX_1, _MIX_2 = (
    np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@dataclass(frozen=True)
class FrameAsk:
    """`count` frames of a clip, chosen by a policy.

    Attributes:
        policy: `linspace`, `segment-center` or `fps`.
        count: k, at least 1.
        rate: Frames per second of policy `fps`; None for the others.
        span_seconds: Only frames presented in [start, stop), counted from the first one; at least one frame
            near its start is there. None takes the whole clip.
    """

    policy: Policy
    count: int
    rate: float | None = None
    span_seconds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"asked for {self.count} frames; ask for at least 1")
        if (self.rate is not None) != (self.policy == "fps") or (self.rate is not None and self.rate <= 0):
            raise ValueError(f"rate {self.rate}: policy fps, and only it, takes a rate above 0")
        if self.span_seconds is not None and not 0 <= self.span_seconds[0] < self.span_seconds[1]:
            raise ValueError(f"span {self.span_seconds}: must start at 0 or later and stop after its start")

    def indices(self, num_source_frames: int, source_seconds: float) -> npt.NDArray[np.int32]:
        """The asked frames of one clip.

        Args:
            num_source_frames: n, at least 1.
            source_seconds: Presentation time of its last frame minus that of the first.

        Returns:
            int32[count], ascending, within [0, n). A clip with n < count gives 0..n-1 and then n-1.

        Raises:
            ValueError: n is below 1.
        """
        return self.table(np.array([num_source_frames]), np.array([source_seconds], dtype=np.float32))[0]

    def table(
        self, source_frames: npt.NDArray[np.integer], source_seconds: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int32]:
        """`indices` of many clips.

        Args:
            source_frames: integer[m], the n of each clip, at least 1.
            source_seconds: float32[m].

        Returns:
            int32[m, count].

        Raises:
            ValueError: As `indices`.
        """
        lengths = np.asarray(source_frames, dtype=np.int64)
        if len(lengths) and lengths.min() < 1:
            raise ValueError(
                f"asked for {self.count} frames of {lengths.min()}; both must be at least 1, "
                "reject clips without frames first"
            )
        seconds = np.asarray(source_seconds, dtype=np.float32)
        first, lengths, seconds = self._within_span(lengths, seconds)
        steps = np.arange(self.count, dtype=np.int64)
        indices = np.minimum(steps[None], lengths[:, None] - 1).astype(np.int32)
        is_long = lengths >= self.count
        indices[is_long] = self._of_long_clips(lengths[is_long], seconds[is_long], steps)
        return indices + first[:, None]

    def _within_span(
        self, lengths: npt.NDArray[np.int64], seconds: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """First frame, count and seconds of the asked part: 9 frames in 2 s, [1, 2) -> 4, 4, .75."""
        if self.span_seconds is None:
            return np.zeros(len(lengths), dtype=np.int32), lengths, seconds
        last = (lengths - 1).astype(np.float64)
        spread = np.maximum(seconds.astype(np.float64), 1e-9)
        start, stop = (
            np.minimum(np.ceil(edge * last / spread / _ROUNDING), 2.0**53).astype(np.int64)
            for edge in self.span_seconds
        )
        first = np.minimum(start, lengths - 1)
        within = np.maximum(np.minimum(stop, lengths) - first, 1)
        share = (within - 1) / np.maximum(last, 1.0)
        return first.astype(np.int32), within, (seconds * share).astype(np.float32)

    def _of_long_clips(
        self, lengths: npt.NDArray[np.int64], seconds: npt.NDArray[Any], steps: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int32]:
        match self.policy:
            case "linspace":
                return linspace_table(lengths, self.count)
            case "segment-center":
                return ((2 * steps + 1) * lengths[:, None] // (2 * self.count)).astype(np.int32)
            case "fps":
                last = (lengths - 1)[:, None].astype(np.float64)
                # a clip whose frames all have one time has gone past them at any later one
                span = np.maximum(seconds.astype(np.float32).astype(np.float64), 1e-9)[:, None]
                wanted = np.floor(steps * last / span / float(self.rate or 1.0) * _ROUNDING)
                return np.minimum(wanted, last).astype(np.int32)
            case _:
                assert_never(self.policy)

    def to_json(self) -> dict[str, Any]:
        """Plain dict for keys and messages."""
        values: dict[str, Any] = {"policy": self.policy, "count": self.count}
        if self.rate is not None:
            values["rate"] = self.rate
        if self.span_seconds is not None:
            values["span_seconds"] = list(self.span_seconds)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FrameAsk:
        """Inverse of `to_json`."""
        span = values.get("span_seconds")
        rate = values.get("rate")
        return cls(values["policy"], values["count"], rate, None if span is None else (span[0], span[1]))


GRID = FrameAsk("linspace", 32)
"""The candidates of policies that draw frames: what is stored for them."""


def linspace_indices(num_source_frames: int, num_frames: int) -> npt.NDArray[np.int32]:
    """Choose `num_frames` indices of a clip with `num_source_frames` presented frames.

    Indices repeat when the clip has fewer frames than asked, spread over the clip as VideoWeave does;
    `FrameAsk` repeats the last frame instead.

    Args:
        num_source_frames: n, at least 1.
        num_frames: k, at least 1; k = 1 takes the first frame.

    Returns:
        int32[k], ascending, within [0, n).

    Raises:
        ValueError: n or k is below 1.

    Source:
        VideoWeave, `np.linspace(0, n - 1, k).astype(int)` to the last bit of rounding.
    """
    if num_source_frames < 1 or num_frames < 1:
        raise ValueError(
            f"asked for {num_frames} frames of {num_source_frames}; both must be at least 1, "
            "reject clips without frames first"
        )
    return np.linspace(0, num_source_frames - 1, num_frames).astype(np.int32)


def linspace_table(source_frames: npt.NDArray[np.integer], num_frames: int) -> npt.NDArray[np.int32]:
    """`linspace_indices` of many clips.

    Args:
        source_frames: integer[m], the n of each clip, at least 1.
        num_frames: k, at least 1.

    Returns:
        int32[m, k].

    Raises:
        ValueError: As `linspace_indices`.
    """
    # np.linspace over an array of stops rounds otherwise than over one stop when any step is zero,
    # so each distinct length (a few thousand at most) is computed by the scalar form.
    lengths, inverse = np.unique(source_frames, return_inverse=True)
    rows = np.empty((len(lengths), num_frames), dtype=np.int32)
    for row, length in enumerate(lengths):
        rows[row] = linspace_indices(int(length), num_frames)
    return rows[inverse]


def random_sorted_table(
    source_frames: npt.NDArray[np.integer],
    count: int,
    keys: pa.Array | pa.ChunkedArray,
    *,
    seed: int,
    epoch: int,
) -> npt.NDArray[np.int32]:
    """Draw `count` distinct frames of each clip among its `GRID`, ascending, anew in every epoch.

    A clip's draw depends on its key, the seed and the epoch only: neither order nor other clips matter.

    Args:
        source_frames: integer[m], the n of each clip, at least 1.
        count: k, from 1 to `GRID.count`.
        keys: string[m], what is drawn for (a clip's or sample's id).
        seed: Of the recipe.
        epoch: Its number.

    Returns:
        int32[m, count]; a clip with n < count gives 0..n-1 and then n-1.

    Raises:
        ValueError: count is above `GRID.count`, or count or an n is below 1.
    """
    from weave_data.keyed_hash import keyed_hashes  # decoder processes must not pay for pyarrow

    if count > GRID.count:
        raise ValueError(f"asked for {count} frames of a grid of {GRID.count}; ask for fewer")
    indices = FrameAsk("linspace", count).table(source_frames, np.zeros(len(source_frames), np.float32))
    states = keyed_hashes(keys, key=f"frames/{seed}/{epoch}")
    for start in range(0, len(states), _CHUNK_ROWS):  # 32 ranks of 8 bytes a clip
        rows = slice(start, start + _CHUNK_ROWS)
        indices[rows] = _drawn(np.asarray(source_frames[rows]), indices[rows], states[rows])
    return indices


def _drawn(
    lengths: npt.NDArray[np.integer], short: npt.NDArray[np.int32], states: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int32]:
    """The draws of clips with n >= k; rows of `short` for the others."""
    count = short.shape[1]
    candidates = GRID.table(lengths, np.zeros(len(lengths), np.float32))
    ranks = _splitmix(states[:, None] + np.arange(1, GRID.count + 1, dtype=np.uint64)[None] * _GOLDEN)
    ranks[np.arange(GRID.count)[None] >= lengths[:, None]] = np.iinfo(np.uint64).max  # no such candidate
    chosen = np.sort(np.argsort(ranks, axis=1, kind="stable")[:, :count], axis=1)
    drawn = np.take_along_axis(candidates, chosen, axis=1)
    return np.where((lengths >= count)[:, None], drawn, short)


def _splitmix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix counters into independent uniform words.

    Source:
        The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
