r"""`prompt_format: legacy`: VideoWeave's own strings, so that its checkpoints keep their meaning.

    pure      In: {q}\nOut: | {a}</s>
    vicuna    {sys} USER: {q} ASSISTANT: | {a}</s>
    llama2    [INST] <<SYS>\n{sys}\n<</SYS>>\n\n{q} [/INST] | {a}</s>
    llama3    <|start_header_id|>user... one newline where Meta writes two; the answer's header is learnt
    mistral   [INST] {q} [/INST] | {a}</s>
    phi       <|endoftext|>Input: {q}\nOutput: | {a}\n<|endoftext|>

Gemma speaks pure. `</s>` is text to a tokenizer that has no such token (Llama 3): such a model never learnt
to stop by a token, and generation looks for the text instead.

Source:
    VideoWeave, `prismatic/models/backbones/llm/prompting`. `<<SYS>` lacks its second bracket there, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from weave_train.rows.families import FamilyFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["VICUNA_SYSTEM", "VISION_SYSTEM", "legacy_format"]

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
VISION_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)

_USER_3 = "<|start_header_id|>user<|end_header_id|>\n{q}<|eot_id|>"
_ASSISTANT_3 = "<|start_header_id|>assistant<|end_header_id|>\n"


def _legacy(name: str, first: str, later: str, answer: str, end: str = "</s>", **more: str) -> FamilyFormat:
    return FamilyFormat(
        name,
        first,
        later,
        answer,
        end,
        system=more.get("system", ""),
        default_system=more.get("default_system"),
        answer_opening=more.get("answer_opening", ""),
        empty_answer=" ",
        strips_prompt=True,
        is_joined=False,
    )


def _pure(end: str) -> FamilyFormat:
    return _legacy("pure", "In: {q}\nOut: ", "In: {q}\nOut: ", "{a}" + end, end)


def _phi(name: str) -> FamilyFormat:
    return _legacy(
        name,
        "<|endoftext|>Input: {q}\nOutput: ",
        "Input: {q}\nOutput: ",
        "{a}\n<|endoftext|>",
        "<|endoftext|>",
    )


_FORMATS: Mapping[str, FamilyFormat] = {
    "pure": _pure("</s>"),
    "gemma": _pure("</s>"),
    "vicuna": _legacy(
        "vicuna",
        "{system}USER: {q} ASSISTANT: ",
        "USER: {q} ASSISTANT: ",
        "{a}</s>",
        system="{sys} ",
        default_system=VICUNA_SYSTEM,
    ),
    "llama2": _legacy(
        "llama2",
        "[INST] {system}{q} [/INST] ",
        "[INST] {q} [/INST] ",
        "{a}</s>",
        system="<<SYS>\n{sys}\n<</SYS>>\n\n",
        default_system=VISION_SYSTEM,
    ),
    "llama3": _legacy(
        "llama3",
        "{system}" + _USER_3,
        _USER_3,
        _ASSISTANT_3 + "{a}<|eot_id|>",
        "<|eot_id|>",
        system="<|start_header_id|>system<|end_header_id|>\n{sys}\n<|eot_id|>",
        default_system=VISION_SYSTEM,
        answer_opening=_ASSISTANT_3,
    ),
    "mistral": _legacy("mistral", "[INST] {q} [/INST] ", "[INST] {q} [/INST] ", "{a}</s>"),
    "phi-2": _phi("phi-2"),
    "phi-3": _phi("phi-3"),
}


def legacy_format(family: str, tokenizer: PreTrainedTokenizerBase) -> FamilyFormat:
    """Format of a family; an open model speaks pure with its own EOS."""
    return _pure(tokenizer.eos_token) if family == "open" else _FORMATS[family]
