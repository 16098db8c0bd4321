"""A video file becomes the frames a run would have been trained on.

The same code as in a build decodes, resizes and compresses them, with the settings the run recorded:
the model was taught with frames that went through that JPEG.
"""

from __future__ import annotations

from pathlib import Path

from weave_data.decode.decoder import load_decoder
from weave_data.decode.job import ClipJob, PictureFormat
from weave_data.decode.worker import decode_clip
from weave_data.errors import DecodeError, SourceError
from weave_data.frame_policy import FrameAsk, linspace_indices
from weave_train.config import ModelSettings

__all__ = ["frames_from_video"]


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
    wanted = settings.num_frames if num_frames is None else num_frames
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: can't be read: {error.strerror}; give a local video file") from error
    stored = settings.frames
    policy = "linspace" if settings.frame_policy == "random-sorted" else settings.frame_policy
    ask = FrameAsk(policy, wanted, settings.fps)
    try:
        clip = decode_clip(
            load_decoder(stored.decoder),
            data,
            ClipJob((ask,)),
            PictureFormat(stored.short_side_px, stored.format, stored.quality),
        )
    except DecodeError as error:
        raise SourceError(f"{path}: no frames can be decoded: {error}") from error
    by_index = {index: frame for index, _, frame in clip.frames}
    if policy == "linspace":
        indices = linspace_indices(clip.source_frames, wanted)
    else:
        indices = ask.indices(clip.source_frames, clip.source_seconds)
    return [by_index[index] for index in indices.tolist()]
