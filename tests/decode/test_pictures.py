"""Orientation, size, JPEG, selection and names: the parts that need no video."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from weave_data.config import FramesConfig
from weave_data.decode import frames_key
from weave_data.decode.frame_tar import FrameTarWriter, member_name
from weave_data.decode.job import PictureFormat
from weave_data.decode.picture import encode_picture, fit_short_side, orient
from weave_data.decode.selection import embedding_indices, wanted_indices
from weave_data.frame_policy import FrameAsk

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    return np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], dtype=np.int32).tobytes()


@pytest.mark.parametrize(
    ("display_matrix", "expected"),
    [
        (None, PICTURE),
        (matrix(1, 0, 0, 1), PICTURE),
        (matrix(0, -1, 1, 0), np.rot90(PICTURE)),  # counter-clockwise
        (matrix(-1, 0, 0, -1), np.rot90(PICTURE, 2)),
        (matrix(0, 1, -1, 0), np.rot90(PICTURE, 3)),
        (matrix(-1, 0, 0, 1), PICTURE[:, ::-1]),
        (matrix(1, 0, 0, -1), PICTURE[::-1]),
        (matrix(0, 1, 1, 0), PICTURE.swapaxes(0, 1)),
        (matrix(1, 1, -1, 1), PICTURE),  # 45 degrees: left as coded
    ],
)
def test_pictures_are_turned_and_mirrored_as_the_display_matrix_says(display_matrix, expected) -> None:
    np.testing.assert_array_equal(orient(PICTURE, display_matrix), expected)


@pytest.mark.parametrize(
    ("size", "short_side_px", "expected"),
    [
        ((596, 336), 224, (397, 224)),
        ((336, 596), 224, (224, 397)),
        ((596, 336), 336, (596, 336)),
        ((200, 100), 336, (200, 100)),
        ((3, 2000), 2, (2, 1333)),
    ],
)
def test_the_short_side_fits_and_nothing_is_enlarged(size, short_side_px: int, expected) -> None:
    assert fit_short_side(*size, short_side_px=short_side_px) == expected


def test_jpegs_are_baseline_420_of_the_size_and_keep_the_picture() -> None:
    y, x = np.mgrid[0:60, 0:90]
    rgb = np.stack([x * 2, y * 3, (x + y)], axis=-1).astype(np.uint8)
    data = encode_picture(rgb, size=(45, 30), picture=PictureFormat(48, quality=90))
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size, image.mode) == ("JPEG", (45, 30), "RGB")
    assert [component[1:3] for component in image.layer] == [(2, 2), (1, 1), (1, 1)]
    assert "progressive" not in image.info
    reference = np.asarray(Image.fromarray(rgb).resize((45, 30), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.asarray(image).astype(int) - reference).mean() < 4
    assert data == encode_picture(
        np.asfortranarray(rgb), size=(45, 30), picture=PictureFormat(48, quality=90)
    )


def linspace(*counts: int) -> list[FrameAsk]:
    return [FrameAsk("linspace", count) for count in counts]


def test_frames_are_stored_in_order_of_first_use() -> None:
    assert wanted_indices(10, 0.0, linspace(4, 1, 2)) == [0, 9, 3, 6]
    centers = [FrameAsk("segment-center", 2), FrameAsk("fps", 2, 1.0)]
    assert wanted_indices(10, 3.0, [*centers, *linspace(4)]) == [0, 3, 6, 9, 2, 7]


def test_a_short_clip_gives_an_ask_every_frame_it_has() -> None:
    assert wanted_indices(10, 0.0, linspace(16, 2)) == [0, 9, 1, 2, 3, 4, 5, 6, 7, 8]
    assert wanted_indices(2, 0.0, linspace(4)) == [0, 1]
    assert wanted_indices(1, 0.0, [FrameAsk("fps", 4, 2.0)]) == [0]


@settings(deadline=None)
@given(n=st.integers(1, 400), counts=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_stored_frames_are_the_union_of_every_ask(n: int, counts: list[int]) -> None:
    wanted = wanted_indices(n, 0.0, linspace(*counts))
    needed = [np.linspace(0, n - 1, min(k, n)).astype(int).tolist() for k in counts]
    assert [embedding_indices(n, k) for k in counts] == needed
    assert len(wanted) == len(set(wanted))
    assert set(wanted) == {index for indices in needed for index in indices}
    smallest = np.linspace(0, n - 1, min([*counts, n])).astype(int).tolist()  # its frames are one run
    start = wanted.index(smallest[0])
    assert wanted[start : start + len(smallest)] == smallest


@settings(deadline=None)
@given(ids=st.sets(st.text(min_size=1, max_size=220).filter(lambda text: text.isprintable()), max_size=8))
def test_any_clip_id_is_one_safe_distinct_folder(ids: set[str]) -> None:
    names = {member_name(clip_id, 7) for clip_id in ids}
    assert len(names) == len(ids)
    for name in names:
        folder, file = name.split("/")
        assert file == "000007.jpg"
        assert folder.isascii()
        assert not folder.startswith(".")
        assert len(folder) <= 140
        tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


def test_ordinary_ids_are_readable() -> None:
    assert member_name("9000012", 31) == "9000012/000031.jpg"
    assert member_name("a/b c", 0) == "a%2Fb%20c/000000.jpg"
    assert member_name("..", 0) == "%2E./000000.jpg"


def test_tars_are_deterministic_and_offsets_point_at_the_data(tmp_path: Path) -> None:
    members = [("a/000000.jpg", b"x" * 700), ("a/000005.jpg", b""), ("b/000000.jpg", b"y" * 512)]
    sums = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        tar = FrameTarWriter(tmp_path / folder / "t.tar")
        offsets = [tar.add(name, data) for name, data in members]
        sums.append(tar.close())
        assert tar.num_bytes == tar.path.stat().st_size
    content = tar.path.read_bytes()
    assert sums[0] == sums[1]
    assert [
        content[offset : offset + len(data)] for offset, (_, data) in zip(offsets, members, strict=True)
    ] == [data for _, data in members]
    with tarfile.open(tar.path) as archive:
        for info, (name, data) in zip(archive, members, strict=True):
            assert (info.name, info.size, info.mtime, info.uid, info.gid, info.mode) == (
                *(name, len(data), 0, 0, 0),
                0o644,
            )


def test_only_what_changes_a_pixel_changes_the_key() -> None:
    base = frames_key(FramesConfig())
    assert frames_key(FramesConfig(format="png", quality=90)) == frames_key(FramesConfig(format="png"))
    changed = [
        FramesConfig(format="png"),
        FramesConfig(short_side_px=224),
        FramesConfig(quality=90),
        FramesConfig(decoder="decord"),
    ]
    assert len({base, *map(frames_key, changed)}) == 5
