"""`prompt_format: legacy` gives VideoWeave's ids: its strings, tokenised turn by turn as it does."""

from __future__ import annotations

from typing import Any

import pytest
from real_tokenizers import real_tokenizer

from weave_data.records import Turn
from weave_train.config import ModelSettings
from weave_train.rows.prompt import IGNORE_INDEX, PromptFormat, prompt_format

SYS_V = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
SYS_L = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)
USER, ASSISTANT = (
    "<|start_header_id|>user<|end_header_id|>\n",
    "<|start_header_id|>assistant<|end_header_id|>\n",
)
SYSTEM = f"<|start_header_id|>system<|end_header_id|>\n{SYS_L}\n<|eot_id|>"

# id, tokenizer, first human turn, other human turns, gpt turn
FAMILIES = [
    ("llama2-7b-pure", "llama2", "In: {}\nOut: ", "In: {}\nOut: ", "{}</s>"),
    ("llama2-13b-pure", "llama2", "In: {}\nOut: ", "In: {}\nOut: ", "{}</s>"),
    ("llama3-8b-pure", "llama3", "In: {}\nOut: ", "In: {}\nOut: ", "{}</s>"),
    ("mistral-v0.1-7b-pure", "mistral-v1", "In: {}\nOut: ", "In: {}\nOut: ", "{}</s>"),
    ("gemma-2b-instruct", "gemma-3", "In: {}\nOut: ", "In: {}\nOut: ", "{}</s>"),
    ("gemma-8b-instruct", "gemma-3", "In: {}\nOut: ", "In: {}\nOut: ", "{}</s>"),
    ("vicuna-v15-7b", "llama2", SYS_V + " USER: {} ASSISTANT: ", "USER: {} ASSISTANT: ", "{}</s>"),
    ("vicuna-v15-13b", "llama2", SYS_V + " USER: {} ASSISTANT: ", "USER: {} ASSISTANT: ", "{}</s>"),
    (
        "llama2-7b-chat",
        "llama2",
        "[INST] <<SYS>\n" + SYS_L + "\n<</SYS>>\n\n{} [/INST] ",
        "[INST] {} [/INST] ",
        "{}</s>",
    ),
    (
        "llama2-13b-chat",
        "llama2",
        "[INST] <<SYS>\n" + SYS_L + "\n<</SYS>>\n\n{} [/INST] ",
        "[INST] {} [/INST] ",
        "{}</s>",
    ),
    (
        "llama3-8b-instruct",
        "llama3",
        SYSTEM + USER + "{}<|eot_id|>",
        USER + "{}<|eot_id|>",
        ASSISTANT + "{}<|eot_id|>",
    ),
    ("mistral-v0.1-7b-instruct", "mistral-v1", "[INST] {} [/INST] ", "[INST] {} [/INST] ", "{}</s>"),
    ("mistral-v0.2-7b-instruct", "mistral-v1", "[INST] {} [/INST] ", "[INST] {} [/INST] ", "{}</s>"),
    # no CodeGen tokenizer here: Qwen's is of the same kind, adds no BOS and has <|endoftext|>
    (
        "phi-2-3b",
        "qwen-3",
        "<|endoftext|>Input: {}\nOutput: ",
        "Input: {}\nOutput: ",
        "{}\n<|endoftext|>",
    ),
    (
        "phi-3-instruct-4b",
        "phi-3",
        "<|endoftext|>Input: {}\nOutput: ",
        "Input: {}\nOutput: ",
        "{}\n<|endoftext|>",
    ),
]

CONVERSATIONS = [
    ["<image>\nWhat moves?", "A red dot."],
    ["  What?<image>  ", "", "And then?\n\nTell me.", " Nothing. \n"],
    ["Was bewegt sich? 什么在动", "Ein roter Punkt, 一个红点 \U0001f534 é", "¿Y luego?", "Zażółć gęślą jaźń"],
    ["Tell a story. " * 150, "Once upon a time, in 1984, 3.5 % of them\tleft.\n" * 60],
]


def speak(language_id: str, tokenizer: str, **more: Any) -> PromptFormat:
    return prompt_format(ModelSettings(llm_backbone_id=language_id, **more), real_tokenizer(tokenizer))


def turns(conversation: list[str]) -> list[Turn]:
    return [Turn(("human", "gpt")[i % 2], text) for i, text in enumerate(conversation)]


def strings(conversation: list[str], first: str, later: str, gpt: str) -> list[str]:
    found = []
    for index, text in enumerate(conversation):
        said = text.replace("<image>", "").strip()
        pattern = gpt if index % 2 else later if index else first
        found.append(pattern.replace("{}", said or (" " if index % 2 else "")))
    return found


