r"""Where frames stand in a prompt: `visual_placement`.

    after-bos   <s> V V V V In: What moves?\nOut:                      all of them, as VideoWeave does it
    in-place    <s> In: V V V V\nWhat moves?\nOut:                     where <image> or <video> stood
    per-clip    <s> In: Clip 1: V V\nClip 2: V V\nWhat moves?\nOut:    the same, a block for each clip

The first tag of the first human turn is the place; other tags are removed. Without a tag the place is the
beginning of that turn, a line of its own. A row of one clip is one block without a marker; a row without
frames has none. Markers are part of the prompt and not learnt.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence

import torch

from weave_data.errors import VerificationError
from weave_train.rows.segments import (
    IGNORE_INDEX,
    VISUAL_TOKEN_ID,
    Encoded,
    Piece,
    PieceKind,
    message,
    template,
)

__all__ = ["clip_frames", "mark_place", "place_blocks", "shuffled_frames", "splice_visual"]

_TAGS = re.compile(r"<image>|<video>")


def clip_frames(num_frames: int, owners: Sequence[int] | None) -> tuple[int, ...]:
    """Frames of each clip of a woven row, in order.

    Args:
        num_frames: Of the row.
        owners: Its `frame_clip`; None: all frames are one clip's.

    Raises:
        VerificationError: The two are of different lengths.
    """
    if owners is None:
        return (num_frames,) if num_frames else ()
    if len(owners) != num_frames:
        raise VerificationError(
            f"frame_clip has {len(owners)} entries for {num_frames} frames; "
            "run weave-data verify on the data set"
        )
    return tuple(len(list(group)) for _, group in itertools.groupby(owners))


def shuffled_frames(frames: Sequence[bytes], *, seed: int, sample_id: str) -> list[bytes]:
    """Frames of all clips in one order drawn for the sample: the same in every epoch and on every rank.

    Source:
        VideoWeave, `FinetuneDataset(shuffle_frames=True)`. Differs: theirs is drawn anew at each read.
    """

    def key(index: int) -> bytes:
        return hashlib.blake2b(f"{seed}/{sample_id}/{index}".encode(), digest_size=16).digest()

    return [frames[index] for index in sorted(range(len(frames)), key=key)]


def mark_place(text: str, *, placement: str, is_first: bool) -> list[Piece]:
    """Pieces of one turn's message; the first turn of those with a place has a visual piece.

    Args:
        text: As the data set or a person gives it.
        placement: `model.visual_placement`.
        is_first: Of the conversation.
    """
    if placement == "after-bos":
        return [message(text.replace("<image>", "").strip())]
    if not is_first:
        return [message(_TAGS.sub("", text).strip())]
    found = _TAGS.search(text)
    if found is None:
        return [Piece("", PieceKind.VISUAL), message(text.strip())]
    before, after = (_TAGS.sub("", part) for part in (text[: found.start()], text[found.end() :]))
    return [message(before.lstrip()), Piece(found.group(), PieceKind.VISUAL), message(after.rstrip())]


def place_blocks(pieces: Sequence[Piece], clip_tokens: Sequence[int], *, placement: str) -> list[Piece]:
    """Pieces with the visual tokens of a row's clips at their place.

    Args:
        pieces: Of one segment, from `mark_place`.
        clip_tokens: Visual tokens of each clip; empty for text only.
        placement: `model.visual_placement`.
    """
    at = next((i for i, piece in enumerate(pieces) if piece.kind is PieceKind.VISUAL), None)
    if at is None:
        return list(pieces)
    before, place, after = list(pieces[:at]), pieces[at], list(pieces[at + 1 :])
    if not sum(clip_tokens):
        return _joined(before, after)
    blocks: list[Piece] = []
    if placement == "per-clip" and len(clip_tokens) > 1:
        for number, tokens in enumerate(clip_tokens, start=1):
            line_start = "\n" if blocks else ""
            blocks += [template(f"{line_start}Clip {number}: "), _block(tokens)]
    else:
        blocks = [_block(sum(clip_tokens))]
    line_end = [] if place.text else [template("\n")]
    return [*before, *blocks, *line_end, *after]


def _joined(before: list[Piece], after: list[Piece]) -> list[Piece]:
    """The message as if the tag had never been in it."""
    halves = [side.pop(i) for side, i in ((before, -1), (after, 0)) if side and _is_message(side[i])]
    return [*before, message("".join(half.text for half in halves).strip()), *after]


def _is_message(piece: Piece) -> bool:
    return piece.kind is PieceKind.MESSAGE


def _block(num_tokens: int) -> Piece:
    return Piece("", PieceKind.VISUAL, num_tokens)


def splice_visual(encoded: Encoded, num_visual: int, *, start: int) -> Encoded:
    """Insert visual placeholders at a position, unlabelled: ids and labels grow by `num_visual`."""

    def insert(values: torch.Tensor, filler: int) -> torch.Tensor:
        return torch.cat([values[:start], values.new_full((num_visual,), filler), values[start:]])

    return Encoded(insert(encoded.input_ids, VISUAL_TOKEN_ID), insert(encoded.labels, IGNORE_INDEX))
