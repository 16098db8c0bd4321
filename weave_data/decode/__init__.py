"""Decode: bytes of clips -> exact frames at the asked indices -> one tar of frames per (part, layer).

    source bytes -> container -> packets -> pyav | decord -> picture -> worker (child process)
                                                                           |
    Store  <-  layers (tar, rejects, index)  <-  stage.decode_part  <-  isolation

container   what the first bytes promise: empty, truncated; opening opens what is left
packets     which packets must be decoded for which frames, and when the table is not to be trusted
decoder     the `FrameDecoder` protocol; `pyav_decoder` is the default, `decord_decoder` the other
picture     colour, orientation, size, JPEG or PNG: the same bytes on every CPU
images      a clip that is one image: verified, then stored as it is
measures    motion, black frames, sharpness, luma of the frames that go by
job         what a decoder process is asked for and answers
selection   which frames of a clip are stored, in order of first use
worker      the child process; isolation its owner: deadlines, memory, retries
frame_tar   deterministic tar; layers names, reads, merges and commits them
stage       `decode_part`, what the pipeline calls

Every policy gives exactly the frames a full sequential decode presents. Colour tags are respected,
untagged video is BT.601 limited range (as every decoder assumes); pixels are taken as square, HDR is
not tone-mapped.

Damage is rejected where the decoder reports it in a picture it had to decode. `corrupt` is a function
of the clip and of the frames asked for together with the four measured ones, never of what was stored
before: a clip damaged elsewhere is used by a build that does not look there, and refused by one with a
recipe that does. Looking everywhere would mean decoding everything, and containers carry no checksums.
`truncated`, `not_a_video`, `no_frames` and the others are functions of the clip alone, and so is
`corrupt` where the packet table is not trusted and everything is decoded. HEVC and VP8 hide most damage
from every decoder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weave_data.decode.decoder import DecodedClip, DecodedFrame, FrameDecoder, load_decoder
    from weave_data.decode.layers import frame_tar_key, frames_key
    from weave_data.decode.stage import DecodeReceipt, DecodeRequest, DecodeSettings, decode_part

__all__ = [
    "DecodeReceipt",
    "DecodeRequest",
    "DecodeSettings",
    "DecodedClip",
    "DecodedFrame",
    "FrameDecoder",
    "decode_part",
    "frame_tar_key",
    "frames_key",
    "load_decoder",
]

_HOMES = {
    **dict.fromkeys(("DecodedClip", "DecodedFrame", "FrameDecoder", "load_decoder"), "decoder"),
    **dict.fromkeys(("frame_tar_key", "frames_key"), "layers"),
    **dict.fromkeys(("DecodeReceipt", "DecodeRequest", "DecodeSettings", "decode_part"), "stage"),
}


def __getattr__(name: str) -> Any:
    # the child process imports this package too and must not pay for pyarrow and boto3
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
