r"""Rows as a person reads them: coloured tokens, what is learnt in `[[ ]]`, frames on one sheet.

    <s><4 visual x 16>In: What happens?\n
    Out:[[A red dot.</s>]]

Nothing that a caption holds acts on a terminal: control, direction and invisible characters are written
out, and markup is text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from rich.text import Text

from weave_train.config import ModelSettings
from weave_train.rows.batch import EncodedRow
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID
from weave_train.towers import num_visual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenRun", "frame_sheet", "row_text", "token_runs", "visible"]

_PROMPT_STYLES = ("cyan", "bright_cyan")
_LEARNT_STYLES = ("bold black on green", "bold black on bright_green")
_CONTROL_STYLE = "magenta"
_VISUAL_STYLE = "yellow"
_MARK_STYLE = "bold green"
_INCOMPLETE = "\ufffd"  # what decoders give for bytes that are no whole character
_MAX_CHARACTER_TOKENS = 8

_THUMBNAIL_PX = 96
_LABEL_PX = 18
_GAP_PX = 4
_FRAMES_A_LINE = 16


@dataclass(frozen=True)
class TokenRun:
    """Tokens that are shown as one: a token, those of one character, or a run of visual tokens."""

    ids: tuple[int, ...]
    text: str
    is_learnt: bool
    is_visual: bool = False
    is_control: bool = False


def token_runs(
    row: EncodedRow, *, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings
) -> list[TokenRun]:
    """Tokens of a row in order, as text.

    Args:
        row: As training gets it.
        tokenizer: The run's.
        settings: The run's.
    """
    patches = num_visual_tokens(1, settings)
    control = set(tokenizer.all_special_ids)
    control |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    runs: list[TokenRun] = []
    before: list[int] = []
    for ids, is_learnt in _groups(row, tokenizer):
        if ids[0] == VISUAL_TOKEN_ID:
            frames, rest = divmod(len(ids), patches)
            text = f"<{len(ids)} visual>" if rest else f"<{patches} visual x {frames}>"
            runs.append(TokenRun(tuple(ids), text, is_learnt, is_visual=True))
            before = []
        else:
            text = _decode(tokenizer, [*before, *ids]).removeprefix(_decode(tokenizer, before))
            runs.append(TokenRun(tuple(ids), text, is_learnt, is_control=ids[0] in control))
            before = ids
    return runs


def _groups(row: EncodedRow, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[list[int], bool]]:
    """Visual tokens of a block together, and the tokens of one character."""
    held: list[int] = []
    was_learnt = False
    for token, label in zip(row.input_ids.tolist(), row.labels.tolist(), strict=True):
        is_learnt = label != IGNORE_INDEX
        if held and (is_learnt != was_learnt or not _goes_on(held, token, tokenizer)):
            yield held, was_learnt
            held = []
        held.append(token)
        was_learnt = is_learnt
    if held:
        yield held, was_learnt


def _goes_on(held: Sequence[int], token: int, tokenizer: PreTrainedTokenizerBase) -> bool:
    if VISUAL_TOKEN_ID in (held[0], token):
        return held[0] == token
    return len(held) < _MAX_CHARACTER_TOKENS and _decode(tokenizer, held).endswith(_INCOMPLETE)


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    if not ids:
        return ""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def visible(text: str) -> str:
    r"""Text in which every character can be seen: others as escapes, `\n` with a new line behind it."""
    return "".join(
        r"\n" + "\n"
        if character == "\n"
        else character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def row_text(
    row: EncodedRow, *, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings, with_ids: bool = False
) -> Text:
    """A row for the terminal, headed by its sample id and counts.

    Args:
        row: As training gets it.
        tokenizer: The run's.
        settings: The run's.
        with_ids: Each token is followed by its id.
    """
    counts = f"{len(row.input_ids)} tokens, {row.num_supervised} learnt, {len(row.pixels)} frames"
    shown = Text()
    shown.append(f"{visible(row.sample_id)}", style="bold")
    shown.append(f"  {counts}\n", style="dim")
    was_learnt = False
    for index, run in enumerate(token_runs(row, tokenizer=tokenizer, settings=settings)):
        if run.is_learnt != was_learnt:
            shown.append("[[" if run.is_learnt else "]]", style=_MARK_STYLE)
            was_learnt = run.is_learnt
        shown.append(run.text if run.is_visual else visible(run.text), style=_style(run, index))
        if with_ids and not run.is_visual:
            shown.append(f"({','.join(map(str, run.ids))})", style="dim")
    if was_learnt:
        shown.append("]]", style=_MARK_STYLE)
    return shown


def _style(run: TokenRun, index: int) -> str:
    if run.is_visual:
        return _VISUAL_STYLE
    if run.is_learnt:
        return _LEARNT_STYLES[index % 2]
    return _CONTROL_STYLE if run.is_control else _PROMPT_STYLES[index % 2]


def frame_sheet(rows: Sequence[EncodedRow]) -> Image.Image:
    """Frames of rows as the tower gets them, under their sample ids; at most 16 beside each other."""
    font = ImageFont.load_default(size=12)
    lines = [max(1, -(-len(row.pixels) // _FRAMES_A_LINE)) if len(row.pixels) else 0 for row in rows]
    widest = max((min(len(row.pixels), _FRAMES_A_LINE) for row in rows), default=0)
    step = _THUMBNAIL_PX + _GAP_PX
    width = max(widest * step + _GAP_PX, 480)
    sheet = Image.new("RGB", (width, sum(_LABEL_PX + _GAP_PX + count * step for count in lines)), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, count in zip(rows, lines, strict=True):
        label = f"{visible(row.sample_id)}   {len(row.pixels) or 'no'} frames"
        draw.text((_GAP_PX, top + 2), label.replace("\n", ""), fill="black", font=font)
        top += _LABEL_PX + _GAP_PX
        for index, frame in enumerate(row.pixels):
            at = (_GAP_PX + index % _FRAMES_A_LINE * step, top + index // _FRAMES_A_LINE * step)
            picture = Image.fromarray(frame[:3].permute(1, 2, 0).numpy())  # fused towers: the first one's
            sheet.paste(picture.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BICUBIC), at)
        top += count * step
    return sheet
