"""What a model is asked about, from files: a video, a folder of frames, or an image."""

from __future__ import annotations

import re
from pathlib import Path

from weave_data.errors import ConfigError, SourceError
from weave_data.frame_policy import linspace_indices
from weave_train.config import ModelSettings
from weave_train.models.video import frames_from_video

__all__ = ["frames_from_folder", "frames_from_image", "frames_from_path", "is_image_name", "natural_key"]

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key by which `frame2` stands before `frame10`, and names without digits by letters."""
    parts = re.split(r"(\d+)", name.lower())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def is_image_name(name: str) -> bool:
    """Whether a file is named as an image: `a.jpg`, `b.PNG`."""
    return Path(name).suffix.lower() in _IMAGE_SUFFIXES


def frames_from_folder(folder: Path | str, settings: ModelSettings) -> list[bytes]:
    """Image files of a folder in natural order.

    Args:
        folder: Only its own files count, not those of folders in it.
        settings: Where there are more than its `num_frames`, as many are taken, evenly, both ends among
            them.

    Raises:
        SourceError: It can't be read, or there is no image in it.
    """
    try:
        files = [path for path in Path(folder).iterdir() if is_image_name(path.name)]
    except OSError as error:
        raise SourceError(f"{folder}: can't be read: {error.strerror}; give a folder of frames") from error
    files.sort(key=lambda path: (natural_key(path.name), path.name))
    if not files:
        known = ", ".join(sorted(_IMAGE_SUFFIXES))
        raise SourceError(f"{folder}: there is no image in it ({known}); give a folder of frames")
    if len(files) > settings.num_frames:
        files = [files[index] for index in linspace_indices(len(files), settings.num_frames).tolist()]
    return [_read(path) for path in files]


def frames_from_image(path: Path | str) -> list[bytes]:
    """One image file.

    Raises:
        SourceError: It can't be read.
    """
    return [_read(Path(path))]


def frames_from_path(path: Path | str, settings: ModelSettings) -> list[bytes]:
    """A folder, an image or a video, by what it is and how it is named.

    Raises:
        ConfigError: There is no such file.
        SourceError: It can't be read.
    """
    place = Path(path)
    if not place.exists():
        raise ConfigError(f"there is no file {str(path)!r}; give a video, an image or a folder of frames")
    if place.is_dir():
        return frames_from_folder(place, settings)
    if is_image_name(place.name):
        return frames_from_image(place)
    return frames_from_video(place, settings)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: can't be read: {error.strerror}; give a local image file") from error
