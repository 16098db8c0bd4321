"""Turns of a conversation, as columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.records import PLAN_SCHEMA

__all__ = ["IMAGE_TOKEN", "make_conversations"]

IMAGE_TOKEN = "<image>"  # noqa: S105 (where the frames go, not a secret)
"""Stands for all frames of a sample; the trainer replaces it."""

_TURNS = PLAN_SCHEMA.field("conversations").type


def make_conversations(prompts: str | pa.StringArray, answers: pa.StringArray) -> pa.ListArray:
    """One human turn that asks and one gpt turn that answers, per sample.

    Args:
        prompts: What the human asks: one text for all samples, or string[n]. The image token and a
            line break go before it.
        answers: string[n].

    Returns:
        list<struct{from, value}>[n], two turns each.

    Raises:
        ValueError: Not as many prompts as answers.

    Source:
        VideoWeave's records: the human turn is the token, a line break and the prompt, then gpt.
    """
    num_samples = len(answers)
    if isinstance(prompts, str):
        asked, asked_places = pa.array([f"{IMAGE_TOKEN}\n{prompts}"]), np.zeros(num_samples, np.int64)
    elif len(prompts) == num_samples:
        asked = pc.binary_join_element_wise(IMAGE_TOKEN, prompts, "\n")
        asked_places = np.arange(num_samples)
    else:
        raise ValueError(f"{len(prompts)} prompts for {num_samples} answers; give one text or one each")
    speakers = pa.array(["human", "gpt"]).take(pa.array(np.tile([0, 1], num_samples)))
    values = pa.concat_arrays([asked, answers])
    places = np.empty(2 * num_samples, dtype=np.int64)
    places[0::2] = asked_places
    places[1::2] = np.arange(num_samples) + len(asked)
    turns = pa.StructArray.from_arrays(
        [speakers, values.take(pa.array(places))], fields=list(_TURNS.value_type)
    )
    offsets = np.arange(0, 2 * num_samples + 1, 2, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), turns, type=_TURNS)
