"""What each sample says: the prompt and the captions of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption import (
    ask_about_clips,
    choose_prompts,
    join_captions,
    make_conversations,
    make_dialogues,
)
from weave_data.config import RecipeConfig
from weave_data.keyed_hash import keyed_hashes
from weave_data.weave.frames import frame_seconds

if TYPE_CHECKING:
    from weave_data.caption import ClipQuestions
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
        recipe: Join style, questions and seeds.
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
    if recipe.caption_order == "shuffled":
        captions = captions.take(pa.array(_shuffled_places(members, seed=recipe.seed, epoch=epoch)))
    answers = join_captions(
        pa.ListArray.from_arrays(offsets, captions), style=recipe.caption_join, seconds=seconds
    )
    if len(prompts) == 1 and recipe.clip_questions is None:
        return make_conversations(prompts[0], answers)
    names = pc.binary_join(pa.ListArray.from_arrays(offsets, clip_ids), "\n")
    keys = pc.binary_join_element_wise(str(epoch), names, "\n")
    seed = recipe.seed if recipe.prompts is None else recipe.prompts.seed
    described = make_conversations(choose_prompts(prompts, keys, seed=seed), answers)
    if recipe.clip_questions is None:
        return described
    found = ask_about_clips(pa.ListArray.from_arrays(offsets, captions), keys, recipe.clip_questions)
    return _replaced(described, found)


def _shuffled_places(members: Members, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Whose caption stands at each place: a keyed order of every sample's clips, another in each epoch."""
    hashes = keyed_hashes(members.clips["clip_id"], key=f"caption-order:{seed}:{epoch}")
    samples = np.repeat(np.arange(len(members.sizes)), members.sizes)
    return np.lexsort((hashes, samples))


def _replaced(described: pa.ListArray, found: ClipQuestions) -> pa.ListArray:
    """Questions where a sample has some, its description elsewhere."""
    asked, starts = np.unique(found.samples, return_index=True)
    offsets = pa.array(np.append(starts, len(found.samples)).astype(np.int32))
    dialogues = make_dialogues(
        pa.ListArray.from_arrays(offsets, found.asked), pa.ListArray.from_arrays(offsets, found.answers)
    )
    places = np.arange(len(described))
    places[asked] = len(described) + np.arange(len(asked))
    return pa.concat_arrays([described, dialogues]).take(pa.array(places))
