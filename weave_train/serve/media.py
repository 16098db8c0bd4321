"""Frames out of data: URLs. Whoever sends them is a stranger: sizes are checked before pixels are made."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weave_data.decode.images import MAX_PIXELS, read_image
from weave_data.decode.job import ClipJob
from weave_data.errors import DecodeError, SourceError
from weave_data.frame_policy import FrameAsk
from weave_train.serve.api_errors import ApiError
from weave_train.serve.limits import ServeLimits
from weave_train.serve.requests import ImagePart, Message, TextPart, VideoPart

if TYPE_CHECKING:
    from weave_train.models.video import VideoReader

__all__ = ["read_frames"]

_IMAGE_JOB = ClipJob((FrameAsk("linspace", 1),), media="image")


def read_frames(messages: Sequence[Message], videos: VideoReader, limits: ServeLimits) -> list[bytes]:
    """Frames of a conversation, in the order they stand in it.

    Args:
        messages: Of a request.
        videos: Decodes videos.
        limits: Of the endpoint.

    Returns:
        Bytes of image files, each of which Pillow has loaded.

    Raises:
        ApiError: A part that is no image or video, or more of them than the endpoint takes.
    """
    frames: list[bytes] = []
    num_px = 0
    for number, message in enumerate(messages):
        parts = message.content if isinstance(message.content, list) else ()
        for index, part in enumerate(parts):
            if isinstance(part, TextPart):
                continue
            param = f"messages.{number}.content.{index}.{part.type}.url"
            if message.role != "user":
                raise ApiError(f"{param}: only messages of the user hold images and videos", param=param)
            found = _frames_of(part, param, videos)
            for frame in found:
                px = _check_size(frame, param, limits)
                num_px += px
            frames += found
            if len(frames) > limits.max_frames or num_px > limits.max_request_px:
                raise ApiError(
                    f"{param}: {len(frames)} frames of {num_px} px are more than the {limits.max_frames} "
                    f"frames and {limits.max_request_px} px that a request may hold; send fewer or smaller",
                    param=param,
                )
    return frames


def _frames_of(part: ImagePart | VideoPart, param: str, videos: VideoReader) -> list[bytes]:
    if isinstance(part, ImagePart):
        return [_data(part.image_url.url, param, kind="image")]
    data = _data(part.video_url.url, param, kind="video")
    try:
        return videos.read(data)
    except SourceError as error:
        raise ApiError(f"{param}: {error}", param=param) from error


def _data(url: str, param: str, *, kind: str) -> bytes:
    if not url.startswith("data:"):
        scheme = url.partition(":")[0][:16]
        raise ApiError(
            f"{param}: {scheme!r} URLs are not fetched; send the file itself as data:{kind}/...;base64,...",
            param=param,
        )
    head, comma, content = url.partition(",")
    if not comma or not head.endswith(";base64") or not head.startswith(f"data:{kind}/"):
        raise ApiError(
            f"{param}: begins with {head[:60]!r}; it must be data:{kind}/...;base64,...", param=param
        )
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(f"{param}: the base64 is damaged: {error}", param=param) from error


def _check_size(frame: bytes, param: str, limits: ServeLimits) -> int:
    """Pixels of an image that loads; its header is looked at first."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(frame)) as image:
            px = image.width * image.height
    except Image.DecompressionBombError:
        px = MAX_PIXELS
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        px = 0  # the error below says it
    if px > limits.max_image_px:
        least = "at least " if px == MAX_PIXELS else ""
        raise ApiError(
            f"{param}: an image of {least}{px} px; {limits.max_image_px} px are allowed, send a smaller one",
            param=param,
        )
    try:
        loaded = read_image(frame, _IMAGE_JOB)
    except DecodeError as error:
        raise ApiError(f"{param}: {error}", param=param) from error
    return loaded.width * loaded.height
