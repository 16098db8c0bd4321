"""Which frames of a clip are stored, and in which order.

In order of first use, `linspace` by ascending k and then the other policies, each ask's new frames at
the end where its known ones lie, so that a recipe reads one run: n = 10, k in (1, 2, 4) -> 0 | 9 | 3, 6.
"""

from __future__ import annotations

from collections.abc import Iterable

from weave_data.frame_policy import FrameAsk

__all__ = ["embedding_indices", "in_storing_order", "wanted_indices"]


def in_storing_order(asks: Iterable[FrameAsk]) -> tuple[FrameAsk, ...]:
    """The distinct asks: linspace by ascending k, then the others by ascending k, policy and rate."""
    return tuple(
        sorted(set(asks), key=lambda ask: (ask.policy != "linspace", ask.count, ask.policy, ask.rate or 0.0))
    )


def wanted_indices(num_source_frames: int, source_seconds: float, asks: Iterable[FrameAsk]) -> list[int]:
    """Distinct indices in stored order.

    An ask for more frames than there are wants all of them: whether a recipe takes short clips is
    decided when its clips are chosen.

    Args:
        num_source_frames: n, at least 1.
        source_seconds: Presentation time of the last frame minus that of the first.
        asks: In any order.
    """
    ordered: list[int] = []
    for ask in in_storing_order(asks):
        wanted = dict.fromkeys(ask.indices(num_source_frames, source_seconds).tolist())
        known = wanted.keys() & set(ordered)
        new = [index for index in wanted if index not in known]
        # 0 9 | 3 6 for k = 4; k = 8 then shares only 0 9, which begin the order: its others go before them
        begins = known == set(ordered[: len(known)]) and len(known) < len(ordered)
        ordered = new + ordered if begins and known else ordered + new
    return ordered


def embedding_indices(num_source_frames: int, embedding_frames: int) -> list[int]:
    """Indices of the embedding's frames, ascending and distinct: linspace over min(m, n)."""
    return wanted_indices(num_source_frames, 0.0, [FrameAsk("linspace", embedding_frames)])
