from __future__ import annotations

import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from weave_data.records import Turn, WovenClip, WovenSample
from weave_data.report import write_contact_sheet
from weave_data.report.text_layout import load_font, wrap_text
from weave_data.shard import iter_rows, read_manifest
from weave_data.storage import Store

PAPER = np.array([250, 250, 248])


def solid(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "JPEG", quality=95)
    return sink.getvalue()


def make_sample(captions: list[str], frames: list[list[bytes]]) -> WovenSample:
    clips = tuple(
        WovenClip(f"c{i}", f"{i}.mp4", caption, 0, len(jpegs))
        for i, (caption, jpegs) in enumerate(zip(captions, frames, strict=True))
    )
    flat = tuple(jpeg for jpegs in frames for jpeg in jpegs)
    owners = tuple(i for i, jpegs in enumerate(frames) for _ in jpegs)
    turns = (Turn("human", "What?"), Turn("gpt", " ".join(captions)))
    numbers = tuple(range(len(flat)))
    return WovenSample(
        "ab" * 16, flat, owners, numbers, tuple(map(float, numbers)), clips, turns,
        "l4", "clustered", "train", 0, len(flat), 64, 48, 9,
    )  # fmt: skip


def draw(samples: list[WovenSample], path: Path) -> np.ndarray:
    with Image.open(write_contact_sheet(samples, path)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def test_frames_stand_by_clip_from_left_to_right(tmp_path: Path) -> None:
    colours = [(220, 20, 20), (20, 180, 20), (20, 20, 220), (200, 200, 20)]
    colours += [(20, 180, 180), (180, 20, 180), (10, 10, 10), (240, 130, 20)]
    frames = [[solid(one), solid(two)] for one, two in zip(colours[::2], colours[1::2], strict=True)]
    pixels = draw([make_sample(["one", "two", "three", "four"], frames)], tmp_path / "sheet.png")
    spans = []
    for colour in colours:
        columns = np.flatnonzero((np.abs(pixels[:120] - colour).max(axis=2) < 12).sum(axis=0) > 30)
        assert len(columns) > 50
        spans.append((columns.min(), columns.max()))
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(spans))


@pytest.mark.parametrize(
    ("num_clips", "num_frames"), [(1, 1), (1, 16), (2, 8), (8, 2), (16, 1), (1, 300), (40, 3)]
)
def test_nothing_runs_over_the_margins(tmp_path: Path, num_clips: int, num_frames: int) -> None:
    captions = ["word " * 60, "unbroken" * 40, "日本語" * 80, "short"]
    pixels = draw(
        [
            make_sample(
                [captions[i % 4] for i in range(num_clips)],
                [[solid((90, 20, 160), (64, 48 + 30 * (i % 2)))] * num_frames for i in range(num_clips)],
            )
        ],
        tmp_path / "sheet.png",
    )
    for border in (pixels[:, :20], pixels[:, -20:], pixels[:12], pixels[-12:]):
        assert (border == PAPER).all()


def test_at_most_three_samples_are_drawn_and_none_is_an_error(store: Store, tmp_path: Path) -> None:
    samples = list(iter_rows(store, read_manifest(store, "l4")))
    three, more = draw(samples[:3], tmp_path / "a.png"), draw(samples[:5], tmp_path / "b.png")
    assert (three.shape, (three == more).all()) == (more.shape, True)
    assert draw(samples[:1], tmp_path / "c.png").shape[0] < three.shape[0]
    with pytest.raises(ValueError, match="at least one sample"):
        write_contact_sheet([], tmp_path / "d.png")


def test_a_sample_without_frames_still_shows_its_text(tmp_path: Path) -> None:
    pixels = draw([dataclasses.replace(make_sample(["only text"], [[]]), num_frames=0)], tmp_path / "t.png")
    assert (pixels.min(axis=2) < 60).sum() > 100


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200), st.integers(20, 400), st.integers(1, 5))
def test_wrapped_lines_fit_and_lose_nothing_unless_cut(text: str, width_px: int, max_lines: int) -> None:
    font = load_font(15)
    lines = wrap_text(text, font, width_px=width_px, max_lines=max_lines)
    assert len(lines) <= max_lines
    assert all(font.getlength(line) <= width_px or len(line) <= 1 for line in lines)
    whole = wrap_text(text, font, width_px=width_px, max_lines=10_000)
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert (lines == whole) == (len(whole) <= max_lines)


def test_a_cut_caption_ends_with_an_ellipsis() -> None:
    lines = wrap_text("many words " * 30, load_font(15), width_px=120, max_lines=2)
    assert len(lines) == 2
    assert lines[1].endswith("\N{HORIZONTAL ELLIPSIS}")
