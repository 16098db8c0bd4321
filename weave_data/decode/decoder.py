"""The protocol every decoder keeps, and the one table of decoders."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from weave_data.errors import DeviceError

__all__ = [
    "ChooseFrames",
    "DecodedClip",
    "DecodedFrame",
    "FrameDecoder",
    "KeepFrame",
    "RgbImage",
    "load_decoder",
]

T = TypeVar("T")

RgbImage = npt.NDArray[np.uint8]
ChooseFrames = Callable[[int, float], Sequence[int]]
KeepFrame = Callable[[int, RgbImage], T]

_DECODERS = {
    "pyav": "weave_data.decode.pyav_decoder:PyavDecoder",
    "decord": "weave_data.decode.decord_decoder:DecordDecoder",
}


@dataclass(frozen=True)
class DecodedFrame(Generic[T]):
    """One presented frame: its index, seconds after the clip's first frame, and what was kept of it."""

    index: int
    seconds: float
    kept: T


@dataclass(frozen=True)
class DecodedClip(Generic[T]):
    """A clip's chosen frames, ascending by index.

    `num_source_frames` is n, the frames a full decode presents; `source_seconds` the presentation time
    of the last of them minus that of the first.
    """

    num_source_frames: int
    source_seconds: float
    frames: tuple[DecodedFrame[T], ...]


class FrameDecoder(Protocol):
    """Turns a clip's bytes into the frames at chosen indices of its presentation order."""

    def decode(self, data: bytes, *, choose: ChooseFrames, keep: KeepFrame[T]) -> DecodedClip[T]:
        """Decode the frames that `choose(n, source_seconds)` names.

        Args:
            data: The whole file.
            choose: Given n and the seconds from first to last frame, the wanted indices in [0, n),
                distinct, in any order. May be called again with other values; the last call counts.
            keep: What to hold of each frame, given its index and uint8[height, width, 3] RGB in display
                orientation: called at once, so that only one full picture is in memory.

        Raises:
            DecodeError: The bytes can't give the frames; the reason is a property of the bytes.
        """
        ...


def load_decoder(name: str) -> FrameDecoder:
    """Build a decoder.

    Args:
        name: `pyav`, `decord`, or `module:attribute` of a decoder elsewhere (tests bring theirs so).

    Raises:
        DeviceError: No such decoder, or its package can't be imported here.
    """
    module_name, _, attribute = _DECODERS.get(name, name).partition(":")
    if not attribute:
        raise DeviceError(f"decoder {name!r} is unknown; choose one of {', '.join(_DECODERS)}")
    try:
        decoder: FrameDecoder = getattr(importlib.import_module(module_name), attribute)()
    except (ImportError, AttributeError, OSError) as error:
        raise DeviceError(
            f"decoder {name!r} can't be loaded: {error}; install its package or set frames.decoder: pyav"
        ) from error
    return decoder
