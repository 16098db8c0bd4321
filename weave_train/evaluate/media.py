"""The videos of questions: found below `--data` however they are laid out, and sampled as the run's were.

question.video "ZS9XR.mp4", folder "star/Charades_v1_480"
  star/Charades_v1_480/ZS9XR.mp4        where it was published
  videos/ZS9XR.mp4, video/ZS9XR.mp4     any other place, as long as one file or folder only fits
  ZS9XR.webm, ZS9XR/000001.jpg, ...     another container, frames already taken
question.video "pictures/a.jpg"         one image, at that very place: a single frame
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from PIL import Image

from weave_data.errors import SourceError, StoreError
from weave_data.frame_policy import linspace_indices
from weave_data.storage import SourceRoot
from weave_train.config import ModelSettings
from weave_train.evaluate.question import CIRCUMSTANCE, LostQuestionError, Question, Span
from weave_train.models.media import is_image_name, natural_key
from weave_train.models.video import LostVideoError, VideoReader

__all__ = ["MediaFinder", "Sampling"]

_VIDEO_SUFFIXES = frozenset({".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".gif", ".ts", ".flv"})
_KEPT_VIDEOS = 4


@dataclass(frozen=True)
class Sampling:
    """How many frames of a video are seen, and whether only its middle one is."""

    num_frames: int
    is_center: bool = False


@dataclass(frozen=True)
class _Found:
    """A video file, or the images of a folder in order."""

    key: str
    images: tuple[str, ...] = ()


@dataclass
class MediaFinder:
    """Finds and samples the videos of one task. Not for several threads.

    Args:
        root: What `--data` names.
        settings: Of the run: frame policy, size and quality of stored frames.
    """

    root: SourceRoot
    settings: ModelSettings
    _by_path: dict[str, list[_Found]] | None = None
    _kept: dict[tuple[str, Span | None, Sampling], list[bytes]] = field(default_factory=dict)
    _reader: VideoReader | None = None

    def frames(self, question: Question, sampling: Sampling) -> list[bytes]:
        """Frames of a question's video; none where it has no video.

        Raises:
            LostQuestionError: There is no such video, several files fit, it can't be decoded, or a
                circumstance kept it from being decoded.
            StoreError: The data can't be reached: no question's fault.
        """
        if question.video is None:
            return []
        wanted = (f"{question.folder}/{question.video}", question.span, sampling)
        if wanted not in self._kept:
            while len(self._kept) >= _KEPT_VIDEOS:
                del self._kept[next(iter(self._kept))]
            self._kept[wanted] = self._sampled(question, sampling)
        return self._kept[wanted]

    def close(self) -> None:
        """End the decoder's process."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _sampled(self, question: Question, sampling: Sampling) -> list[bytes]:
        if question.video is not None and _is_picture(question.video):
            return [self._image(self._picture(question))]
        found = self._find(question)
        if found.images:
            images = self._of_folder(found, question, sampling)
            return [self._image(key) for key in images]
        if self._reader is None:
            self._reader = VideoReader(self.settings)
        data = self.root.read(found.key)  # outside: a store that fails is no fault of the video's
        span = question.span
        try:
            return self._reader.read(
                data,
                num_frames=sampling.num_frames,
                policy="segment-center" if sampling.is_center else None,
                span_seconds=None if span is None else (span.start_seconds, span.stop_seconds),
            )
        except LostVideoError as error:
            raise LostQuestionError(CIRCUMSTANCE, f"{found.key}: {error}") from error
        except SourceError as error:
            raise LostQuestionError("undecodable-video", f"{found.key}: {error}") from error

    def _of_folder(self, found: _Found, question: Question, sampling: Sampling) -> Sequence[str]:
        images = found.images
        if question.span is not None:
            if question.frames_hz is None:
                raise LostQuestionError(
                    "undecodable-video", f"{found.key}: frames without a rate, and a part is asked for"
                )
            start = int(question.span.start_seconds * question.frames_hz)
            stop = max(int(question.span.stop_seconds * question.frames_hz), start + 1)
            images = images[start:stop]
            if not images:
                raise LostQuestionError(
                    "undecodable-video",
                    f"{found.key}: {len(found.images)} frames, none in the part asked for",
                )
        if sampling.is_center:
            return [images[len(images) // 2]]
        if len(images) <= sampling.num_frames:
            return images
        return [images[index] for index in linspace_indices(len(images), sampling.num_frames).tolist()]

    def _image(self, key: str) -> bytes:
        data = self.root.read(key)
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise LostQuestionError("undecodable-frame", f"{key}: {error}") from error
        return data

    def _picture(self, question: Question) -> str:
        name = question.video or ""
        for key in [f"{question.folder}/{name}", name] if question.folder else [name]:
            path = PurePosixPath(key)
            if not path.is_absolute() and ".." not in path.parts and self.root.size(key) is not None:
                return key
        raise LostQuestionError("missing-video", f"{question.video}: no such image in {self.root.uri}")

    def _find(self, question: Question) -> _Found:
        assert question.video is not None
        if self._by_path is None:
            self._by_path = self._listed()
        name = PurePosixPath(question.video)
        is_file_name = name.suffix.lower() in _VIDEO_SUFFIXES
        stem = str(name.with_suffix("")) if is_file_name else str(name)
        candidates = self._by_path.get(PurePosixPath(stem).name.lower(), [])
        for tail in (f"{question.folder}/{stem}" if question.folder else "", stem):
            fitting = [found for found in candidates if tail and _ends_with(found.key, tail)]
            exact = [found for found in fitting if found.key == question.video]
            if is_file_name:
                fitting = exact or [found for found in fitting if found.key.endswith(str(name))] or fitting
            elif question.is_frames:
                fitting = exact or [found for found in fitting if found.images] or fitting
            else:  # without a suffix a video and a folder of its thumbnails fit alike
                fitting = exact or fitting
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                names = ", ".join(found.key for found in fitting[:3])
                raise LostQuestionError(
                    "ambiguous-video", f"{question.video}: {len(fitting)} files fit ({names}, ...)"
                )
        raise LostQuestionError("missing-video", f"{question.video}: no such video below {self.root.uri}")

    def _listed(self) -> dict[str, list[_Found]]:
        """Everything below the root by its name without suffix, in lower case."""
        by_name: dict[str, list[_Found]] = {}
        folders: dict[str, list[str]] = {}
        try:
            for info in self.root.list():
                path = PurePosixPath(info.key)
                suffix = path.suffix.lower()
                if suffix in _VIDEO_SUFFIXES:
                    by_name.setdefault(path.stem.lower(), []).append(_Found(info.key))
                elif is_image_name(path.name) and len(path.parts) > 1:
                    folders.setdefault(str(path.parent), []).append(info.key)
        except StoreError as error:
            raise SourceError(f"{self.root.uri}: can't be listed: {error}") from error
        for folder, images in folders.items():
            images.sort(key=lambda key: (natural_key(key), key))
            name = PurePosixPath(folder).name.lower()
            by_name.setdefault(name, []).append(_Found(folder, tuple(images)))
        return by_name


def _is_picture(name: str) -> bool:
    """An image that is not the kind of file that moves."""
    return is_image_name(name) and PurePosixPath(name).suffix.lower() not in _VIDEO_SUFFIXES


def _ends_with(key: str, tail: str) -> bool:
    """Whether a key, its suffix apart, is this path or lies at its end: `a/b/c.mp4` ends with `b/c`."""
    path = PurePosixPath(key)
    plain = str(path.with_suffix("")) if path.suffix.lower() in _VIDEO_SUFFIXES else key
    return f"/{plain.lower()}".endswith(f"/{tail.lower()}")
