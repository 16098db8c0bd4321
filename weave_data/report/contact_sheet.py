"""A contact sheet: a few woven samples as a picture, frames by clip with captions under them.

    1  9f3c5a..  l4, clustered: 4 clips, 16 frames
    [f][f][f][f]   [f][f][f][f]   [f][f][f][f]   [f][f][f][f]
    caption of     caption of     caption of     caption of
    clip 1         clip 2         clip 3         clip 4
    asked: ...
    answer: ...

Clips flow into further rows when a sample has more than fit, and so do the frames of a clip.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weave_data.records import WovenSample
from weave_data.report.text_layout import load_font, wrap_text

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

__all__ = ["MAX_SAMPLES", "frame_sizes", "write_contact_sheet"]

MAX_SAMPLES = 3

_PAGE_PX = 1600
_MARGIN_PX = 28
_INNER_PX = _PAGE_PX - 2 * _MARGIN_PX
_CLIP_GAP_PX = 20
_FRAME_GAP_PX = 3
_WANTED_FRAME_PX = 88  # narrower than this, clips or frames move to another row
_MAX_FRAME_PX = 192
_MIN_CELL_PX = 180  # a caption needs this much
_TEXT_PX = 15
_LINE_PX = 20
_MAX_CAPTION_LINES = 4
_MAX_FRAMES_PER_CLIP = 64

_PAPER = (250, 250, 248)
_INK = (32, 33, 36)
_FAINT = (112, 114, 118)
_RULE = (206, 206, 202)


@dataclass(frozen=True)
class _Cell:
    """One clip: JPEGs of the frames shown and the lines of its caption."""

    frames: tuple[bytes, ...]
    caption: tuple[str, ...]


@dataclass(frozen=True)
class _Grid:
    """How a sample's clips share the page."""

    clip_columns: int
    cell_px: int
    frame_columns: int
    frame_px: int


def write_contact_sheet(samples: Sequence[WovenSample], path: Path) -> Path:
    """Draw up to three samples into a PNG.

    Args:
        samples: Those past the third are left out.
        path: Where the PNG goes; replaced if it is there.

    Returns:
        `path`.

    Raises:
        ValueError: There is no sample to draw.
    """
    from PIL import Image, ImageDraw

    if not samples:
        raise ValueError("a contact sheet needs at least one sample")
    blocks = [_draw_sample(index, sample) for index, sample in enumerate(samples[:MAX_SAMPLES])]
    height = sum(block.height for block in blocks) + _MARGIN_PX * (len(blocks) + 1)
    page = Image.new("RGB", (_PAGE_PX, height), _PAPER)
    top = _MARGIN_PX
    for index, block in enumerate(blocks):
        if index:
            rule = top - _MARGIN_PX // 2
            ImageDraw.Draw(page).line([(_MARGIN_PX, rule), (_PAGE_PX - _MARGIN_PX, rule)], fill=_RULE)
        page.paste(block, (_MARGIN_PX, top))
        top += block.height + _MARGIN_PX
    sink = io.BytesIO()
    page.save(sink, "PNG")
    path.write_bytes(sink.getvalue())
    return path


def _draw_sample(index: int, sample: WovenSample) -> Image.Image:
    """One sample as a strip of the page's inner width."""
    from PIL import Image, ImageDraw

    grid = _plan_grid(len(sample.clips), _shown(max((clip.num_frames for clip in sample.clips), default=0)))
    cells = _cells(sample, grid)
    rows = [cells[i : i + grid.clip_columns] for i in range(0, len(cells), grid.clip_columns)]
    pictures = [[_draw_frames(cell.frames, grid) for cell in row] for row in rows]
    turns = _turn_lines(sample)
    heights = [_row_height(row, drawn) for row, drawn in zip(rows, pictures, strict=True)]
    title_px = _LINE_PX + 10
    strip = Image.new("RGB", (_INNER_PX, title_px + sum(heights) + _LINE_PX * len(turns)), _PAPER)
    pen = ImageDraw.Draw(strip)
    _draw_title(pen, index, sample)
    top = title_px
    for row, drawn, height in zip(rows, pictures, heights, strict=True):
        for column, (cell, picture) in enumerate(zip(row, drawn, strict=True)):
            left = column * (grid.cell_px + _CLIP_GAP_PX)
            strip.paste(picture, (left, top))
            _draw_lines(pen, cell.caption, (left, top + picture.height + 6), _INK)
        top += height
    _draw_lines(pen, turns, (0, top), _FAINT)
    return strip


