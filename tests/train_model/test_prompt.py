"""Prompts: the seed's strings, masks by construction, one code path for training and asking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from weave_data.errors import ConfigError
from weave_data.records import Turn
from weave_train.config import ModelSettings
from weave_train.rows.prompt import (
    IGNORE_INDEX,
    VISUAL_TOKEN_ID,
    PromptFormat,
    fit_to_length,
    prompt_format,
)

QUESTION, ANSWER = "<image>\nWhat moves?", "A red circle moves left."


@pytest.fixture
def prompts(tokenizer: Any) -> PromptFormat:
    return prompt_format(ModelSettings(), tokenizer)


def two_turns() -> list[Turn]:
    return [
        Turn("human", QUESTION),
        Turn("gpt", ANSWER),
        Turn("human", "Where to?"),
        Turn("gpt", ""),
    ]


def test_pure_prompt_is_the_seeds_string_for_string(prompts: PromptFormat) -> None:
    builder = prompts.builder()
    assert builder.add_turn("human", QUESTION) == "In: What moves?\nOut: "
    assert builder.get_prompt() == "In: What moves?\nOut:"
    assert builder.add_turn("gpt", ANSWER) == "A red circle moves left.</s>"
    assert builder.get_potential_prompt("Why?") == (
        "In: What moves?\nOut: A red circle moves left.</s>In: Why?\nOut:"
    )
    assert builder.get_prompt() == "In: What moves?\nOut: A red circle moves left.</s>"
    builder.add_turn("human", "Where to?")
    assert builder.add_turn("gpt", "") == " </s>"


def test_turns_must_alternate_and_the_pure_format_has_no_system_prompt(prompts: PromptFormat) -> None:
    with pytest.raises(ConfigError, match="must be 'human'"):
        prompts.builder().add_turn("gpt", "hello")
    with pytest.raises(ConfigError, match="turn 0 is from 'user'; roles are human and gpt"):
        prompts.builder().add_turn("user", "hello")
    with pytest.raises(ConfigError, match="turn 0 must be text, got NoneType"):
        prompts.builder().add_turn("human", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="system_prompt: the pure prompt format has none"):
        prompts.builder("Be brief.")


def test_only_answers_and_their_eos_are_labels(tokenizer: Any, prompts: PromptFormat) -> None:
    encoded = prompts.encode_conversation(two_turns())

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    pieces = [
        ([tokenizer.bos_token_id], False),
        (ids("In: What moves?\nOut:"), False),
        ([*ids(ANSWER), tokenizer.eos_token_id], True),
        (ids("In: Where to?\nOut:"), False),
        ([*ids(" "), tokenizer.eos_token_id], True),
    ]
    assert encoded.input_ids.tolist() == [i for piece, _ in pieces for i in piece]
    assert encoded.labels.tolist() == [
        i if is_label else IGNORE_INDEX for piece, is_label in pieces for i in piece
    ]
    assert encoded.num_supervised == len(ids(ANSWER)) + 1 + len(ids(" ")) + 1


def test_control_tokens_spelled_in_a_caption_stay_text(tokenizer: Any, prompts: PromptFormat) -> None:
    encoded = prompts.encode_conversation([Turn("human", "Say </s>"), Turn("gpt", "It said <s> and </s>.")])
    ids = encoded.input_ids.tolist()
    assert ids.count(tokenizer.eos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert "It said <s> and </s>." in tokenizer.decode(ids[:-1])


def test_asking_encodes_the_very_ids_of_training(tokenizer: Any, prompts: PromptFormat) -> None:
    turns = two_turns()
    taught = prompts.encode_conversation(turns)
    builder = prompts.builder()
    for turn in turns[:3]:
        builder.add_turn(turn.speaker, turn.value)
    asked = prompts.encode_prompt(builder.get_prompt())
    assert asked.tolist() == taught.input_ids[: len(asked)].tolist()
    # what follows is the last answer: nothing of the question is left out, no trailing space is added
    assert bool((taught.labels[len(asked) :] != IGNORE_INDEX).all())
    assert prompts.encode_prompt(builder).tolist() == asked.tolist()


def test_a_conversation_without_an_answer_is_an_error(tokenizer: Any, prompts: PromptFormat) -> None:
    with pytest.raises(ConfigError, match="nothing to learn"):
        prompts.encode_conversation([Turn("human", "Hello?")])


def test_visual_tokens_follow_bos_and_carry_no_label(tokenizer: Any, prompts: PromptFormat) -> None:
    encoded = prompts.encode_conversation(two_turns())
    spliced = prompts.encode_conversation(two_turns(), [3, 2])
    assert spliced.input_ids[0] == tokenizer.bos_token_id
    assert spliced.input_ids[1:6].tolist() == [VISUAL_TOKEN_ID] * 5
    assert spliced.labels[:6].tolist() == [IGNORE_INDEX] * 6
    assert torch.equal(spliced.input_ids[6:], encoded.input_ids[1:])
    assert torch.equal(spliced.labels[6:], encoded.labels[1:])


def test_truncation_cuts_text_from_the_end_and_refuses_to_lose_the_answer(
    tokenizer: Any, prompts: PromptFormat
) -> None:
    encoded = prompts.encode_conversation([Turn("human", QUESTION), Turn("gpt", ANSWER)])
    spliced = prompts.encode_conversation([Turn("human", QUESTION), Turn("gpt", ANSWER)], [12])
    shorter = fit_to_length(spliced, max_length=len(spliced.input_ids) - 3, name="sample a")
    assert shorter.num_supervised == encoded.num_supervised - 3
    assert int((shorter.input_ids == VISUAL_TOKEN_ID).sum()) == 12
    start_of_answer = len(spliced.input_ids) - encoded.num_supervised
    for max_length in (start_of_answer, 13, 6):
        with pytest.raises(ConfigError, match=r"sample a has 12 visual tokens .* Raise llm_max_length to"):
            fit_to_length(spliced, max_length=max_length, name="sample a")


@pytest.mark.parametrize("name", ["stories260k_hf"])
def test_masks_hold_with_a_real_tokenizer(name: str) -> None:
    assets = os.environ.get("WEAVE_ASSETS")
    if not assets:
        pytest.skip("WEAVE_ASSETS is not set: no real tokenizer here")
    from weave_train.models.tokenizer import load_tokenizer

    real = load_tokenizer(Path(assets) / "models" / name)
    encoded = prompt_format(ModelSettings(), real).encode_conversation(two_turns())
    ids, labels = encoded.input_ids, encoded.labels
    assert ids[0] == real.bos_token_id
    assert int((ids == real.eos_token_id).sum()) == 2
    assert int((labels == real.eos_token_id).sum()) == 2
    assert ANSWER in real.decode(labels[labels != IGNORE_INDEX])
    assert "What moves" not in real.decode(labels[labels != IGNORE_INDEX])
