"""Which language id speaks which prompt format; the formats that are made of strings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weave_data.errors import ConfigError
from weave_train.languages import language_spec
from weave_train.rows.segments import Piece, PieceKind, Segment, message, template

__all__ = ["FamilyFormat", "language_family"]

_SLOTS = re.compile(r"(\{system\}|\{sys\}|\{q\}|\{a\})")


def language_family(llm_backbone_id: str) -> str:
    """Family of a language id: its own where it is trained to chat, else `pure`; `open` without one.

    Raises:
        ConfigError: An unknown id; the nearest one is named.
    """
    spec = language_spec(llm_backbone_id)
    if spec is None:
        return "open"
    return spec.family if spec.is_chat or spec.family == "phi-2" else "pure"


@dataclass(frozen=True)
class FamilyFormat:
    """A format written down as strings around `{q}`, `{a}` and, in `system`, `{sys}`.

    Attributes:
        name: Of the family, for messages.
        first: The first human turn; `{system}` is where `system` goes.
        later: Any other human turn.
        reply: A gpt turn; it ends in `end`.
        system: Written around a system prompt; empty where the family has none.
        default_system: Of a conversation that brings none; None writes no system prompt at all.
        empty_answer: Stands for an answer without text.
        answer_opening: As `strips_prompt`, `is_joined` and `writes_bos`, see `TurnFormat`.
    """

    name: str
    first: str
    later: str
    reply: str
    end: str
    system: str = ""
    default_system: str | None = None
    empty_answer: str = ""
    answer_opening: str = ""
    strips_prompt: bool = False
    is_joined: bool = True
    writes_bos: bool = False

    def segments(self, messages: Sequence[Sequence[Piece]], system_prompt: str | None) -> list[Segment]:
        """See `TurnFormat.segments`."""
        if system_prompt is not None and not self.system:
            raise ConfigError(f"system_prompt: the {self.name} prompt format has none; leave it out")
        said = system_prompt if system_prompt is not None else self.default_system
        found = []
        for index, pieces in enumerate(messages):
            if index % 2:
                found.append(self.answer(pieces))
            elif index:
                found.append(Segment(_fill(self.later, {"{q}": pieces})))
            else:
                system = () if said is None else _fill(self.system, {"{sys}": [message(said)]})
                found.append(Segment(_fill(self.first, {"{system}": system, "{q}": pieces})))
        return found

    def answer(self, pieces: Sequence[Piece]) -> Segment:
        """See `TurnFormat.answer`."""
        said = pieces if any(piece.text for piece in pieces) else [message(self.empty_answer)]
        return Segment(_fill(self.reply, {"{a}": said}), is_supervised=True)

    def check_taught(self, num_turns: int) -> None:
        """Strings are the same wherever a turn stands."""


def _fill(pattern: str, slots: Mapping[str, Sequence[Piece]]) -> tuple[Piece, ...]:
    filled: list[Piece] = []
    for part in _SLOTS.split(pattern):
        filled += slots[part] if part in slots else [template(part)]
    return tuple(piece for piece in filled if piece.text or piece.kind is PieceKind.VISUAL)
