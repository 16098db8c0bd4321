"""Which frames of a clip are stored, and in which order.

In order of first use by ascending k, so that a recipe reads a prefix where its frames nest:
n = 10, k in (1, 2, 4) -> 0 | 9 | 3, 6. The embedding's m frames count as one more k.
"""

from __future__ import annotations

from collections.abc import Iterable

from weave_data.frame_policy import linspace_indices

__all__ = ["embedding_indices", "wanted_indices"]


def wanted_indices(
    num_source_frames: int, *, frame_counts: Iterable[int], embedding_frames: int | None
) -> list[int]:
    """Distinct indices in stored order.

    Args:
        num_source_frames: n, at least 1.
        frame_counts: The ks; one above n is left out (its recipe rejects the clip as too short).
        embedding_frames: m, or None; a clip with fewer frames gives all of them.
    """
    counts = {count for count in frame_counts if count <= num_source_frames}
    if embedding_frames is not None:
        counts.add(min(embedding_frames, num_source_frames))
    ordered: dict[int, None] = {}
    for count in sorted(counts):
        ordered.update(dict.fromkeys(linspace_indices(num_source_frames, count).tolist()))
    return list(ordered)


def embedding_indices(num_source_frames: int, embedding_frames: int) -> list[int]:
    """Indices of the embedding's frames, ascending: linspace over min(m, n)."""
    return linspace_indices(num_source_frames, min(embedding_frames, num_source_frames)).tolist()
