"""`linspace` gives exactly the frames that a full sequential decode presents."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from clips import RENDERINGS, SPARSE, presented_frames, rendered, shown_numbers
from rendering import read_bar_code

from weave_data.decode import DecodedClip, FrameDecoder, load_decoder
from weave_data.decode.picture import SWSCALE_DEFAULT, SWSCALE_EXACT
from weave_data.decode.pyav_decoder import PyavDecoder, _Reading
from weave_data.errors import DecodeError
from weave_data.frame_policy import linspace_indices

COUNTS = (1, 2, 4, 16)

# decord's limits, as its module says: no AV1, packets counted instead of presented frames, and frames
# beside the wanted ones where pictures of a group are shown before its key frame
DECORD_LIMITS = {"av1", "av1-10-bit", "edit-list", "h264-open-gop", "h264-intra-refresh"} | {
    "hevc",
    "mpeg4",
    "h264-transport-stream",
}
CASES = [("pyav", name) for name in RENDERINGS] + [
    ("decord", name) for name in RENDERINGS if name not in DECORD_LIMITS
]


def take(decoder: FrameDecoder, data: bytes, num_frames: int) -> DecodedClip[np.ndarray]:
    return decoder.decode(
        data, choose=lambda n, _: linspace_indices(n, num_frames).tolist(), keep=lambda _, rgb: rgb.copy()
    )


@pytest.fixture
def sparse_results(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry per use of the packet table: True when it held to the end."""
    results: list[bool] = []
    original = _Reading.sparse

    def spy(self, table, choose, keep):
        clip = original(self, table, choose, keep)
        results.append(clip is not None)
        return clip

    monkeypatch.setattr(_Reading, "sparse", spy)
    return results


@pytest.mark.parametrize(("decoder", "name"), CASES)
def test_every_decoder_gives_the_numbered_frames_at_linspace_indices(decoder: str, name: str) -> None:
    numbers = shown_numbers(name)
    for num_frames in COUNTS:
        clip = take(load_decoder(decoder), rendered(name), num_frames)
        indices = np.linspace(0, len(numbers) - 1, num_frames).astype(int).tolist()
        assert clip.num_source_frames == len(numbers)
        assert [frame.index for frame in clip.frames] == indices
        assert [read_bar_code(frame.kept) for frame in clip.frames] == [numbers[index] for index in indices]


@pytest.mark.parametrize("name", RENDERINGS)
def test_frames_are_bit_identical_to_a_full_sequential_decode(name: str, sparse_results: list[bool]) -> None:
    data = rendered(name)
    reference = presented_frames(data, interpolation=SWSCALE_EXACT)
    for num_frames in COUNTS:
        for frame in take(PyavDecoder(), data, num_frames).frames:
            np.testing.assert_array_equal(frame.kept, reference[frame.index])
    everything = PyavDecoder().decode(data, choose=lambda n, _: range(n), keep=lambda _, rgb: rgb)
    for frame in everything.frames:
        np.testing.assert_array_equal(frame.kept, reference[frame.index])
    assert sparse_results == ([True] * 5 if name in SPARSE else [])


@pytest.mark.parametrize(
    "name", ["h264", "h264-one-gop", "h264-matroska", "h264-full-range", "variable-rate"]
)
def test_default_conversion_equals_decord_on_8_bit_h264(name: str) -> None:
    for num_frames in COUNTS:
        ours = take(PyavDecoder(swscale_flags=SWSCALE_DEFAULT), rendered(name), num_frames)
        theirs = take(load_decoder("decord"), rendered(name), num_frames)
        assert ours.num_source_frames == theirs.num_source_frames
        for mine, other in zip(ours.frames, theirs.frames, strict=True):
            np.testing.assert_array_equal(mine.kept, other.kept)


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_seconds_count_from_the_first_presented_frame(decoder: str) -> None:
    pts_ms = np.array(RENDERINGS["variable-rate"].pts_ms)
    clip = load_decoder(decoder).decode(
        rendered("variable-rate"), choose=lambda n, _: range(n), keep=lambda _, rgb: None
    )
    seconds = [frame.seconds for frame in clip.frames]
    assert seconds == pytest.approx((pts_ms - pts_ms[0]) / 1000, abs=2e-3)


