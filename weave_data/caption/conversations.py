"""Turns of a conversation, as columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from weave_data.records import PLAN_SCHEMA

__all__ = ["IMAGE_TOKEN", "make_conversations"]

IMAGE_TOKEN = "<image>"  # noqa: S105 (where the frames go, not a secret)
"""Stands for all frames of a sample; the trainer replaces it."""

_TURNS = PLAN_SCHEMA.field("conversations").type


def make_conversations(prompt: str, answers: pa.StringArray) -> pa.ListArray:
    """One human turn that asks and one gpt turn that answers, per sample.

    Args:
        prompt: What the human asks; the image token and a line break go before it.
        answers: string[n].

    Returns:
        list<struct{from, value}>[n], two turns each.

    Source:
        VideoWeave's records: the human turn is the token, a line break and the prompt, then gpt.
    """
    num_samples = len(answers)
    speakers = pa.array(["human", "gpt"]).take(pa.array(np.tile([0, 1], num_samples)))
    # place 0 is the question, the rest are the answers: 0, 1, 0, 2, 0, 3, ...
    values = pa.concat_arrays([pa.array([f"{IMAGE_TOKEN}\n{prompt}"]), answers])
    places = np.zeros(2 * num_samples, dtype=np.int64)
    places[1::2] = np.arange(1, num_samples + 1)
    turns = pa.StructArray.from_arrays(
        [speakers, values.take(pa.array(places))], fields=list(_TURNS.value_type)
    )
    offsets = np.arange(0, 2 * num_samples + 1, 2, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), turns, type=_TURNS)