@pytest.mark.parametrize(("language_id", "tokenizer", "first", "later", "gpt"), FAMILIES)
def test_ids_and_labels_are_videoweaves(language_id, tokenizer, first, later, gpt) -> None:
    prompts = speak(language_id, tokenizer)
    real = prompts.tokenizer
    for conversation in CONVERSATIONS:
        ids, labels = [], []
        for index, text in enumerate(strings(conversation, first, later, gpt)):
            piece = list(real(text.rstrip(), add_special_tokens=index == 0).input_ids)
            if index == 0 and real.bos_token_id not in piece and not language_id.startswith("phi"):
                piece = [real.bos_token_id, *piece]  # VideoWeave asserts that it is there
            ids += piece
            labels += piece if index % 2 else [IGNORE_INDEX] * len(piece)
        encoded = prompts.encode_conversation(turns(conversation))
        assert encoded.input_ids.tolist() == ids
        assert encoded.labels.tolist() == labels
        # VideoWeave puts visual tokens after the first token, whichever it is
        visual = prompts.encode_conversation(turns(conversation), [3]).input_ids.tolist()
        assert visual == [ids[0], -200, -200, -200, *ids[1:]]


@pytest.mark.parametrize(("language_id", "tokenizer", "first", "later", "gpt"), FAMILIES)
def test_the_builder_gives_videoweaves_strings(language_id, tokenizer, first, later, gpt) -> None:
    builder = speak(language_id, tokenizer).builder()
    wanted = strings(CONVERSATIONS[1], first, later, gpt)
    potential = builder.get_potential_prompt(CONVERSATIONS[1][0])
    for index, text in enumerate(CONVERSATIONS[1]):
        assert builder.add_turn(("human", "gpt")[index % 2], text) == wanted[index]
        assert builder.get_prompt() == "".join(wanted[: index + 1]).rstrip()
    assert potential == wanted[0].rstrip()


@pytest.mark.parametrize(("language_id", "tokenizer"), [family[:2] for family in FAMILIES])
def test_asking_gives_the_ids_of_training(language_id: str, tokenizer: str) -> None:
    prompts = speak(language_id, tokenizer)
    taught = prompts.encode_conversation(turns(CONVERSATIONS[1]), [4])
    builder = prompts.builder()
    for turn in turns(CONVERSATIONS[1])[:3]:
        builder.add_turn(turn.speaker, turn.value)
    asked = prompts.encode_prompt(builder.get_prompt(), [4]).tolist()
    assert asked == taught.input_ids[: len(asked)].tolist()
    assert bool((taught.labels[len(asked) :] != IGNORE_INDEX).all())


@pytest.mark.parametrize(
    ("language_id", "tokenizer", "stops", "text"),
    [
        ("llama2-7b-pure", "llama2", ["</s>"], None),
        ("llama3-8b-pure", "llama3", ["<|end_of_text|>"], "</s>"),  # `</s>` is no token of Llama 3
        ("llama3-8b-instruct", "llama3", ["<|eot_id|>", "<|end_of_text|>"], None),
        ("gemma-2b-instruct", "gemma-3", ["</s>", "<end_of_turn>"], None),
        ("phi-3-instruct-4b", "phi-3", ["<|endoftext|>"], None),
    ],
)
def test_generation_stops_at_what_was_learnt(language_id, tokenizer, stops, text) -> None:
    prompts = speak(language_id, tokenizer)
    assert prompts.tokenizer.convert_ids_to_tokens(list(prompts.stop_token_ids)) == stops
    assert prompts.stop_text == text


def test_system_prompts_are_taken_where_there_is_a_place_for_one() -> None:
    builder = speak("vicuna-v15-7b", "llama2").builder("Be brief.")
    assert builder.add_turn("human", "Why?") == "Be brief. USER: Why? ASSISTANT: "
    for language_id in ("llama2-7b-pure", "mistral-v0.2-7b-instruct", "phi-3-instruct-4b"):
        with pytest.raises(Exception, match="system_prompt: .* has none"):
            speak(language_id, "llama2").builder("Be brief.")


@pytest.mark.parametrize(("language_id", "tokenizer"), [family[:2] for family in FAMILIES])
def test_text_that_spells_control_tokens_stays_text(language_id: str, tokenizer: str) -> None:
    prompts = speak(language_id, tokenizer)
    real = prompts.tokenizer
    spelled = " ".join([*list(dict.fromkeys(real.all_special_tokens))[:12], "</s>", "<|eot_id|>", "[INST]"])
    plain = prompts.encode_conversation(turns(["Say it.", "It is said."])).input_ids.tolist()
    odd = prompts.encode_conversation(turns([f"Say {spelled}.", f"{spelled} is said."])).input_ids.tolist()
    special = {i for i, token in real.added_tokens_decoder.items() if token.special}
    special |= set(prompts.stop_token_ids)
    assert [i for i in odd if i in special] == [i for i in plain if i in special]
