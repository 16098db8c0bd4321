"""Media of one record become the frames of its row: videos decoded now, images byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from weave_data.config import FramesConfig
from weave_data.decode.decoder import RgbImage, load_decoder
from weave_data.decode.images import read_image
from weave_data.decode.job import ClipJob, PictureFormat
from weave_data.decode.picture import encode_picture, fit_short_side
from weave_data.errors import DecodeError, SourceError, StoreError, VerificationError
from weave_data.frame_policy import FrameAsk
from weave_data.storage.sources import SourceRoot
from weave_train.order import permute

__all__ = ["Frame", "FrameSampling", "read_media"]


@dataclass(frozen=True)
class FrameSampling:
    """Which frames of a record's videos are taken, and how they are kept.

    Attributes:
        policy: `random-sorted` draws anew in every epoch.
        frames_per_sample: Of a record that does not say how many; divided among its videos.
        frames: Decoder, short side in px, format and quality, as in a build.
        seed: Of the run; with epoch, sample and video it decides what is drawn.
    """

    policy: Literal["linspace", "segment-center", "random-sorted"] = "random-sorted"
    frames_per_sample: int = 16
    frames: FramesConfig = field(default_factory=FramesConfig)
    seed: int = 7

    def to_json(self) -> dict[str, Any]:
        """What decides pixels, but the seed."""
        return {
            "frame_policy": self.policy,
            "frames_per_sample": self.frames_per_sample,
            **self.frames.model_dump(mode="json"),
        }

    def indices(self, num_source_frames: int, seconds: float, *, count: int, draw: str) -> list[int]:
        """Frames to take of one video, ascending; of one that is too short the last is repeated.

        Args:
            num_source_frames: n.
            seconds: Presentation time of the last frame minus that of the first.
            count: k.
            draw: What a random draw is keyed by, the seed beside it.

        Source:
            VideoWeave draws k of n frames without replacement and sorts them. Differs: the draw is
            keyed, so it is the same after a resume; short videos are not replaced by black frames.
        """
        if self.policy != "random-sorted" or num_source_frames < count:
            policy = "linspace" if self.policy == "random-sorted" else self.policy
            indices: list[int] = FrameAsk(policy, count).indices(num_source_frames, seconds).tolist()
            return indices
        digest = hashlib.blake2b(f"frames/{self.seed}/{draw}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        return sorted(permute(index, size=num_source_frames, key=key) for index in range(count))


class Frame(NamedTuple):
    """One frame of a row: which of the record's media, where in it, size in px, bytes."""

    medium_index: int
    frame_index: int
    seconds: float
    width: int
    height: int
    data: bytes


def read_media(
    record: Mapping[str, Any], *, root: SourceRoot, sampling: FrameSampling, sample_id: str, epoch: int
) -> list[Frame]:
    """Read and decode all media of a record.

    Args:
        record: `keys`, `num_videos`, `frames_per_video`.
        root: Where the keys lie.
        sampling: Which frames of videos.
        sample_id: Draws are keyed by it.
        epoch: Draws are keyed by it.

    Returns:
        All frames of the first medium, then of the second, ...

    Raises:
        StoreError: A file can't be read; names it.
        VerificationError: A file can't be decoded; names it.
    """
    keys: Sequence[str] = record["keys"]
    num_videos: int = record["num_videos"]
    count = record["frames_per_video"] or max(1, sampling.frames_per_sample // max(1, num_videos))
    frames: list[Frame] = []
    for medium_index, key in enumerate(keys):
        data = _read(root, key)
        try:
            if medium_index < num_videos:
                draw = f"{epoch}/{sample_id}/{medium_index}"
                frames += _video_frames(medium_index, data, sampling, count=count, draw=draw)
            else:
                frames.append(_image_frame(medium_index, data))
        except DecodeError as error:
            raise VerificationError(f"{root.uri}/{key}: no frames can be decoded: {error}") from error
    return frames


def _read(root: SourceRoot, key: str) -> bytes:
    try:
        return root.read(key)
    except StoreError:
        raise
    except (SourceError, OSError) as error:
        raise StoreError(f"{root.uri}/{key}: can't be read: {error}") from error


def _image_frame(medium_index: int, data: bytes) -> Frame:
    image = read_image(data, ClipJob((FrameAsk("linspace", 1),), media="image"))
    return Frame(medium_index, 0, 0.0, image.width, image.height, data)


def _video_frames(
    medium_index: int, data: bytes, sampling: FrameSampling, *, count: int, draw: str
) -> list[Frame]:
    frames = sampling.frames
    picture = PictureFormat(frames.short_side_px, frames.format, frames.quality)
    wanted: list[int] = []

    def choose(num_source_frames: int, seconds: float) -> list[int]:
        wanted[:] = sampling.indices(num_source_frames, seconds, count=count, draw=draw)
        return sorted(set(wanted))

    def keep(index: int, rgb: RgbImage) -> tuple[int, int, bytes]:  # noqa: ARG001
        height, width = rgb.shape[:2]
        size = fit_short_side(width, height, short_side_px=picture.short_side_px)
        return (*size, encode_picture(rgb, size=size, picture=picture))

    decoded = load_decoder(frames.decoder).decode(data, choose=choose, keep=keep)
    by_index = {frame.index: frame for frame in decoded.frames}
    return [Frame(medium_index, index, by_index[index].seconds, *by_index[index].kept) for index in wanted]
