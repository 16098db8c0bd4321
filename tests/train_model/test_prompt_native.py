"""`prompt_format: native` gives the ids of transformers' `apply_chat_template` on the same conversation."""

from __future__ import annotations

from typing import Any

import pytest
from real_tokenizers import TOKENIZERS, real_tokenizer
from test_prompt_legacy import CONVERSATIONS, speak, turns

from weave_data.errors import ConfigError
from weave_train.rows.prompt import IGNORE_INDEX, PromptFormat

# as the families publish them
LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' '  + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
)
MISTRAL_V1 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ ' [INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token}}{% endif %}{% endfor %}"
)
MISTRAL_V3 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token}}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
    "{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
)

# id, tokenizer, template (None: its own), what ends an answer
FAMILIES = [
    ("llama2-7b-chat", "llama2", LLAMA2, "</s>"),
    ("llama3-8b-instruct", "llama3", LLAMA3, "<|eot_id|>"),
    ("mistral-v0.1-7b-instruct", "mistral-v1", MISTRAL_V1, "</s>"),
    ("mistral-v0.2-7b-instruct", "mistral-v1", MISTRAL_V1, "</s>"),
    ("mistral-v0.2-7b-instruct", "mistral-v3", MISTRAL_V3, "</s>"),
    ("phi-3-instruct-4b", "phi-3", PHI3, "<|end|>"),
    ("gemma-2b-instruct", "gemma-3", GEMMA, "<end_of_turn>"),
    ("hf:any", "llama3", None, "<|eot_id|>"),
    ("hf:any", "phi-3", None, "<|end|>"),
    ("hf:any", "gemma-3", None, "<end_of_turn>"),
    ("hf:any", "qwen-3", CHATML, "<|im_end|>"),
    ("hf:any", "mistral-v3", MISTRAL_V3, "</s>"),
    ("hf:any", "mistral-v1", MISTRAL_V1, "</s>"),
    ("hf:any", "llama2", LLAMA2, "</s>"),
]


def native(language_id: str, tokenizer: str, template: str | None, monkeypatch: Any) -> PromptFormat:
    if template is not None and language_id.startswith("hf:"):
        monkeypatch.setattr(real_tokenizer(tokenizer), "chat_template", template)
    return speak(language_id, tokenizer, prompt_format="native")


def messages(conversation: list[str]) -> list[dict[str, str]]:
    said = [text.replace("<image>", "").strip() for text in conversation]
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def theirs(real: Any, conversation: list[str], template: str | None) -> list[int]:
    return list(
        real.apply_chat_template(
            messages(conversation), chat_template=template, tokenize=True, return_dict=False
        )
    )


@pytest.mark.parametrize(("language_id", "tokenizer", "template", "end"), FAMILIES)
def test_ids_are_those_of_the_chat_template(language_id, tokenizer, template, end, monkeypatch) -> None:
    prompts = native(language_id, tokenizer, template, monkeypatch)
    real = prompts.tokenizer
    end_id = real.convert_tokens_to_ids(end)
    assert prompts.stop_token_ids[0] == end_id
    assert prompts.stop_text is None
    for conversation in CONVERSATIONS:
        whole = theirs(real, conversation, template)
        encoded = prompts.encode_conversation(turns(conversation))
        ids = encoded.input_ids.tolist()
        assert ids == whole[: len(ids)]
        rest = real.decode(whole[len(ids) :])  # what a template writes behind the last answer
        assert rest.strip() in ("", "<|start_header_id|>assistant<|end_header_id|>")
        # learnt: the answers and what ends them, nothing else
        learnt, spans = encoded.labels.tolist(), []
        for before, label in zip([IGNORE_INDEX, *learnt], learnt, strict=False):
            if label != IGNORE_INDEX:
                spans = [*spans, []] if before == IGNORE_INDEX else spans
                spans[-1].append(label)
        answers = [text.strip() for text in conversation[1::2]]
        assert [real.decode(span[:-1]).strip() for span in spans] == answers
        assert [span[-1] for span in spans] == [end_id] * len(answers)


@pytest.mark.parametrize(("language_id", "tokenizer", "template", "end"), FAMILIES)
def test_asking_gives_the_ids_of_training(language_id, tokenizer, template, end, monkeypatch) -> None:
    prompts = native(language_id, tokenizer, template, monkeypatch)
    for conversation in CONVERSATIONS:
        taught = prompts.encode_conversation(turns(conversation), [4])
        builder = prompts.builder()
        for turn in turns(conversation)[:-1]:
            builder.add_turn(turn.speaker, turn.value)
        asked = prompts.encode_prompt(builder.get_prompt(), [4]).tolist()
        assert asked == taught.input_ids[: len(asked)].tolist()
        assert bool((taught.labels[len(asked) :] != IGNORE_INDEX).all())


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_model_without_a_chat_template_says_in_and_out_with_its_own_end(tokenizer, monkeypatch) -> None:
    real = real_tokenizer(tokenizer)
    monkeypatch.setattr(real, "chat_template", None)
    prompts = speak("hf:any", tokenizer, prompt_format="native")
    first = real("In: What?\nOut: A dot.", add_special_tokens=False).input_ids
    bos = [] if real.bos_token_id is None else [real.bos_token_id]
    encoded = prompts.encode_conversation(turns(["What?", "A dot."]))
    assert encoded.input_ids.tolist() == [*bos, *first, real.eos_token_id]
    labels = encoded.labels[encoded.labels != IGNORE_INDEX]
    assert real.decode(labels).strip() == f"A dot.{real.eos_token}"
    assert prompts.stop_token_ids == (real.eos_token_id,)


