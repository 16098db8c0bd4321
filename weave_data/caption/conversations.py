"""Turns of a conversation, as columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.records import PLAN_SCHEMA

__all__ = ["IMAGE_TOKEN", "make_conversations", "make_dialogues"]

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
    turns = _turns(asked.take(pa.array(asked_places)), answers)
    offsets = np.arange(0, 2 * num_samples + 1, 2, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), turns, type=_TURNS)


def make_dialogues(asked: pa.ListArray, answers: pa.ListArray) -> pa.ListArray:
    """Several questions and answers per sample; the image token goes before the first one alone.

    Args:
        asked: list<string>[n], at least one each.
        answers: list<string>[n], as many.

    Returns:
        list<struct{from, value}>[n], two turns for each question.
    """
    flat, sizes = asked.flatten(), asked.value_lengths().to_numpy(zero_copy_only=False)
    is_first = np.zeros(len(flat), np.bool_)
    is_first[np.cumsum(sizes) - sizes] = True
    with_token = pc.binary_join_element_wise(IMAGE_TOKEN, flat, "\n")
    turns = _turns(pc.if_else(pa.array(is_first), with_token, flat), answers.flatten())
    offsets = 2 * np.concatenate([[0], np.cumsum(sizes)])
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), turns, type=_TURNS)


def _turns(asked: pa.StringArray, answers: pa.StringArray) -> pa.StructArray:
    """human, gpt, human, ...: struct<from, value>[2 n] of n questions and as many answers."""
    num_questions = len(asked)
    speakers = pa.array(["human", "gpt"]).take(pa.array(np.tile([0, 1], num_questions)))
    places = np.arange(2 * num_questions).reshape(2, num_questions).T.ravel()  # 0, n, 1, n + 1, ...
    values = pa.concat_arrays([asked, answers]).take(pa.array(places))
    return pa.StructArray.from_arrays([speakers, values], fields=list(_TURNS.value_type))
