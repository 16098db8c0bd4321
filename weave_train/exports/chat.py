"""The run's prompt format as a chat template: frames where the run was trained to find them.

The format is asked, not known: a conversation with marked turns is built, and what stands around the
marks goes into the template. Our prompts are tokenised piece by piece, a template's text at once; which
conversations give the same ids all the same depends on the tokenizer, is tried, and is said in the card.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from weave_train.exports.vocabulary import IMAGE_TOKEN, Vocabulary
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.prompt import VISUAL_TOKEN_ID

__all__ = ["Chat", "build_chat"]

_QUESTIONS = ("What happens first?", "And then, what?")
_ANSWER = "A red dot moves."
_FRAMES = 2
_MARK = "\u25a0turn\u25a0"


@dataclass(frozen=True)
class Chat:
    """A chat template and what is known of it.

    Attributes:
        template: Jinja, as transformers renders it.
        same_ids: By kind of conversation, whether it gives the ids the run was trained with.
    """

    template: str
    same_ids: dict[str, bool]


def build_chat(vlm: VideoLanguageModel, vocabulary: Vocabulary) -> Chat:
    """Make a template of the run's prompt format, with the glue that fits its tokenizer best."""
    glues = itertools.product(("", " "), ("", " "))
    candidates = [_candidate(vlm, vocabulary, glue, behind_images) for glue, behind_images in glues]
    return max(candidates, key=lambda chat: (chat.same_ids["one question"], sum(chat.same_ids.values())))


def _candidate(vlm: VideoLanguageModel, vocabulary: Vocabulary, glue: str, behind_images: str) -> Chat:
    """`glue` before each piece: SentencePiece begins a text with a space of its own, but not after `<s>`."""
    builder = vlm.get_prompt_builder()
    for role in ("human", "gpt", "human"):
        builder.add_turn(role, _MARK)
    strips, bos = vlm.prompts.turns.strips_prompt, vlm.tokenizer.bos_token or ""
    pieces = [
        segment.text.rstrip() if strips and not segment.is_supervised else segment.text
        for segment in builder.segments
    ]
    writes_bos = bool(vlm.prompts.opening_ids) or bool(bos and pieces[0].startswith(bos))
    pieces[0] = pieces[0].removeprefix(bos)
    (first, human_after), (gpt, gpt_after), (later, _) = (piece.split(_MARK) for piece in pieces)
    names: dict[str, Any] = {
        "BOS": bos if writes_bos else "",
        "IMAGE": IMAGE_TOKEN,
        "FIRST_BEFORE": glue + first,
        "LATER_BEFORE": glue + later,
        "HUMAN_AFTER": human_after,
        "GPT_BEFORE": glue + gpt,
        "GPT_AFTER": gpt_after,
        "AFTER_BOS": vlm.settings.visual_placement == "after-bos",
        "BEHIND_IMAGES": behind_images + "\n",
    }
    body = (resources.files("weave_train.exports") / "chat.j2").read_text(encoding="utf-8")
    template = (
        "".join(f"{{%- set {name} = {json.dumps(value)} -%}}\n" for name, value in names.items()) + body
    )
    same = {
        "one question": _same_ids(vlm, vocabulary, template, _QUESTIONS[:1]),
        "several turns": _same_ids(vlm, vocabulary, template, _QUESTIONS),
    }
    return Chat(template, same)


def _same_ids(
    vlm: VideoLanguageModel, vocabulary: Vocabulary, template: str, questions: tuple[str, ...]
) -> bool:
    builder = vlm.get_prompt_builder()
    messages: list[dict[str, Any]] = []
    for index, question in enumerate(questions):
        if index:
            builder.add_turn("gpt", _ANSWER)
            messages.append({"role": "assistant", "content": _ANSWER})
        builder.add_turn("human", question)
        content = [{"type": "image"}] * (_FRAMES if index == 0 else 0) + [{"type": "text", "text": question}]
        messages.append({"role": "user", "content": content})
    tokenizer = vocabulary.tokenizer
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    ours = vlm.prompts.encode_prompt(builder, [_FRAMES])  # as if a frame were one token
    return bool(ids == ours.masked_fill(ours == VISUAL_TOKEN_ID, vocabulary.image_id).tolist())
