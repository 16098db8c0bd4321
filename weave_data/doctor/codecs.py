"""Decoders of FFmpeg that the field's clips need, the chosen video decoder, JPEG and PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from weave_data.decode.decoder import load_decoder
from weave_data.decode.job import PictureFormat
from weave_data.decode.picture import encode_picture
from weave_data.doctor.finding import Finding, Status, of_error
from weave_data.errors import WeaveError

__all__ = ["look", "judge"]

DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4")
"""Of FFmpeg; `av1` or `libdav1d` will do for AV1."""


def look(decoder: str | None, formats: Sequence[Literal["jpeg", "png"]]) -> dict[str, Any]:
    """`decoders`: name -> there; `decoder`, `pictures`: what is wrong with each, empty for nothing."""
    return {
        "decoders": _decoders() if decoder is not None else {},
        "decoder": {} if decoder is None else {decoder: _decoder_problem(decoder)},
        "pictures": {name: _picture_problem(name) for name in formats},
    }


def _decoders() -> dict[str, bool]:
    import av

    return {name: name in av.codecs_available and _opens(name) for name in DECODERS}


def _opens(name: str) -> bool:
    import av

    try:
        av.codec.Codec(name, "r")
    except (ValueError, av.FFmpegError):
        return False
    return True


def _decoder_problem(name: str) -> str:
    try:
        load_decoder(name)
    except WeaveError as error:
        return " ".join(str(error).split())
    return ""


def _picture_problem(name: Literal["jpeg", "png"]) -> str:
    rgb = np.linspace(0, 255, 32 * 48 * 3).astype(np.uint8).reshape(32, 48, 3)
    try:
        data = encode_picture(rgb, size=(48, 32), picture=PictureFormat(32, name))
        back = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.int16)
    except (OSError, KeyError, ValueError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    if back.shape != rgb.shape or np.abs(back - rgb).mean() > 16:
        return "a picture did not come back as it was written"
    return ""


def judge(facts: Mapping[str, Any], *, node: str) -> list[Finding]:
    """Findings about one node."""
    findings = []
    there = facts["decoders"]
    has_av1 = there.get("av1") or there.get("libdav1d")
    missing = [name for name, is_there in there.items() if not is_there and name not in ("av1", "libdav1d")]
    missing += [] if has_av1 or not there else ["av1"]
    if missing:
        status = Status.FAIL if "h264" in missing else Status.WARN
        found = f"PyAV's FFmpeg has no decoder of {', '.join(missing)}: such clips become rejects"
        findings.append(Finding("codecs", status, found, "install the av wheel of constraints.txt", node))
    for name, problem in facts["decoder"].items():
        if problem:
            findings.append(of_error("codecs", f"frames.decoder {name}: {problem}", node=node))
    for name, problem in facts["pictures"].items():
        if problem:
            remedy = "install the pillow wheel of constraints.txt"
            findings.append(Finding("codecs", Status.FAIL, f"{name}: {problem}", remedy, node))
    if not findings:
        parts = (
            ["decoders " + ", ".join(name for name, is_there in there.items() if is_there)] if there else []
        )
        parts += [f"{name} written and read" for name in facts["pictures"]]
        findings.append(Finding("codecs", Status.OK, "; ".join(parts), node=node))
    return findings
