"""Which frames of each clip a plan takes, and when they are shown."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError
from weave_data.frame_policy import GRID, FrameAsk, random_sorted_table

__all__ = ["frame_asks", "frame_indices", "frame_seconds", "recipe_ask"]

Integers = npt.NDArray[np.int64]


def recipe_ask(recipe: RecipeConfig, count: int) -> FrameAsk:
    """What must be stored of a clip that gives `count` frames to a recipe."""
    if recipe.frame_policy == "random-sorted":
        return GRID
    return FrameAsk(recipe.frame_policy, count, recipe.fps)


def frame_asks(recipes: Iterable[RecipeConfig]) -> tuple[FrameAsk, ...]:
    """Everything some recipes need of a clip, without repeats, in order of first mention."""
    asks = [recipe_ask(recipe, count) for recipe in recipes for count in recipe.clip_frame_counts]
    return tuple(dict.fromkeys(asks))


def frame_indices(
    recipe: RecipeConfig, counts: Integers, clips: pa.Table, *, epoch: int
) -> npt.NDArray[np.int32]:
    """Frame indices of many clips, one clip after the other.

    Args:
        recipe: Its frame policy and seed.
        counts: int64[m], k of each clip.
        clips: clip_id, source_frames and source_seconds of m clips.
        epoch: Policy `random-sorted` draws anew in each.

    Returns:
        int32[sum of counts]; ascending within a clip.
    """
    lengths = clips["source_frames"].to_numpy()
    seconds = clips["source_seconds"].to_numpy()
    stops = np.cumsum(counts)
    flat = np.empty(int(stops[-1]) if len(stops) else 0, dtype=np.int32)
    for count in np.unique(counts).tolist():
        rows = np.flatnonzero(counts == count)
        if recipe.frame_policy == "random-sorted":
            keys = clips["clip_id"].take(pa.array(rows)).combine_chunks()
            table = random_sorted_table(lengths[rows], count, keys, seed=recipe.seed, epoch=epoch)
        else:
            table = recipe_ask(recipe, count).table(lengths[rows], seconds[rows])
        places = (stops[rows] - count)[:, None] + np.arange(count)
        flat[places] = table
    return flat


def frame_seconds(
    frames: pa.Table, clip_ids: pa.Array, counts: Integers, indices: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """Presentation time of the first and last frame taken of each clip.

    Args:
        frames: clip_id, frame_index and frame_seconds of decoded clips (`shard.ADDRESS_SCHEMA`).
        clip_ids: string[m].
        counts: int64[m], at least 1.
        indices: int32[sum of counts], as `frame_indices` gives them.

    Returns:
        float32[m, 2], seconds after each clip's own first frame.

    Raises:
        AccountingError: A frame is not stored.
    """
    rows = pc.index_in(clip_ids, value_set=frames["clip_id"].combine_chunks())
    stored = frames.select(["frame_index", "frame_seconds"]).take(rows).combine_chunks()
    index_lists, second_lists = (stored[name].combine_chunks() for name in ("frame_index", "frame_seconds"))
    sizes = pc.list_value_length(index_lists).to_numpy(zero_copy_only=False)
    keys = np.repeat(np.arange(len(sizes)), sizes) << 32 | index_lists.flatten().to_numpy()
    order = np.argsort(keys)
    stops = np.cumsum(counts)
    wanted = np.stack([indices[stops - counts], indices[stops - 1]], axis=1).astype(np.int64)
    wanted |= np.arange(len(counts))[:, None] << 32
    places = np.searchsorted(keys, wanted.ravel(), sorter=order)
    found = order[np.minimum(places, len(order) - 1)]
    if not np.array_equal(keys[found], wanted.ravel()):
        raise AccountingError("a planned frame is not stored; plan over the addresses of this build")
    times = second_lists.flatten().to_numpy()[found]
    return np.asarray(times, dtype=np.float32).reshape(-1, 2)
