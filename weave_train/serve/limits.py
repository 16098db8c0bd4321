"""What one request, and all of them together, may take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServeLimits"]

_MIB = 2**20


@dataclass(frozen=True)
class ServeLimits:
    """Bounds of an endpoint.

    Attributes:
        max_body_bytes: Of a request, base64 and all.
        max_frames: Of a request, those of its videos among them.
        max_image_px: Width times height of one image.
        max_request_px: Of all images of a request together.
        default_new_tokens: Of an answer whose request names no number.
        max_new_tokens: Of any answer.
        max_batch: Answers that are made at once.
        max_waiting: Requests that may wait for that; more are told to come back later.
        max_preparing: Requests whose images and videos are decoded at once.
        video_timeout_seconds: For decoding one video; twice, the second time four times as long.
        video_memory_bytes: Likewise.
    """

    max_body_bytes: int = 64 * _MIB
    max_frames: int = 64
    max_image_px: int = 32_000_000
    max_request_px: int = 128_000_000
    default_new_tokens: int = 512
    max_new_tokens: int = 2048
    max_batch: int = 4
    max_waiting: int = 16
    max_preparing: int = 2
    video_timeout_seconds: float = 20.0
    video_memory_bytes: int = 2048 * _MIB
