"""What a decoder process is asked for and what it answers: the nouns on both sides of the socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from weave_data.frame_policy import FrameAsk

__all__ = ["ClipFrames", "ClipJob", "PictureFormat"]


@dataclass(frozen=True)
class PictureFormat:
    """How frames are stored.

    Attributes:
        short_side_px: Short side; smaller pictures keep their size.
        format: `jpeg`, or `png` without loss.
        quality: Of JPEGs, 1..100.
    """

    short_side_px: int
    format: Literal["jpeg", "png"] = "jpeg"
    quality: int = 85

    def to_json(self) -> dict[str, Any]:
        """Plain dict for the decoder process."""
        return {"short_side_px": self.short_side_px, "format": self.format, "quality": self.quality}


@dataclass(frozen=True)
class ClipJob:
    """Which frames to take of a clip.

    Attributes:
        asks: Their union is stored.
        stored: Indices that are there already and left out.
        media: `video`, or `image`, whose bytes are kept as they are.
        measure: Also measure the clip; see `measures`.
    """

    asks: tuple[FrameAsk, ...]
    stored: tuple[int, ...] = ()
    media: str = "video"
    measure: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain dict for the decoder process."""
        asks = [ask.to_json() for ask in self.asks]
        return {"asks": asks, "stored": list(self.stored), "media": self.media, "measure": self.measure}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClipJob:
        """Inverse of `to_json`."""
        asks = tuple(FrameAsk.from_json(ask) for ask in values["asks"])
        return cls(asks, tuple(values["stored"]), values["media"], values["measure"])


@dataclass(frozen=True)
class ClipFrames:
    """What a clip gave.

    Attributes:
        source_frames: n, frames that a full decode presents.
        source_seconds: Presentation time of the last of them minus that of the first.
        width: Of the stored frames, px.
        height: Likewise.
        frames: (index, seconds after the first frame, bytes), in stored order.
        suffix: Of the members in the tar: `jpg`, `png`, `webp` or `gif`.
        quality: The columns of QUALITY_SCHEMA but `clip_id`; None when not asked for.
    """

    source_frames: int
    source_seconds: float
    width: int
    height: int
    frames: tuple[tuple[int, float, bytes], ...]
    suffix: str = "jpg"
    quality: Mapping[str, Any] | None = None

    def to_message(self) -> tuple[dict[str, Any], bytes]:
        """A JSON header and all frames' bytes, one after the other."""
        header = {
            "source_frames": self.source_frames,
            "source_seconds": self.source_seconds,
            "width": self.width,
            "height": self.height,
            "frames": [[index, seconds, len(data)] for index, seconds, data in self.frames],
            "suffix": self.suffix,
            "quality": None if self.quality is None else dict(self.quality),
        }
        return header, b"".join(data for _, _, data in self.frames)

    @classmethod
    def from_message(cls, header: Mapping[str, Any], blob: bytes) -> ClipFrames:
        """Inverse of `to_message`."""
        frames, start = [], 0
        for index, seconds, size in header["frames"]:
            frames.append((int(index), float(seconds), blob[start : start + size]))
            start += size
        return cls(**{**header, "frames": tuple(frames)})
