"""Pieces become token ids, as the tokenizer encodes the whole text; messages can't spell control tokens."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weave_train.rows.segments import Piece, PieceKind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["control_pattern", "run_ids", "token_id"]

_TOKENIZER_LOCK = threading.Lock()  # feed threads share one tokenizer, whose options are mutable state


@functools.lru_cache(maxsize=8)
def control_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Matches every token that the tokenizer counts as special, as it is spelled."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= set(tokenizer.all_special_tokens)
    # the longest first: <|end|> must not hide <|end|>x
    return re.compile("|".join(re.escape(text) for text in sorted(special, key=len, reverse=True)) or "(?!)")


def token_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """Id of a text that the tokenizer has as one added or special token."""
    ids = _encode(tokenizer, text)
    is_whole = text in tokenizer.get_added_vocab() or text in tokenizer.all_special_tokens
    return ids[0] if is_whole and len(ids) == 1 else None


def run_ids(
    tokenizer: PreTrainedTokenizerBase, context: Sequence[Piece], run: Sequence[Piece], *, end: str
) -> list[int]:
    """Ids of pieces, as a continuation of others.

    Args:
        tokenizer: The run's.
        context: What stands directly before; empty for a text of its own.
        run: No visual piece is in it.
        end: Text that ends an answer: a message that spells it stays text even where the tokenizer does
            not count it as special.
    """
    text = "".join(piece.text for piece in run)
    if any(_spells_control(tokenizer, piece, end) for piece in (*context, *run)):
        return _guarded_ids(tokenizer, run, end)
    if context:
        before = "".join(piece.text for piece in context)
        ahead, whole = _encode(tokenizer, before), _encode(tokenizer, before + text)
        if whole[: len(ahead)] == ahead:
            return whole[len(ahead) :]
    return _encode(tokenizer, text)


def _spells_control(tokenizer: PreTrainedTokenizerBase, piece: Piece, end: str) -> bool:
    if piece.kind is not PieceKind.MESSAGE:
        return False
    return end in piece.text or control_pattern(tokenizer).search(piece.text) is not None


def _guarded_ids(tokenizer: PreTrainedTokenizerBase, run: Sequence[Piece], end: str) -> list[int]:
    """Control tokens of templates by themselves; all between them as text."""
    pattern = re.compile(f"({control_pattern(tokenizer).pattern}|{re.escape(end)})")
    ids: list[int] = []
    text = ""
    for piece in run:
        parts = pattern.split(piece.text) if piece.kind is PieceKind.TEMPLATE else [piece.text]
        for index, part in enumerate(parts):
            if index % 2:
                ids += _plain_ids(tokenizer, text, end) + _encode(tokenizer, part)
                text = ""
            else:
                text += part
    return ids + _plain_ids(tokenizer, text, end)


def _plain_ids(tokenizer: PreTrainedTokenizerBase, text: str, end: str) -> list[int]:
    if not text:
        return []
    if end in text and token_id(tokenizer, end) is not None:
        # not special to the tokenizer, special to us: no part may hold it whole
        first, *rest = text.split(end)
        parts = [first + end[:1], *(end[1:] + part + end[:1] for part in rest[:-1]), end[1:] + rest[-1]]
    else:
        parts = [text]
    return [i for part in parts for i in _encode(tokenizer, part, is_plain=True)]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, *, is_plain: bool = False) -> list[int]:
    with _TOKENIZER_LOCK:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=is_plain)
    return ids
