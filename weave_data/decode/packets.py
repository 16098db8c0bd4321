"""Which packets must be decoded for which frames.

    decode order   I0 P3 B1 B2 | I4 P7 B5 B6 | ...       frame 6 -> decode I4 P7 B5* B6 (* may be skipped)

A *restart* is a key packet after which nothing is shown earlier and before which nothing is shown
later, and whose picture is one that decoders can really start from (IDR, IRAP). With one packet per
shown frame and every time stamp known and distinct, sorting time stamps gives the presentation order
without decoding; what an edit list hides is decoded and not counted. Wherever one of these does not
hold the table is not trusted and the whole clip is decoded instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PacketTable", "Segment", "read_packet_table"]

_CONTAINERS = frozenset(("mov", "matroska"))
_CODECS = frozenset(("h264", "hevc", "av1", "vp8", "mpeg4"))

# HEVC is not here: its sub-layer non-reference pictures may be references of higher layers
_SKIPPABLE = frozenset(("h264", "vp8", "mpeg4"))

_PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive
_MIN_MPEG4_BYTES = 16  # a "not coded" picture has about 7 bytes and shows nothing


@dataclass(frozen=True)
class Segment:
    """Packets [start, stop) in decode order, and the time stamps wanted among them."""

    start: int
    stop: int
    wanted_pts: frozenset[int]


@dataclass(frozen=True)
class PacketTable:
    """A trusted table: packet i in decode order has the time `pts[i]`.

    Attributes:
        pts: int64[n], decode order, distinct.
        shown_pts: int64[m], ascending: frame j of the clip is shown at `shown_pts[j]`; without the
            packets that an edit list hides.
        restarts: int64[r], ascending positions in decode order; the first is 0.
        can_skip: The decoder may leave out pictures that nothing refers to.
    """

    pts: npt.NDArray[np.int64]
    shown_pts: npt.NDArray[np.int64]
    restarts: npt.NDArray[np.int64]
    can_skip: bool

    def segments(self, indices: Sequence[int]) -> list[Segment]:
        """Runs of packets that hold the frames at `indices`, each stopping at its last wanted one."""
        wanted = self.shown_pts[np.asarray(indices, dtype=np.int64)]
        order = np.argsort(self.pts, kind="stable")
        positions = order[np.searchsorted(self.pts[order], wanted)]
        homes = np.searchsorted(self.restarts, positions, side="right") - 1
        segments = []
        for home in np.unique(homes):
            inside = homes == home
            stop = int(positions[inside].max()) + 1
            pts = frozenset(int(value) for value in wanted[inside])
            segments.append(Segment(int(self.restarts[home]), stop, pts))
        return segments


def read_packet_table(packets: Sequence[Any], *, container: str, codec: Any) -> PacketTable | None:
    """Build the table, or None when it can't be trusted to say what a full decode shows.

    Args:
        packets: All packets of the stream with content, in decode order (`av.Packet`).
        container: Name of the demuxer, as libavformat lists it.
        codec: The stream's codec context.
    """
    name = codec.codec.canonical_name
    if _CONTAINERS.isdisjoint(container.split(",")) or name not in _CODECS or not packets:
        return None
    if codec.field_order not in _PROGRESSIVE or not all(_is_plain(packet, name) for packet in packets):
        return None
    if any(packet.has_sidedata("new_extradata") for packet in packets[1:]):
        return None
    pts = np.fromiter((packet.pts for packet in packets), dtype=np.int64, count=len(packets))
    if len(np.unique(pts)) != len(pts):
        return None
    # an edit list has pictures decoded that are not shown; the decoder drops them itself
    is_shown = np.fromiter((not packet.is_discard for packet in packets), dtype=bool, count=len(packets))
    shown = np.sort(pts[is_shown])
    if not len(shown):
        return None
    restarts = _restarts(packets, pts, name, codec.extradata)
    if restarts is None or not len(restarts) or restarts[0] != 0:
        return None
    return PacketTable(pts, shown, restarts, can_skip=name in _SKIPPABLE)


def _is_plain(packet: Any, codec: str) -> bool:
    """One packet that gives one frame at a known time."""
    if packet.pts is None:
        return False
    if codec == "vp8":  # frame tag, bit 4: show_frame; alternate references are never shown
        return bool(memoryview(packet)[0] >> 4 & 1)
    return codec != "mpeg4" or packet.size >= _MIN_MPEG4_BYTES


def _restarts(
    packets: Sequence[Any], pts: npt.NDArray[np.int64], codec: str, extradata: bytes | None
) -> npt.NDArray[np.int64] | None:
    """Positions to start decoding from; None when a key packet may drop frames already decoded."""
    earliest_after = np.minimum.accumulate(pts[::-1])[::-1]
    latest_before = np.concatenate(([np.iinfo(np.int64).min], np.maximum.accumulate(pts)[:-1]))
    is_clean = (earliest_after == pts) & (latest_before < pts)
    found = []
    for position, packet in enumerate(packets):
        if not packet.is_keyframe:
            continue
        match codec:
            case "h264":
                is_entry = _nal_type_h264(packet, extradata) == 5  # IDR
            case "hevc":
                header = _slice_header_hevc(packet, extradata)
                if header is None:
                    return None
                nal_type, drops_prior_frames = header
                if drops_prior_frames and position > 0:
                    return None
                is_entry = 16 <= nal_type <= 21  # IRAP
            case _:
                is_entry = True
        if is_entry and is_clean[position]:
            found.append(position)
    return np.array(found, dtype=np.int64)


def _nal_type_h264(packet: Any, extradata: bytes | None) -> int | None:
    """Type of the first slice of an `avcC` packet; None when there is none."""
    if not extradata or len(extradata) < 5 or extradata[0] != 1:
        return None
    for unit in _units(memoryview(packet), (extradata[4] & 3) + 1):
        if 1 <= unit[0] & 31 <= 5:
            return int(unit[0] & 31)
    return None


def _slice_header_hevc(packet: Any, extradata: bytes | None) -> tuple[int, bool] | None:
    """(NAL type, no_output_of_prior_pics_flag) of the first slice of an `hvcC` packet."""
    if not extradata or len(extradata) < 22 or extradata[0] != 1:
        return None
    for unit in _units(memoryview(packet), (extradata[21] & 3) + 1):
        nal_type = unit[0] >> 1 & 63
        if nal_type < 32:
            return nal_type, bool(unit[2] & 64)
    return None


def _units(data: memoryview, length_bytes: int) -> list[memoryview]:
    """The length-prefixed NAL units of a packet that have at least three bytes."""
    units, start = [], 0
    while start + length_bytes < len(data):
        size = int.from_bytes(data[start : start + length_bytes], "big")
        start += length_bytes
        if size >= 3:
            units.append(data[start : start + size])
        start += size
    return [unit for unit in units if len(unit) >= 3]
