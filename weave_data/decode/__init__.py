"""Decode: bytes of clips -> exact frames at the asked indices -> one tar of JPEGs per (part, layer).

    source bytes -> container -> packets -> pyav | decord -> picture -> worker (child process)
                                                                           |
    Store  <-  layers (tar, rejects, index)  <-  stage.decode_part  <-  isolation

container   what the first bytes promise: empty, truncated; opening opens what is left
packets     which packets must be decoded for which frames, and when the table is not to be trusted
decoder     the `FrameDecoder` protocol; `pyav_decoder` is the default, `decord_decoder` the other
picture     colour, orientation, size, JPEG: the same bytes on every CPU
selection   which frames of a clip are stored, in order of first use
worker      the child process; isolation its owner: deadlines, memory, retries
frame_tar   deterministic tar; layers names, reads, merges and commits them
stage       `decode_part`, what the pipeline calls

`linspace` gives exactly the frames a full sequential decode presents. Colour tags are respected,
untagged video is BT.601 limited range (as every decoder assumes); pixels are taken as square, HDR is
not tone-mapped. Damage is rejected where the decoder reports it in a picture it had to decode:
`corrupt` depends on the clip and on the frames asked for, never on what was stored before. HEVC and
VP8 hide most damage from every decoder.
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
