"""Token ids become text, whole or piece by piece: the pieces put together are the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AnswerText"]

_INCOMPLETE = "\ufffd"  # what decoders give for bytes that are no whole character


class AnswerText:
    """Text of one answer, without control tokens, stripped, cut before the first stop string.

    Args:
        tokenizer: Of the model.
        stop_strings: None of them is in the text.
        opening: What the model says before every answer; not in the text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_strings: Sequence[str] = (), *, opening: str = ""
    ) -> None:
        self._tokenizer = tokenizer
        self._stop_strings = stop_strings
        self._opening = opening
        self._ids: list[int] = []
        self._given = ""
        self.is_stopped = False

    @property
    def num_tokens(self) -> int:
        """Tokens added so far."""
        return len(self._ids)

    @property
    def may_stop(self) -> bool:
        """There are stop strings to look for."""
        return bool(self._stop_strings)

    def add(self, token_id: int) -> str:
        """Add a token; return the text that no later token can change.

        Held back are bytes of an unfinished character, white space that may turn out to be the end, and
        what may be the beginning of a stop string.
        """
        self._ids.append(token_id)
        text = self._decode()
        if self._opening and self._opening.startswith(text.strip()):
            return ""
        if self._stop_strings and self._cut(text) != text:
            self.is_stopped = True
            return self._give(self._cut(text).strip())
        stable = text.rstrip(_INCOMPLETE)
        held = max((_overlap(stable, stop) for stop in self._stop_strings), default=0)
        return self._give(stable[: len(stable) - held].strip())

    def extend(self, token_ids: Sequence[int]) -> None:
        """Add tokens of which no pieces are wanted."""
        self._ids += token_ids

    def finish(self) -> str:
        """What was held back; the answer is over."""
        return self._give(self.whole())

    def whole(self) -> str:
        """The text so far, as it would be if the answer were over."""
        return self._cut(self._decode()).strip()

    def _decode(self) -> str:
        decoded = self._tokenizer.decode(
            self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        said = str(decoded).lstrip() if self._opening else str(decoded)
        return said.removeprefix(self._opening)

    def _cut(self, text: str) -> str:
        found = [at for stop in self._stop_strings if (at := text.find(stop)) >= 0]
        return text[: min(found)] if found else text

    def _give(self, text: str) -> str:
        piece = text[len(self._given) :]
        self._given += piece
        return piece


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
