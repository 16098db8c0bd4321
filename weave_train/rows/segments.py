r"""A prompt before it is tokenised: segments of pieces. What is learnt is decided here, not found out later.

    human  Segment(template "In: ", visual, message "What moves?", template "\nOut: ")
    gpt    Segment(message "A red dot.", template "</s>", is_supervised)

Control tokens are those a *template* piece spells; a message that spells one stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch

__all__ = [
    "IGNORE_INDEX",
    "VISUAL_TOKEN_ID",
    "Encoded",
    "Piece",
    "PieceKind",
    "PromptText",
    "Segment",
    "TurnFormat",
    "message",
    "template",
]

IGNORE_INDEX = -100
"""Label of a position that is not learnt."""

VISUAL_TOKEN_ID = -200
"""Placeholder id: the model puts the next visual token here. No embedding has it: a forgotten one fails."""


class PieceKind(Enum):
    """What a piece of a prompt is."""

    TEMPLATE = "template"
    MESSAGE = "message"
    VISUAL = "visual"


@dataclass(frozen=True)
class Piece:
    """Text of one origin. A visual piece's text is the tag that stands for it, or empty."""

    text: str
    kind: PieceKind
    num_tokens: int = 0


def template(text: str) -> Piece:
    """What a format writes around messages; control tokens in it are control tokens."""
    return Piece(text, PieceKind.TEMPLATE)


def message(text: str) -> Piece:
    """What a person or a data set says; always text."""
    return Piece(text, PieceKind.MESSAGE)


@dataclass(frozen=True)
class Segment:
    """Pieces that are learnt together or not at all."""

    pieces: tuple[Piece, ...]
    is_supervised: bool = False

    @property
    def text(self) -> str:
        """All pieces, as people read them."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Encoded:
    """`input_ids` int64[s] and `labels` int64[s], -100 where nothing is learnt."""

    input_ids: torch.Tensor
    labels: torch.Tensor

    @property
    def num_supervised(self) -> int:
        """Positions that enter the loss."""
        return int((self.labels != IGNORE_INDEX).sum())


class PromptText(str):
    """A prompt's text that keeps the segments it was put together from, so that asking encodes those."""

    __slots__ = ("segments",)
    segments: tuple[Segment, ...]

    def __new__(cls, text: str, segments: Sequence[Segment]) -> PromptText:
        """Text for people, segments for the model."""
        self = super().__new__(cls, text)
        self.segments = tuple(segments)
        return self

    def __reduce__(self) -> tuple[type[PromptText], tuple[str, tuple[Segment, ...]]]:
        return PromptText, (str(self), self.segments)


class TurnFormat(Protocol):
    """How turns are written."""

    @property
    def end(self) -> str:
        """Text that ends an answer; learnt, and what generation stops at."""

    @property
    def answer_opening(self) -> str:
        """Text that the model itself writes before an answer; usually none."""

    @property
    def strips_prompt(self) -> bool:
        """Prompts are stripped on the right before they are tokenised."""

    @property
    def is_joined(self) -> bool:
        """Segments are tokenised as continuations of each other, not each as a text of its own."""

    @property
    def writes_bos(self) -> bool:
        """BOS is part of the text: the first segment is a continuation, too."""

    def segments(self, messages: Sequence[Sequence[Piece]], system_prompt: str | None) -> list[Segment]:
        """Segments of turns that alternate, human first; one for each.

        Args:
            messages: Pieces of each turn.
            system_prompt: None takes the format's own, if it has one.

        Raises:
            ConfigError: A system prompt where the format has no place for one.
        """
        ...

    def answer(self, pieces: Sequence[Piece]) -> Segment:
        """Segment of an answer: what the model is to say behind a prompt.

        Args:
            pieces: Of its message.
        """
        ...

    def check_taught(self, num_turns: int) -> None:
        """Refuse to learn answers that follow other text than they are asked with.

        Raises:
            ConfigError: The format writes a turn otherwise once others follow.
        """
        ...
