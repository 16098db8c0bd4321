r"""Conversations become token ids and labels; only answers are learnt, by construction.

    turns -> PromptBuilder -> segments (text, is_supervised, ends_turn) -> Encoded(input_ids, labels)

    "<image>\nWhat moves?", "A red dot."
      segments   In: What moves?\nOut:           A red dot. + EOS
      ids        <s> [T * P visual] In ...:      A ... . </s>
      labels     -100 ...                        the ids

The seed's *pure* format is `In: {q}\nOut: ` and `{a}</s>`, each piece stripped on the right before it
is tokenised. Generation encodes through the same segments, so a model is asked exactly as it was
taught.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from weave_data.errors import ConfigError
from weave_data.records import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORE_INDEX",
    "VISUAL_TOKEN_ID",
    "Encoded",
    "PromptBuilder",
    "Segment",
    "encode_conversation",
    "encode_prompt",
    "fit_to_length",
    "splice_visual",
]

IGNORE_INDEX = -100
"""Label of a position that is not learnt."""

VISUAL_TOKEN_ID = -200
"""Placeholder id: the model puts the next visual token here. No embedding has it: a forgotten one fails."""

_IMAGE_TAG = "<image>"

_TOKENIZER_LOCK = threading.Lock()  # feed threads share one tokenizer, whose options are mutable state


@dataclass(frozen=True)
class Segment:
    """A piece of a prompt that is tokenised by itself. `ends_turn`: EOS follows."""

    text: str
    is_supervised: bool = False
    ends_turn: bool = False


@dataclass(frozen=True)
class Encoded:
    """`input_ids` int64[s] and `labels` int64[s], -100 where nothing is learnt."""

    input_ids: torch.Tensor
    labels: torch.Tensor

    @property
    def num_supervised(self) -> int:
        """Positions that enter the loss."""
        return int((self.labels != IGNORE_INDEX).sum())


class PromptBuilder:
    """The seed's pure prompt: turns alternate, human first; `<image>` is removed.

    Args:
        system_prompt: The pure format has none; anything but None is refused.
        eos_token: Text form of the token that ends an answer.

    Raises:
        ConfigError: A system prompt was given.
    """

    def __init__(self, system_prompt: str | None = None, *, eos_token: str = "</s>") -> None:  # noqa: S107
        if system_prompt is not None:
            raise ConfigError("system_prompt: the pure prompt format has none; leave it out")
        self.eos_token = eos_token
        self.segments: list[Segment] = []
        self._prompt = ""

    def add_turn(self, role: str, message: str) -> str:
        """Append a turn and return its text.

        Raises:
            ConfigError: Roles don't alternate human, gpt, human, ...
        """
        expected = ("human", "gpt")[len(self.segments) % 2]
        if role != expected:
            raise ConfigError(
                f"turn {len(self.segments)} is from {role!r}; turns alternate, it must be {expected!r}"
            )
        message = message.replace(_IMAGE_TAG, "").strip()
        if role == "human":
            wrapped = _wrap_human(message)
            self.segments.append(Segment(wrapped.rstrip()))
        else:
            wrapped = f"{message or ' '}{self.eos_token}"
            self.segments.append(Segment(message or " ", is_supervised=True, ends_turn=True))
        self._prompt += wrapped
        return wrapped

    def get_potential_prompt(self, message: str) -> str:
        """The prompt as it would be with one more human turn; nothing is added."""
        return (self._prompt + _wrap_human(message.replace(_IMAGE_TAG, "").strip())).rstrip()

    def get_prompt(self) -> str:
        """All turns so far, stripped on the right."""
        return self._prompt.rstrip()


def _wrap_human(message: str) -> str:
    return f"In: {message}\nOut: "


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn | Mapping[str, str]]
) -> Encoded:
    """Tokenise a conversation: labels are the gpt turns and their EOS.

    Args:
        tokenizer: BOS and EOS are placed by us; control tokens written in a text stay text.
        turns: `Turn` records, or rows `{"from": ..., "value": ...}`.

    Raises:
        ConfigError: Turns don't alternate, or nothing is supervised.
    """
    builder = PromptBuilder(eos_token=tokenizer.eos_token)
    for turn in turns:
        role, value = (turn.speaker, turn.value) if isinstance(turn, Turn) else (turn["from"], turn["value"])
        builder.add_turn(role, value)
    encoded = _encode_segments(tokenizer, builder.segments)
    if encoded.num_supervised == 0:
        raise ConfigError("the conversation has no gpt turn: nothing to learn; give it an answer")
    return encoded


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | PromptBuilder) -> torch.Tensor:
    """Tokenise a question, piece by piece as in training.

    Args:
        tokenizer: As in `encode_conversation`.
        prompt: A builder, or what its `get_prompt` gave; other text is taken literally.

    Returns:
        int64[s]; BOS first where the tokenizer has one.
    """
    segments = _split_prompt(prompt, tokenizer.eos_token) if isinstance(prompt, str) else prompt.segments
    return _encode_segments(tokenizer, segments).input_ids


def _split_prompt(prompt_text: str, eos_token: str) -> list[Segment]:
    # "In: a\nOut: b</s>In: c\nOut:" -> "In: a\nOut:", "b" + EOS, "In: c\nOut:"
    segments = []
    *answered, last = prompt_text.rstrip().split(eos_token)
    for turn in answered:
        question, separator, answer = _cut_at_answer(turn)
        segments.append(Segment(question + separator))
        segments.append(Segment(answer.strip() or " ", ends_turn=True))
    if last:
        segments.append(Segment(last))
    return segments


def _cut_at_answer(turn: str) -> tuple[str, str, str]:
    match = re.search(r"\nOut: ", turn)
    return (turn[: match.start()], "\nOut:", turn[match.end() :]) if match else (turn, "", "")


def _encode_segments(tokenizer: PreTrainedTokenizerBase, segments: Sequence[Segment]) -> Encoded:
    ids = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    labels = [IGNORE_INDEX] * len(ids)
    for segment in segments:
        # a caption that spells </s> must not end the answer
        with _TOKENIZER_LOCK:
            piece = tokenizer.encode(segment.text, add_special_tokens=False, split_special_tokens=True)
        if segment.ends_turn:
            piece = [*piece, tokenizer.eos_token_id]
        ids += piece
        labels += piece if segment.is_supervised else [IGNORE_INDEX] * len(piece)
    return Encoded(torch.tensor(ids, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64))


def splice_visual(encoded: Encoded, num_visual: int, *, has_bos: bool) -> Encoded:
    """Insert visual placeholders after BOS, unlabelled: ids and labels grow by `num_visual`."""
    start = int(has_bos)

    def insert(values: torch.Tensor, filler: int) -> torch.Tensor:
        return torch.cat([values[:start], values.new_full((num_visual,), filler), values[start:]])

    return Encoded(insert(encoded.input_ids, VISUAL_TOKEN_ID), insert(encoded.labels, IGNORE_INDEX))


def fit_to_length(encoded: Encoded, *, max_length: int, name: str) -> Encoded:
    """Cut the end of the text so that the whole sequence has at most `max_length` tokens.

    Visual tokens come before the text and are never cut.

    Raises:
        ConfigError: Nothing supervised would be left.
    """
    cut = Encoded(encoded.input_ids[:max_length], encoded.labels[:max_length])
    if cut.num_supervised == 0:
        num_visual = int((encoded.input_ids == VISUAL_TOKEN_ID).sum())
        raise ConfigError(
            f"model.llm_max_length: {name} has {num_visual} visual tokens and "
            f"{len(encoded.input_ids) - num_visual} of text; {max_length} leave no room for its answer. "
            f"Raise llm_max_length to {len(encoded.input_ids)}, or use fewer frames or fewer patches"
        )
    return cut