def test_seconds_of_an_edit_listed_clip_start_at_zero() -> None:
    clip = PyavDecoder().decode(rendered("edit-list"), choose=lambda n, _: range(n), keep=lambda _, rgb: None)
    assert [frame.seconds for frame in clip.frames] == pytest.approx(np.arange(31) / 25)


def test_a_clip_too_large_to_hold_is_decoded_twice_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = take(PyavDecoder(), rendered("vp9"), 4)
    monkeypatch.setattr("weave_data.decode.pyav_decoder._HELD_BYTES", 50_000)
    for mine, other in zip(take(PyavDecoder(), rendered("vp9"), 4).frames, held.frames, strict=True):
        np.testing.assert_array_equal(mine.kept, other.kept)


def test_a_key_frame_flag_that_lies_sends_the_clip_to_the_sequential_path() -> None:
    """Without a sync sample table every MP4 sample claims to be a key frame."""
    data = rendered("h264")
    lying = data.replace(b"stss", b"free")
    assert lying != data
    reference = presented_frames(data, interpolation=SWSCALE_EXACT)
    for frame in take(PyavDecoder(), lying, 16).frames:
        np.testing.assert_array_equal(frame.kept, reference[frame.index])


def test_a_wanted_frame_that_never_comes_sends_the_clip_to_the_sequential_path(
    monkeypatch: pytest.MonkeyPatch, sparse_results: list[bool]
) -> None:
    original = _Reading._decode_range

    def losing(self, segment, *, can_skip):
        lost = max(segment.wanted_pts)
        return (frame for frame in original(self, segment, can_skip=can_skip) if frame.pts != lost)

    monkeypatch.setattr(_Reading, "_decode_range", losing)
    clip = take(PyavDecoder(), rendered("h264"), 4)
    assert sparse_results == [False]
    assert [read_bar_code(frame.kept) for frame in clip.frames] == [0, 13, 26, 39]


def test_only_the_groups_that_hold_a_wanted_frame_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = []
    original = _Reading._decode_range

    def spy(self, segment, *, can_skip):
        segments.append((segment.start, segment.stop))
        return original(self, segment, can_skip=can_skip)

    monkeypatch.setattr(_Reading, "_decode_range", spy)
    PyavDecoder().decode(rendered("vp8"), choose=lambda n, _: [0, 26], keep=lambda _, rgb: None)
    assert segments == [(0, 1), (24, 27)]


def real_clips() -> list[Path]:
    folder = os.environ.get("WEAVE_ASSETS")
    if not folder:
        pytest.skip("WEAVE_ASSETS names no folder of real clips")
    return sorted(path for path in (Path(folder) / "clips" / "videos").iterdir())


def test_a_few_real_clips_are_exact() -> None:
    few = [path for path in real_clips() if path.stat().st_size < 120_000]
    assert len(few) >= 5
    for path in few:
        check_real(path)


@pytest.mark.slow
def test_all_real_clips_are_exact() -> None:
    for path in real_clips():
        check_real(path)


def check_real(path: Path) -> None:
    data = path.read_bytes()
    reference = presented_frames(data, interpolation=SWSCALE_EXACT)
    for num_frames in (2, 16):
        clip = take(PyavDecoder(), data, num_frames)
        assert clip.num_source_frames == len(reference), path.name
        for frame in clip.frames:
            np.testing.assert_array_equal(frame.kept, reference[frame.index], err_msg=path.name)


def test_an_unknown_decoder_is_named_with_the_known_ones() -> None:
    from weave_data.errors import DeviceError

    with pytest.raises(DeviceError, match="pyav, decord"):
        load_decoder("pyva")
    with pytest.raises(DeviceError, match="can't be loaded"):
        load_decoder("no_such_module:Decoder")


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_decoders_know_no_frame_that_is_not_asked_for(decoder: str) -> None:
    clip = load_decoder(decoder).decode(
        rendered("h264"), choose=lambda n, _: [n - 1, 0], keep=lambda _, rgb: rgb.shape
    )
    assert [(frame.index, frame.kept) for frame in clip.frames] == [(0, (64, 96, 3)), (39, (64, 96, 3))]


def test_decord_says_that_it_can_not_open_av1() -> None:
    with pytest.raises(DecodeError, match="corrupt: decord can't open the av1 stream"):
        take(load_decoder("decord"), rendered("av1"), 2)
