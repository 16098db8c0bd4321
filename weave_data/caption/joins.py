"""Captions of several clips to one text."""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["CaptionJoin", "join_captions", "make_sentences"]

CaptionJoin = Literal["parity", "sentences", "numbered", "timed"]

_LOOSE_END = r"[\s,;:–—-]+$"  # noqa: RUF001 (the dashes that are meant)
"""What no sentence ends with."""

_ENDED = r"[.!?…。！？][\"'”’»)\]]*$"  # noqa: RUF001 (the marks that are meant)
"""What a sentence ends with: a mark, perhaps inside quotes or brackets."""


def join_captions(
    captions: pa.ListArray, *, style: CaptionJoin, seconds: npt.NDArray[np.float32] | None = None
) -> pa.StringArray:
    """Join each list of captions in order.

    Args:
        captions: list<string>[g], no nulls, no empty list; m captions in all.
        style: `parity` appends ". " to every caption and strips the ends, as VideoWeave does: a
            caption that ends in a full stop gets a second one. `sentences` makes each caption one
            sentence: blanks and loose commas at its ends go, a full stop is added where no mark ends
            it; blank captions vanish. `numbered` writes `Clip 1: ...`, one line per clip. `timed`
            adds the seconds within the clip that its frames span: `Clip 1 (0.0-12.4 s): ...`.
        seconds: float32[m, 2], needed by `timed`: first and last frame shown of each clip, in the
            order of the captions, on the clip's own clock.

    Returns:
        string[g].

    Raises:
        ValueError: `timed` without one pair of seconds per caption.

    Source:
        VideoWeave, `"".join(c + ". " for c in captions).strip()`, is `parity`; the others are ours.
    """
    match style:
        case "parity":
            # the last ". " always leaves a "." at the end, so only the left end has more to strip
            ended = pc.binary_join_element_wise(pc.binary_join(captions, ". "), ".", "")
            return pc.utf8_ltrim_whitespace(ended)
        case "sentences":
            sentences = make_sentences(captions.flatten())
            spaced = pc.if_else(pc.equal(sentences, ""), "", _concat(sentences, " "))
            return pc.utf8_rtrim_whitespace(_joined(captions, spaced, ""))
        case "numbered":
            lines = _concat("Clip ", _numbers(captions), ": ", make_sentences(captions.flatten()))
            return _joined(captions, pc.utf8_rtrim_whitespace(lines), "\n")
        case "timed":
            spans = _spans(captions, seconds)
            head = _concat("Clip ", _numbers(captions), " (", spans, " s): ")
            lines = _concat(head, make_sentences(captions.flatten()))
            return _joined(captions, pc.utf8_rtrim_whitespace(lines), "\n")
        case _:
            assert_never(style)


def make_sentences(captions: pa.StringArray) -> pa.StringArray:
    """Each caption as one sentence: string[n]; see style `sentences`."""
    trimmed = pc.utf8_trim_whitespace(captions)
    trimmed = pc.utf8_rtrim_whitespace(pc.replace_substring_regex(trimmed, _LOOSE_END, ""))
    is_whole = pc.or_(pc.match_substring_regex(trimmed, _ENDED), pc.equal(trimmed, ""))
    return pc.if_else(is_whole, trimmed, _concat(trimmed, "."))


def _numbers(captions: pa.ListArray) -> pa.StringArray:
    """1, 2, ... within each list, as text."""
    sizes = captions.value_lengths().to_numpy(zero_copy_only=False)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return pa.array(np.arange(len(starts)) - starts + 1).cast(pa.string())


def _spans(captions: pa.ListArray, seconds: npt.NDArray[np.float32] | None) -> pa.StringArray:
    """`first-last` in tenths of a second, rounded half to even."""
    num_captions = len(captions.flatten())
    if seconds is None or seconds.shape != (num_captions, 2):
        found = "none" if seconds is None else str(seconds.shape)
        raise ValueError(f"style timed needs seconds of shape ({num_captions}, 2), got {found}")
    tenths = np.rint(seconds.astype(np.float64) * 10).astype(np.int64)
    texts = [
        _concat(pa.array(column // 10).cast(pa.string()), ".", pa.array(column % 10).cast(pa.string()))
        for column in (tenths[:, 0], tenths[:, 1])
    ]
    return _concat(texts[0], "-", texts[1])


def _concat(*parts: pa.StringArray | str) -> pa.StringArray:
    return pc.binary_join_element_wise(*parts, "")


def _joined(captions: pa.ListArray, texts: pa.StringArray, separator: str) -> pa.StringArray:
    """Join `texts`, one per flat caption, along the lists of `captions`."""
    sizes = captions.value_lengths().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), texts), separator)
