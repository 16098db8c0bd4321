"""Text on a picture: the font, and wrapping by measured width."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

__all__ = ["load_font", "wrap_text"]

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@cache
def load_font(size_px: int, *, is_bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: Latin, Greek, Cyrillic, Arabic, many symbols."""
    import matplotlib as mpl
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size_px)


def wrap_text(text: str, font: ImageFont.FreeTypeFont, *, width_px: int, max_lines: int) -> list[str]:
    """Break text into lines that fit, at spaces where there are any.

    Args:
        text: Any text; runs of white space count as one space.
        font: What it will be drawn with.
        width_px: No line is wider.
        max_lines: A longer text ends with an ellipsis.
    """
    pieces = [piece for word in text.split() for piece in _fitting_pieces(word, font, width_px)]
    lines: list[str] = []
    for piece in pieces:
        if lines and font.getlength(f"{lines[-1]} {piece}") <= width_px:
            lines[-1] = f"{lines[-1]} {piece}"
        else:
            lines.append(piece)
    if len(lines) <= max_lines:
        return lines
    return [*lines[: max_lines - 1], _cut(lines[max_lines - 1], font, width_px)]


def _fitting_pieces(word: str, font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    """A word as pieces that fit; scripts without spaces come as one long word."""
    pieces, rest = [], word
    while rest:
        length = len(rest)
        while length > 1 and font.getlength(rest[:length]) > width_px:
            length = max(1, min(length - 1, int(length * width_px / font.getlength(rest[:length]))))
        pieces.append(rest[:length])
        rest = rest[length:]
    return pieces


def _cut(line: str, font: ImageFont.FreeTypeFont, width_px: int) -> str:
    while line and font.getlength(line + _ELLIPSIS) > width_px:
        line = line[:-1]
    return line.rstrip() + _ELLIPSIS
