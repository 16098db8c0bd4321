"""Captions of several clips to one text."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import assert_never

__all__ = ["CaptionJoin", "join_captions"]

CaptionJoin = Literal["parity"]


def join_captions(captions: pa.ListArray, *, style: CaptionJoin) -> pa.StringArray:
    """Join each list of captions in order.

    Args:
        captions: list<string>[n], no nulls, no empty list.
        style: `parity` appends ". " to every caption and strips the ends, as VideoWeave does: a
            caption that ends in a full stop gets a second one.

    Returns:
        string[n].

    Source:
        VideoWeave, `"".join(c + ". " for c in captions).strip()`.
    """
    match style:
        case "parity":
            # the last ". " always leaves a "." at the end, so only the left end has more to strip
            ended = pc.binary_join_element_wise(pc.binary_join(captions, ". "), ".", "")
            return pc.utf8_ltrim_whitespace(ended)
        case _:
            assert_never(style)