@pytest.mark.parametrize(("language_id", "tokenizer", "template", "end"), FAMILIES)
def test_text_that_spells_control_tokens_stays_text(
    language_id, tokenizer, template, end, monkeypatch
) -> None:
    prompts = native(language_id, tokenizer, template, monkeypatch)
    real = prompts.tokenizer
    spelled = " ".join([*dict.fromkeys(real.all_special_tokens), end, "<|eot_id|>", "[/INST]", "<|im_end|>"])
    plain = prompts.encode_conversation(turns(["Say it.", "It is said."])).input_ids.tolist()
    odd = prompts.encode_conversation(turns([f"Say {spelled}.", f"{spelled} is said."]))
    special = {i for i, token in real.added_tokens_decoder.items() if token.special}
    assert [i for i in odd.input_ids.tolist() if i in special] == [i for i in plain if i in special]
    learnt = real.decode(odd.labels[odd.labels != IGNORE_INDEX][:-1])
    assert learnt.replace(" ", "") == f"{spelled} is said.".replace(" ", "")


def test_a_template_that_changes_turns_once_others_follow_is_refused(monkeypatch: Any) -> None:
    prompts = native("hf:any", "qwen-3", None, monkeypatch)
    real = prompts.tokenizer
    single = prompts.encode_conversation(turns(["What?", "A dot."]))
    whole = theirs(real, ["What?", "A dot."], None)
    assert single.input_ids.tolist() == whole[:-1]
    # the empty thoughts are asked with, not learnt
    assert real.decode(single.labels[single.labels != IGNORE_INDEX]) == "A dot.<|im_end|>"
    with pytest.raises(ConfigError, match="writes the first 2 turns otherwise once others follow .*think"):
        prompts.encode_conversation(turns(["What?", "A dot.", "And?", "No."]))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0]['content'] }}", "does not write each of 2 messages"),
        ("{{ raise_exception('never') }}", "refuses 2 turns: never"),
        ("{{ undefined_thing.field }}", "refuses 2 turns"),
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", "answers could never end"),
    ],
)
def test_a_template_that_can_not_be_used_says_so(template: str, message: str, monkeypatch: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        native("hf:any", "qwen-3", template, monkeypatch)


def test_a_prompt_does_not_depend_on_the_day(monkeypatch: Any) -> None:
    template = "{{ strftime_now('%d %b %Y') }}" + CHATML
    builder = native("hf:any", "qwen-3", template, monkeypatch).builder()
    assert builder.add_turn("human", "Hi").startswith("26 Jul 2024<|im_start|>user\nHi")


def test_system_prompts_are_written_where_the_template_has_a_place(monkeypatch: Any) -> None:
    builder = native("llama3-8b-instruct", "llama3", None, monkeypatch).builder("Be brief.")
    conversation = [{"role": "system", "content": "Be brief."}, *messages(["Why?", "So."])]
    real = real_tokenizer("llama3")
    for role, text in (("human", "Why?"), ("gpt", "So.")):
        builder.add_turn(role, text)
    ids = builder.prompts.encode_prompt(builder).tolist()
    assert ids == real.apply_chat_template(
        conversation, chat_template=LLAMA3, tokenize=True, return_dict=False
    )
    by_template = native("hf:any", "qwen-3", None, monkeypatch).builder("Be brief.")
    assert by_template.add_turn("human", "Why?").startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?"
    )
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    with pytest.raises(ConfigError, match="refuses a system prompt"):
        native("hf:any", "qwen-3", refusing, monkeypatch).builder("Be brief.")


VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


# what FastChat's vicuna_v1.1 and Phi-2's model card write
VICUNA_TEXT = (
    f"{VICUNA_SYSTEM} USER: What moves? ASSISTANT: A dot.</s>USER: Where? ASSISTANT: To the left.</s>"
)
PHI2_TEXT = (
    "Instruct: What moves?\nOutput: A dot.<|endoftext|>Instruct: Where?\nOutput: To the left.<|endoftext|>"
)


@pytest.mark.parametrize(
    ("language_id", "tokenizer", "whole", "end"),
    [("vicuna-v15-7b", "llama2", VICUNA_TEXT, "</s>"), ("phi-2-3b", "qwen-3", PHI2_TEXT, "<|endoftext|>")],
)
def test_families_without_a_template_are_written_as_they_publish(
    language_id: str, tokenizer: str, whole: str, end: str
) -> None:
    prompts = speak(language_id, tokenizer, prompt_format="native")
    encoded = prompts.encode_conversation(turns(["What moves?", "A dot.", "Where?", "To the left."]))
    real = prompts.tokenizer
    pairs = list(zip(encoded.input_ids.tolist(), encoded.labels.tolist(), strict=True))
    text = [(i, label) for i, label in pairs if i != real.bos_token_id or real.bos_token == end]
    assert real.decode([i for i, _ in text]).replace("</s> ", "</s>") == whole
    learnt = real.decode([i for i, label in text if label != IGNORE_INDEX])
    assert learnt.replace(" ", "") == f"Adot.{end}Totheleft.{end}"
