"""How alike the clips of a sample are: the tightest and loosest groups, and the same clips shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weave_data.records import WovenSample
from weave_data.report.stored import ReadVectors

__all__ = ["Collage", "ScoredGroup", "make_collage"]

_SHOWN = 3


@dataclass(frozen=True)
class ScoredGroup:
    """Clips put together: a frame and the caption of each, and their mean pair cosine."""

    cosine: float
    clips: tuple[tuple[bytes, str], ...]


@dataclass(frozen=True)
class Collage:
    """Groups of a recipe against the same clips put together at random.

    Attributes:
        tightest: The most alike first.
        loosest: The least alike first.
        shuffled: Some groups of the same sizes, their clips drawn at random.
        cosines: Mean pair cosine of each group looked at.
        shuffled_cosines: The same of the shuffled groups.
    """

    tightest: tuple[ScoredGroup, ...]
    loosest: tuple[ScoredGroup, ...]
    shuffled: tuple[ScoredGroup, ...]
    cosines: tuple[float, ...]
    shuffled_cosines: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the groups."""
        return float(np.mean(self.cosines))

    @property
    def shuffled_mean(self) -> float:
        """Mean over the shuffled groups."""
        return float(np.mean(self.shuffled_cosines))


def make_collage(samples: Sequence[WovenSample], read: ReadVectors, *, seed: int = 7) -> Collage | None:
    """Score samples of two clips or more.

    Args:
        samples: The samples looked at.
        read: Vectors by clip id.
        seed: Of the shuffled groups.

    Returns:
        None when fewer than two samples have two clips with frames, or a vector is not there.
    """
    groups = [s for s in samples if len(s.clips) > 1 and all(clip.num_frames for clip in s.clips)]
    if len(groups) < 2:
        return None
    members = [(sample, slot) for sample in groups for slot in range(len(sample.clips))]
    vectors = read([sample.clips[slot].clip_id for sample, slot in members])
    if vectors is None:
        return None
    starts = np.cumsum([0, *(len(sample.clips) for sample in groups)])
    order = np.random.default_rng(seed).permutation(len(members))
    ours = _cosines(vectors, starts)
    theirs = _cosines(vectors[order], starts)
    ranked = np.argsort(-ours, kind="stable")

    def group(index: int, rows: Sequence[int], cosine: float) -> ScoredGroup:
        chosen = [members[row] for row in rows[starts[index] : starts[index + 1]]]
        return ScoredGroup(cosine, tuple(_middle_frame(sample, slot) for sample, slot in chosen))

    plain, shuffled = range(len(members)), order.tolist()
    half = min(_SHOWN, len(groups) // 2)
    return Collage(
        tightest=tuple(group(int(i), plain, float(ours[i])) for i in ranked[:half]),
        loosest=tuple(group(int(i), plain, float(ours[i])) for i in ranked[::-1][:half]),
        shuffled=tuple(group(i, shuffled, float(theirs[i])) for i in range(half)),
        cosines=tuple(ours.tolist()),
        shuffled_cosines=tuple(theirs.tolist()),
    )


def _cosines(vectors: npt.NDArray[np.float32], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Mean pair cosine of each run `[starts[i], starts[i + 1])`."""
    unit = vectors.astype(np.float64)
    sizes = np.diff(starts)
    sums = np.add.reduceat(unit, starts[:-1], axis=0)
    squares = np.add.reduceat((unit * unit).sum(axis=1), starts[:-1])
    found: npt.NDArray[np.float64] = ((sums * sums).sum(axis=1) - squares) / (sizes * (sizes - 1))
    return found


def _middle_frame(sample: WovenSample, slot: int) -> tuple[bytes, str]:
    frames = [f for f, owner in zip(sample.frames, sample.frame_clip, strict=True) if owner == slot]
    return frames[len(frames) // 2], sample.clips[slot].caption
