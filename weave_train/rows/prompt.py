r"""Conversations become token ids and labels; only answers are learnt, by construction.

    turns -> PromptBuilder -> segments -> pieces with visual blocks -> Encoded(input_ids, labels)

    "<image>\nWhat moves?", "A red dot."     prompt_format legacy, visual_placement after-bos
      segments   In: What moves?\nOut:           A red dot. + EOS
      ids        <s> [T * P visual] In ...:      A ... . </s>
      labels     -100 ...                        the ids

Generation encodes through the same segments, so a model is asked exactly as it was taught. A `PromptFormat`
is all that a generator needs: `builder`, `encode_prompt`, `stop_token_ids`, `stop_text`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from weave_data.errors import ConfigError
from weave_data.records import Turn
from weave_train.config import ModelSettings
from weave_train.rows.chat_template import TemplateFormat
from weave_train.rows.families import language_family
from weave_train.rows.legacy_formats import legacy_format
from weave_train.rows.native_formats import native_format
from weave_train.rows.placement import mark_place, place_blocks, splice_visual
from weave_train.rows.segments import (
    IGNORE_INDEX,
    VISUAL_TOKEN_ID,
    Encoded,
    Piece,
    PieceKind,
    PromptText,
    Segment,
    TurnFormat,
    message,
    template,
)
from weave_train.rows.text_ids import control_pattern, run_ids, token_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORE_INDEX",
    "VISUAL_TOKEN_ID",
    "Encoded",
    "PromptBuilder",
    "PromptFormat",
    "PromptText",
    "fit_to_length",
    "prompt_format",
]

_ROLES = ("human", "gpt")


@dataclass(frozen=True)
class PromptFormat:
    """How a run's model is spoken with: everything that training and generation must share.

    Attributes:
        settings: The run's; `llm_backbone_id`, `prompt_format` and `visual_placement` are used.
        tokenizer: The run's.
        turns: How turns are written.
        opening_ids: Token ids before the first turn: BOS, where there is one.
        visual_start: Position of the visual tokens where they follow BOS.
    """

    settings: ModelSettings
    tokenizer: PreTrainedTokenizerBase
    turns: TurnFormat
    opening_ids: tuple[int, ...]
    visual_start: int | None = None

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: the one that was learnt, and the tokenizer's EOS."""
        ids = (token_id(self.tokenizer, self.turns.end), self.tokenizer.eos_token_id)
        return tuple(dict.fromkeys(i for i in ids if i is not None))

    @property
    def stop_text(self) -> str | None:
        """Text that ends an answer where no token does: `</s>` of legacy Llama 3 base models."""
        return self.turns.end if token_id(self.tokenizer, self.turns.end) is None else None

    def builder(self, system_prompt: str | None = None) -> PromptBuilder:
        """Start a conversation.

        Raises:
            ConfigError: A system prompt where the format has no place for one.
        """
        return PromptBuilder(self, system_prompt)

    def encode_conversation(
        self, turns: Sequence[Turn | Mapping[str, str]], clip_tokens: Sequence[int] = ()
    ) -> Encoded:
        """Tokenise a conversation: labels are the gpt turns and what ends them.

        Args:
            turns: `Turn` records, or rows `{"from": ..., "value": ...}`.
            clip_tokens: Visual tokens of each clip, in order.

        Raises:
            ConfigError: Turns don't alternate, or nothing is supervised.
        """
        builder = self.builder()
        for turn in turns:
            role, value = (
                (turn.speaker, turn.value) if isinstance(turn, Turn) else (turn["from"], turn["value"])
            )
            builder.append(role, value)
        if len(turns) < 2:
            raise ConfigError("the conversation has no gpt turn: nothing to learn; give it an answer")
        self.turns.check_taught(len(turns))
        return self._encode(builder.segments, clip_tokens)

    def encode_prompt(self, prompt: str | PromptBuilder, clip_tokens: Sequence[int] = ()) -> torch.Tensor:
        """Tokenise a question, piece by piece as in training.

        Args:
            prompt: A builder, or what its `get_prompt` gave. Any other text is a whole prompt written by
                hand, whose control tokens are control tokens: what strangers say belongs in `add_turn`.
            clip_tokens: As in `encode_conversation`.

        Returns:
            int64[s], visual placeholders in place.
        """
        return self._encode(self._segments(prompt), clip_tokens).input_ids

    def encode_answer(self, prompt: str | PromptBuilder, text: str, *, with_end: bool) -> list[int]:
        """Tokenise an answer as training does behind that prompt.

        Args:
            prompt: As in `encode_prompt`.
            text: Stripped.
            with_end: With what ends an answer.
        """
        context: list[Piece] = []
        if self.turns.is_joined:
            opening = self._opening_context()
            context = self._tail([*opening, *(p for s in self._segments(prompt) for p in s.pieces if p.text)])
        pieces = list(self.turns.answer([message(text.strip())]).pieces)
        while not with_end and pieces and pieces[-1].kind is PieceKind.TEMPLATE:
            pieces.pop()
        return run_ids(self.tokenizer, context, pieces, end=self.turns.end)

    @property
    def answer_opening(self) -> str:
        """What a model says before every answer, as decoded without control tokens; usually empty."""
        return control_pattern(self.tokenizer).sub("", self.turns.answer_opening)

    def _segments(self, prompt: str | PromptBuilder) -> Sequence[Segment]:
        if isinstance(prompt, PromptBuilder | PromptText):
            return prompt.segments
        bos = self.tokenizer.bos_token if self.opening_ids else None
        return [self._literal(prompt.removeprefix(bos or ""))]

    def _opening_context(self) -> list[Piece]:
        return [template(self.tokenizer.bos_token)] if self.opening_ids and self.turns.writes_bos else []

    def _literal(self, text: str) -> Segment:
        placement = self.settings.visual_placement
        if placement == "after-bos":
            return Segment((template(text),))
        marked = mark_place(text, placement=placement, is_first=True)
        return Segment(
            tuple(piece if piece.kind is PieceKind.VISUAL else template(piece.text) for piece in marked)
        )

    def _encode(self, segments: Sequence[Segment], clip_tokens: Sequence[int]) -> Encoded:
        ids, labels = list(self.opening_ids), [IGNORE_INDEX] * len(self.opening_ids)
        context = self._opening_context()
        for segment in segments:
            start = len(ids)
            for run in _runs(self._written(segment, clip_tokens)):
                if run[0].kind is PieceKind.VISUAL:
                    ids += [VISUAL_TOKEN_ID] * run[0].num_tokens
                    context = []
                else:
                    before = context if self.turns.is_joined else []
                    ids += run_ids(self.tokenizer, before, run, end=self.turns.end)
                    context = self._tail([*context, *run])
            piece = ids[start:]
            labels += piece if segment.is_supervised else [IGNORE_INDEX] * len(piece)
            if segment.is_supervised and not piece:
                raise ConfigError(f"the answer {segment.text!r} becomes no token: nothing to learn")
        encoded = Encoded(torch.tensor(ids, dtype=torch.int64), torch.tensor(labels, dtype=torch.int64))
        if self.settings.visual_placement == "after-bos":
            return splice_visual(encoded, sum(clip_tokens), start=self._start(ids))
        return encoded

    def _start(self, ids: Sequence[int]) -> int:
        if self.visual_start is not None:
            return self.visual_start
        return int(bool(ids) and ids[0] == self.tokenizer.bos_token_id)

    def _written(self, segment: Segment, clip_tokens: Sequence[int]) -> list[Piece]:
        """Pieces of a segment as they are tokenised."""
        pieces = place_blocks(segment.pieces, clip_tokens, placement=self.settings.visual_placement)
        if self.turns.strips_prompt and not segment.is_supervised and pieces:
            pieces[-1] = replace(pieces[-1], text=pieces[-1].text.rstrip())
        for index, piece in enumerate(pieces[1:]):
            if piece.kind is PieceKind.VISUAL:  # "Clip 1: " ends in a blank that many tokenizers keep
                pieces[index] = replace(pieces[index], text=pieces[index].text.rstrip(" "))
        return [piece for piece in pieces if piece.text or piece.num_tokens]

    def _tail(self, pieces: list[Piece]) -> list[Piece]:
        """What the next run continues: all from the last control token on."""
        for index in range(len(pieces) - 1, -1, -1):
            piece = pieces[index]
            if piece.kind is PieceKind.TEMPLATE:
                found = list(control_pattern(self.tokenizer).finditer(piece.text))
                if found:
                    return [template(piece.text[found[-1].start() :]), *pieces[index + 1 :]]
        return pieces


