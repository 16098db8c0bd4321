"""Which frames of a clip a policy takes: numpy only, shared by decoding and by the plan.

    linspace    k = 4 of n = 10 presented frames  ->  0, 3, 6, 9   (both ends, as VideoWeave samples)

The plan is made before any pixel of a recipe is read and decoding before any plan, so both must
compute the same indices from (n, k) alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["linspace_indices", "linspace_table"]


def linspace_indices(num_source_frames: int, num_frames: int) -> npt.NDArray[np.int32]:
    """Choose `num_frames` indices of a clip with `num_source_frames` presented frames.

    Indices repeat when the clip has fewer frames than asked; callers that need distinct frames
    reject such clips first.

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
