"""A video file becomes the frames a run would have been trained on.

The same code as in a build decodes, resizes and compresses them, with the settings the run recorded:
the model was taught with frames that went through that JPEG.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Literal

from weave_data.decode.decoder import load_decoder
from weave_data.decode.isolation import IsolatedDecoder, LostClipError
from weave_data.decode.job import ClipFrames, ClipJob, PictureFormat
from weave_data.decode.worker import decode_clip
from weave_data.errors import DecodeError, SourceError
from weave_data.frame_policy import FrameAsk, linspace_indices
from weave_train.config import ModelSettings

__all__ = ["LostVideoError", "VideoReader", "frames_from_video"]


class LostVideoError(SourceError):
    """A circumstance kept a video from being decoded, time or memory: another try may succeed."""


def frames_from_video(
    path: Path | str, settings: ModelSettings, *, num_frames: int | None = None
) -> list[bytes]:
    """Sample a video as the run's data set was sampled.

    Args:
        path: A local video file.
        settings: Of the run: `num_frames`, frame policy, and in `frames` decoder, size and quality.
        num_frames: Instead of the run's.

    Returns:
        Bytes of `num_frames` frames in order; with `linspace` both ends are among them. A video with
        fewer frames repeats some, as VideoWeave does.

    Raises:
        SourceError: The file can't be read, or is not a video that can be decoded.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: can't be read: {error.strerror}; give a local video file") from error
    try:
        ask = _ask(settings, num_frames)
        clip = decode_clip(load_decoder(settings.frames.decoder), data, ClipJob((ask,)), _picture(settings))
    except DecodeError as error:
        raise SourceError(f"{path}: no frames can be decoded: {error}") from error
    return _in_order(clip, ask)


class VideoReader:
    """`frames_from_video` for files of strangers: decodes in a child process, within time and memory.

    Args:
        settings: Of the run.
        timeout_seconds: Of one video.
        memory_bytes: That the child may hold.
    """

    def __init__(
        self, settings: ModelSettings, *, timeout_seconds: float = 120.0, memory_bytes: int = 4 << 30
    ) -> None:
        self._settings = settings
        self._decoder = IsolatedDecoder(
            decoder=settings.frames.decoder,
            picture=_picture(settings),
            timeout_seconds=timeout_seconds,
            memory_bytes=memory_bytes,
        )
        self._lock = threading.Lock()

    def read(
        self,
        data: bytes,
        *,
        num_frames: int | None = None,
        policy: Literal["linspace", "segment-center"] | None = None,
        span_seconds: tuple[float, float] | None = None,
    ) -> list[bytes]:
        """Sample a video as the run's data set was sampled; one at a time.

        Args:
            data: The video file.
            num_frames: Instead of the run's.
            policy: Instead of the run's.
            span_seconds: Only this part of it, [start, stop) after its first frame.

        Raises:
            LostVideoError: Decoding took too long, or its process was killed.
            SourceError: It is no video that can be decoded.
        """
        ask = _ask(self._settings, num_frames)
        if policy is not None:
            ask = FrameAsk(policy, ask.count)
        ask = replace(ask, span_seconds=span_seconds)
        try:
            with self._lock:
                clip = self._decoder.decode(data, ClipJob((ask,)))
        except DecodeError as error:
            raise SourceError(f"no frames can be decoded: {error}") from error
        except LostClipError as error:
            raise LostVideoError(f"no frames can be decoded: {error}") from error
        return _in_order(clip, ask)

    def close(self) -> None:
        """End the child process."""
        with self._lock:
            self._decoder.__exit__(None, None, None)


def _ask(settings: ModelSettings, num_frames: int | None) -> FrameAsk:
    wanted = settings.num_frames if num_frames is None else num_frames
    policy = "linspace" if settings.frame_policy == "random-sorted" else settings.frame_policy
    return FrameAsk(policy, wanted, settings.fps)


def _picture(settings: ModelSettings) -> PictureFormat:
    stored = settings.frames
    return PictureFormat(stored.short_side_px, stored.format, stored.quality)


def _in_order(clip: ClipFrames, ask: FrameAsk) -> list[bytes]:
    by_index = {index: frame for index, _, frame in clip.frames}
    if ask.policy == "linspace" and ask.span_seconds is None:
        indices = linspace_indices(clip.source_frames, ask.count)
    else:
        indices = ask.indices(clip.source_frames, clip.source_seconds)
    return [by_index[index] for index in indices.tolist()]