def prompt_format(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    """How a run's model is spoken with.

    Args:
        settings: The run's.
        tokenizer: The run's.

    Raises:
        ConfigError: An unknown language id, or a chat template that can't be used.
    """
    family = language_family(settings.llm_backbone_id)
    bos = () if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
    if settings.prompt_format == "legacy":
        turns: TurnFormat = legacy_format(family, tokenizer)
        opening = tuple(i for i in tokenizer.encode("") if i in bos) if family in ("phi-2", "phi-3") else bos
        # VideoWeave counts: after the first token, whichever that is
        return PromptFormat(settings, tokenizer, turns, opening, None if family == "open" else 1)
    turns = native_format(family, tokenizer)
    # the templates of these write BOS themselves, or none
    brings_own = family == "phi-3" or isinstance(turns, TemplateFormat)
    return PromptFormat(settings, tokenizer, turns, () if brings_own else bos)


class PromptBuilder:
    """A conversation: turns alternate, human first.

    Args:
        prompts: How it is written.
        system_prompt: None takes the format's own, if it has one.

    Raises:
        ConfigError: A system prompt where the format has no place for one.
    """

    def __init__(self, prompts: PromptFormat, system_prompt: str | None = None) -> None:
        self.prompts = prompts
        self.system_prompt = system_prompt
        self._messages: list[list[Piece]] = []
        if system_prompt is not None:
            self._written([[template("")]])

    @property
    def segments(self) -> list[Segment]:
        """Of all turns so far, one for each."""
        return self._written(self._messages)

    def add_turn(self, role: str, message: str) -> str:
        """Append a turn and return its text.

        Raises:
            ConfigError: Roles don't alternate human, gpt, human, ..., or the message is no text.
        """
        self.append(role, message)
        return self.segments[-1].text

    def append(self, role: str, message: str) -> None:
        """`add_turn` without working out its text."""
        number = len(self._messages)
        if role not in _ROLES:
            raise ConfigError(f"turn {number} is from {role!r}; roles are {' and '.join(_ROLES)}")
        if role != _ROLES[number % 2]:
            raise ConfigError(
                f"turn {number} is from {role!r}; turns alternate, it must be {_ROLES[number % 2]!r}"
            )
        if not isinstance(message, str):
            raise ConfigError(f"turn {number} must be text, got {type(message).__name__}")
        self._messages.append(self._marked(message))

    def get_potential_prompt(self, message: str) -> PromptText:
        """The prompt as it would be with one more human turn; nothing is added."""
        return self._prompt([*self._messages, self._marked(message)])

    def get_prompt(self) -> PromptText:
        """All turns so far; in legacy formats stripped on the right."""
        return self._prompt(self._messages)

    def _marked(self, message: str) -> list[Piece]:
        return mark_place(
            message,
            placement=self.prompts.settings.visual_placement,
            is_first=not self._messages,
        )

    def _written(self, messages: Sequence[Sequence[Piece]]) -> list[Segment]:
        return self.prompts.turns.segments(messages, self.system_prompt)

    def _prompt(self, messages: Sequence[Sequence[Piece]]) -> PromptText:
        segments = self._written(messages)
        text = "".join(segment.text for segment in segments)
        return PromptText(text.rstrip() if self.prompts.turns.strips_prompt else text, segments)


def _runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Visual pieces alone, all between them together."""
    run: list[Piece] = []
    for piece in pieces:
        if piece.kind is PieceKind.VISUAL:
            if run:
                yield run
            yield [piece]
            run = []
        else:
            run.append(piece)
    if run:
        yield run


def fit_to_length(encoded: Encoded, *, max_length: int, name: str) -> Encoded:
    """Cut the end of the text so that the whole sequence has at most `max_length` tokens.

    Visual tokens come before the first answer and are never cut.

    Raises:
        ConfigError: Nothing supervised would be left, or a visual token would be cut.
    """
    cut = Encoded(encoded.input_ids[:max_length], encoded.labels[:max_length])
    cuts_visual = bool((encoded.input_ids[max_length:] == VISUAL_TOKEN_ID).any())
    if cut.num_supervised == 0 or cuts_visual:
        num_visual = int((encoded.input_ids == VISUAL_TOKEN_ID).sum())
        raise ConfigError(
            f"model.llm_max_length: {name} has {num_visual} visual tokens and "
            f"{len(encoded.input_ids) - num_visual} of text; {max_length} leave no room for its answer. "
            f"Raise llm_max_length to {len(encoded.input_ids)}, or use fewer frames or fewer patches"
        )
    return cut
