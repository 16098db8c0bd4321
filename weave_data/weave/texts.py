"""What each sample says: the prompt and the captions of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption import choose_prompts, join_captions, make_conversations
from weave_data.config import RecipeConfig
from weave_data.weave.frames import frame_seconds

if TYPE_CHECKING:
    from weave_data.weave.rows import Members

__all__ = ["sample_turns"]


def sample_turns(
    members: Members,
    recipe: RecipeConfig,
    indices: npt.NDArray[np.int32],
    *,
    epoch: int,
    frames: pa.Table,
    prompts: Sequence[str],
) -> pa.ListArray:
    """Conversations of woven samples: list<struct{from, value}>[g].

    Args:
        members: Whose captions go together.
        recipe: Join style and seeds.
        indices: int32, the frames taken, one clip after the other.
        epoch: Another epoch draws another prompt.
        frames: Addresses of the stored frames, for the times of join style `timed`.
        prompts: What to choose from.
    """
    clips = members.clips
    captions = clips["caption"].combine_chunks()
    clip_ids = clips["clip_id"].combine_chunks()
    seconds = None
    if recipe.caption_join == "timed":
        seconds = frame_seconds(frames, clip_ids, members.frame_counts, indices)
    offsets = pa.array(members.offsets)
    answers = join_captions(
        pa.ListArray.from_arrays(offsets, captions), style=recipe.caption_join, seconds=seconds
    )
    if len(prompts) == 1:
        return make_conversations(prompts[0], answers)
    names = pc.binary_join(pa.ListArray.from_arrays(offsets, clip_ids), "\n")
    keys = pc.binary_join_element_wise(str(epoch), names, "\n")
    seed = recipe.seed if recipe.prompts is None else recipe.prompts.seed
    return make_conversations(choose_prompts(prompts, keys, seed=seed), answers)
