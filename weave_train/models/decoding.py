"""Answers of a batch, one token of each row a step; a row that has ended waits for the others."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

import torch

from weave_data.errors import ConfigError
from weave_train.models.asking import Asked, begin_alone, embed_asked, stop_token_ids

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel

__all__ = ["AnswerOptions", "Decoder", "Finish", "evaluating"]

Finish = Literal["stop", "length"]
"""Why an answer ended: by itself, or at its longest."""


@dataclass(frozen=True)
class AnswerOptions:
    """How an answer is made.

    Attributes:
        max_new_tokens: At most; fewer where the answer ends or `llm_max_length` is reached.
        do_sample: False takes the likeliest token and ignores the next three.
        temperature: Logits are divided by it.
        top_k: Draw among the k likeliest.
        top_p: Draw among the likeliest that together reach this probability.
        min_new_tokens: An answer does not end before.
        min_length: The same, counted with the prompt's text tokens, as transformers counts it.
        stop_strings: An answer ends before the first of them.
        seed: Of this row's draws, whatever batch it is in; None draws from the process's random stream.

    Raises:
        ConfigError: A value out of range.
    """

    max_new_tokens: int = 512
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_new_tokens: int = 0
    min_length: int = 0
    stop_strings: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {self.max_new_tokens}: an answer has at least 1 token")
        if self.do_sample and not self.temperature > 0:
            raise ConfigError(
                f"temperature {self.temperature}: must be above 0; "
                "use do_sample=False for the likeliest token"
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p {self.top_p}: must be above 0 and at most 1")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k {self.top_k}: must be at least 1")
        if "" in self.stop_strings:
            raise ConfigError("stop_strings: an empty text would end every answer; leave it out")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Options by name.

        Raises:
            ConfigError: An unknown name, naming the nearest, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
                raise ConfigError(f"generate: unknown option {name!r} ({hint})")
        return cls(**values)


@contextmanager
def evaluating(vlm: VideoLanguageModel) -> Iterator[None]:
    """Put the core in eval mode, then back in the mode it was in."""
    was_training = vlm.core.training
    vlm.core.eval()
    try:
        yield
    finally:
        vlm.core.train(was_training)


class Decoder:
    """Goes on with prompts; the caller holds the model in eval mode.

    Args:
        vlm: Whose answers.
        asked: The prompts.
        options: Of each row.

    Attributes:
        finished: Per row why it ended, None while it goes on.
    """

    def __init__(self, vlm: VideoLanguageModel, asked: Asked, options: Sequence[AnswerOptions]) -> None:
        self._vlm = vlm
        self._model: Any = vlm.core.language_model
        self._stop_ids = stop_token_ids(vlm)
        self._pad_id = int(vlm.tokenizer.pad_token_id)
        room = vlm.settings.llm_max_length
        self._rows = [_Row(row_options, asked, index, room=room) for index, row_options in enumerate(options)]
        self.finished: list[Finish | None] = [None] * len(self._rows)
        begin_alone(vlm)
        self._embeds = embed_asked(vlm, asked)
        self._mask = asked.attention_mask.to(vlm.device)
        self._positions = asked.position_ids.to(vlm.device)
        self._cache: Any = None

    @property
    def is_done(self) -> bool:
        """True when every row has ended."""
        return None not in self.finished

    def end(self, row: int) -> None:
        """End a row's answer from outside."""
        self.finished[row] = self.finished[row] or "stop"

    @torch.no_grad()
    def step(self) -> list[int | None]:
        """The next token of each row; None of a row that has ended, or ends now."""
        logits = self._next_logits()
        likeliest = logits.argmax(-1).tolist()
        tokens: list[int | None] = [None] * len(self._rows)
        for index, row in enumerate(self._rows):
            if self.finished[index] is not None:
                continue
            token = row.choose(logits[index], likeliest[index], self._stop_ids)
            if token in self._stop_ids:
                self.finished[index] = "stop"
                continue
            tokens[index] = token
            row.num_new += 1
            if row.num_new == row.most:
                self.finished[index] = "length"
        if not self.is_done:
            self._feed([self._pad_id if token is None else token for token in tokens])
        return tokens

    def _next_logits(self) -> torch.Tensor:
        """[B, V] after the newest tokens; embedding rows past the tokenizer's are padding."""
        output = self._model(
            inputs_embeds=self._embeds,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        return output.logits[:, -1, : len(self._vlm.tokenizer)].float()

    def _feed(self, tokens: list[int]) -> None:
        ids = torch.tensor(tokens, device=self._vlm.device).unsqueeze(-1)
        self._embeds = self._model.get_input_embeddings()(ids)
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=-1)
        self._positions = self._positions[:, -1:] + 1


class _Row:
    """One row's choices."""

    def __init__(self, options: AnswerOptions, asked: Asked, index: int, *, room: int) -> None:
        from transformers import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

        self.num_new = 0
        self.most = min(options.max_new_tokens, room - asked.lengths[index])
        num_text = int((asked.input_ids[index, -asked.lengths[index] :] >= 0).sum())
        self._least = max(options.min_new_tokens, options.min_length - num_text)
        self._options = options
        self._generator = None if options.seed is None else torch.Generator().manual_seed(options.seed)
        self._warpers: Any = LogitsProcessorList()
        if options.top_k is not None:
            self._warpers.append(TopKLogitsWarper(options.top_k))
        if options.top_p is not None and options.top_p < 1:
            self._warpers.append(TopPLogitsWarper(options.top_p))

    def choose(self, logits: torch.Tensor, likeliest: int, stop_ids: frozenset[int]) -> int:
        is_held = self.num_new < self._least
        if not self._options.do_sample and not (is_held and likeliest in stop_ids):
            return likeliest
        scores = logits.cpu().clone()  # draws are the same on every device
        if is_held:
            scores[[token for token in stop_ids if token < len(scores)]] = -torch.inf
        if not self._options.do_sample:
            return int(scores.argmax())
        warped = self._warpers(None, (scores / self._options.temperature).unsqueeze(0))
        return int(torch.multinomial(torch.softmax(warped[0], dim=-1), 1, generator=self._generator))