def _plan_grid(num_clips: int, num_frames: int) -> _Grid:
    """Fit clips side by side while frames stay large enough, in rows of equal length."""
    wanted = max(_MIN_CELL_PX, _span(num_frames, _WANTED_FRAME_PX, _FRAME_GAP_PX))
    fitting = max(1, (_INNER_PX + _CLIP_GAP_PX) // (wanted + _CLIP_GAP_PX))
    clip_columns = _balanced(num_clips, fitting)
    cell_px = (_INNER_PX + _CLIP_GAP_PX) // clip_columns - _CLIP_GAP_PX
    frame_columns = _balanced(
        num_frames, max(1, (cell_px + _FRAME_GAP_PX) // (_WANTED_FRAME_PX + _FRAME_GAP_PX))
    )
    frame_px = (cell_px + _FRAME_GAP_PX) // frame_columns - _FRAME_GAP_PX
    return _Grid(clip_columns, cell_px, frame_columns, min(frame_px, _MAX_FRAME_PX))


def _balanced(count: int, fitting: int) -> int:
    """Columns of at most `fitting` such that rows are equally long: 8 items, 7 fit -> 4."""
    rows = -(-max(count, 1) // fitting)
    return -(-max(count, 1) // rows)


def _span(count: int, side: int, gap: int) -> int:
    return count * side + max(0, count - 1) * gap


def _shown(num_frames: int) -> int:
    return min(num_frames, _MAX_FRAMES_PER_CLIP)


def _cells(sample: WovenSample, grid: _Grid) -> list[_Cell]:
    font = load_font(_TEXT_PX)
    cells = []
    for slot, clip in enumerate(sample.clips):
        frames = [
            frame for frame, owner in zip(sample.frames, sample.frame_clip, strict=True) if owner == slot
        ]
        shown = _shown(len(frames))
        chosen = tuple(frames[position * len(frames) // shown] for position in range(shown))
        text = clip.caption if shown == len(frames) else f"{clip.caption} ({shown} of {len(frames)} frames)"
        lines = wrap_text(text, font, width_px=grid.cell_px, max_lines=_MAX_CAPTION_LINES)
        cells.append(_Cell(chosen, tuple(lines)))
    return cells


def _draw_frames(frames: Sequence[bytes], grid: _Grid) -> Image.Image:
    from PIL import Image

    side = grid.frame_px
    images = []
    for frame in frames:
        with Image.open(io.BytesIO(frame)) as opened:
            image = opened.convert("RGB")
            scale = min(side / image.width, side / image.height)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            # small sources are enlarged without blur: their pixels are what the model sees
            filter_ = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
            images.append(image.resize(size, filter_))
    tallest = max((image.height for image in images), default=0)
    rows = -(-len(images) // grid.frame_columns)
    picture = Image.new("RGB", (grid.cell_px, _span(rows, tallest, _FRAME_GAP_PX)), _PAPER)
    for position, image in enumerate(images):
        row, column = divmod(position, grid.frame_columns)
        picture.paste(image, (column * (side + _FRAME_GAP_PX), row * (tallest + _FRAME_GAP_PX)))
    return picture


def _row_height(row: Sequence[_Cell], drawn: Sequence[Image.Image]) -> int:
    bodies = (p.height + 6 + _LINE_PX * len(cell.caption) for cell, p in zip(row, drawn, strict=True))
    return max(bodies) + 14


def _turn_lines(sample: WovenSample) -> list[str]:
    font = load_font(_TEXT_PX)
    lines = []
    for turn in sample.conversations:
        name = {"human": "asked", "gpt": "answer"}.get(turn.speaker, turn.speaker)
        text = f"{name}: {turn.value.replace('<image>', '')}"
        lines += wrap_text(text, font, width_px=_INNER_PX, max_lines=2)
    return lines


def _draw_title(pen: ImageDraw.ImageDraw, index: int, sample: WovenSample) -> None:
    bold, plain = load_font(_TEXT_PX, is_bold=True), load_font(_TEXT_PX)
    name = f"{index + 1}   {sample.sample_id[:16]}"
    clips, frames = len(sample.clips), sample.num_frames
    rest = (
        f"{sample.recipe}, {sample.strategy}: {clips} clip{'' if clips == 1 else 's'}, "
        f"{frames} frame{'' if frames == 1 else 's'}{frame_sizes(sample)}, {sample.split}"
    )
    pen.text((0, 0), name, fill=_INK, font=bold)
    left = int(bold.getlength(name)) + 18
    line = wrap_text(rest, plain, width_px=_INNER_PX - left, max_lines=1)
    _draw_lines(pen, line, (left, 0), _FAINT)


def frame_sizes(sample: WovenSample) -> str:
    """` of 448 x 336 px`, every size once in the order of the frames; empty without frames."""
    from PIL import Image

    sizes: dict[str, None] = {}
    for frame in sample.frames:
        with Image.open(io.BytesIO(frame)) as opened:
            sizes[f"{opened.width} x {opened.height}"] = None
    return f" of {', '.join(sizes)} px" if sizes else ""


def _draw_lines(
    pen: ImageDraw.ImageDraw, lines: Sequence[str], corner: tuple[int, int], ink: tuple[int, int, int]
) -> None:
    left, top = corner
    for number, line in enumerate(lines):
        pen.text((left, top + number * _LINE_PX), line, fill=ink, font=load_font(_TEXT_PX))
