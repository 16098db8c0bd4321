r"""`prompt_format: native`: each family's own chat format, with its real control tokens.

    vicuna    {sys} USER: {q} ASSISTANT:| {a}</s>
    llama2    [INST] {q} [/INST]| {a} </s><s>[INST] ...
    llama3    ...user<|end_header_id|>\n\n{q}<|eot_id|>...assistant<|end_header_id|>\n\n|{a}<|eot_id|>
    mistral   [INST] {q} [/INST]| {a}</s>; where [INST] is a token: [INST] {q}[/INST]| {a}</s>
    phi2      Instruct: {q}\nOutput:| {a}<|endoftext|>
    phi3      <|user|>\n{q}<|end|>\n<|assistant|>\n|{a}<|end|>
    gemma     <start_of_turn>user\n{q}<end_of_turn>\n<start_of_turn>model\n|{a}<end_of_turn>
    open      the tokenizer's chat template (`chat_template`); without one, as pure
    pure      In: {q}\nOut:| {a}EOS

Left of `|` is asked, right of it is learnt. Ids are those of transformers' `apply_chat_template` with the
templates that the families publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from weave_train.rows.chat_template import TemplateFormat
from weave_train.rows.families import FamilyFormat
from weave_train.rows.legacy_formats import VICUNA_SYSTEM
from weave_train.rows.segments import TurnFormat
from weave_train.rows.text_ids import control_pattern

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["native_format"]

_TURN_3 = (
    "<|start_header_id|>user<|end_header_id|>\n\n{q}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
_TURN_PHI3 = "<|user|>\n{q}<|end|>\n<|assistant|>\n"
_TURN_GEMMA = "<start_of_turn>user\n{q}<end_of_turn>\n<start_of_turn>model\n"

_FORMATS: Mapping[str, FamilyFormat] = {
    "vicuna": FamilyFormat(
        "vicuna",
        "{system}USER: {q} ASSISTANT:",
        "USER: {q} ASSISTANT:",
        " {a}</s>",
        "</s>",
        system="{sys} ",
        default_system=VICUNA_SYSTEM,
    ),
    "llama2": FamilyFormat(
        "llama2",
        "[INST] {system}{q} [/INST]",
        "<s>[INST] {q} [/INST]",
        " {a} </s>",
        "</s>",
        system="<<SYS>>\n{sys}\n<</SYS>>\n\n",
        writes_bos=True,
    ),
    "llama3": FamilyFormat(
        "llama3",
        "{system}" + _TURN_3,
        _TURN_3,
        "{a}<|eot_id|>",
        "<|eot_id|>",
        system="<|start_header_id|>system<|end_header_id|>\n\n{sys}<|eot_id|>",
        writes_bos=True,
    ),
    "phi-2": FamilyFormat(
        "phi-2",
        "Instruct: {q}\nOutput:",
        "Instruct: {q}\nOutput:",
        " {a}<|endoftext|>",
        "<|endoftext|>",
    ),
    "phi-3": FamilyFormat(
        "phi-3",
        "{system}" + _TURN_PHI3,
        "\n" + _TURN_PHI3,
        "{a}<|end|>",
        "<|end|>",
        system="<|system|>\n{sys}<|end|>\n",
    ),
    "gemma": FamilyFormat(
        "gemma", _TURN_GEMMA, "\n" + _TURN_GEMMA, "{a}<end_of_turn>", "<end_of_turn>", writes_bos=True
    ),
}


def native_format(family: str, tokenizer: PreTrainedTokenizerBase) -> TurnFormat:
    """Format of a family, as far as it depends on the tokenizer, with that one's tokens.

    Raises:
        ConfigError: The chat template of an open model can't be used.
    """
    if family == "open" and tokenizer.chat_template:
        return TemplateFormat(tokenizer)
    if family in ("open", "pure"):
        turn, end = "In: {q}\nOut:", tokenizer.eos_token
        return FamilyFormat("pure", turn, turn, " {a}" + end, end)
    if family == "mistral":
        is_token = control_pattern(tokenizer).fullmatch("[INST]") is not None
        turn = "[INST] {q}[/INST]" if is_token else " [INST] {q} [/INST]"
        return FamilyFormat("mistral", turn, turn, " {a}</s>", "</s>", writes_bos=True)
    return _FORMATS[family]
