"""Pieces of parameters: the unit in which ranks write what they own and read what they hold.

A piece is elements `[start, stop)` of one flattened parameter or of one of its optimizer states. Its
key is `name[start:stop]` or `exp_avg/name[start:stop]`. Pieces lie in safetensors files; nothing in a
file depends on the world size or the ZeRO stage. No torch is imported here: the background process
needs none.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from weave_data.errors import VerificationError

if TYPE_CHECKING:
    import torch

__all__ = ["Piece", "StoredPiece", "TensorRange", "piece_key", "read_header"]

_KEY = re.compile(r"(?P<name>.+)\[(?P<start>\d+):(?P<stop>\d+)\]")
_LENGTH_BYTES = 8


class TensorRange(Protocol):
    """Elements `[start, stop)` of one parameter as a rank holds them; see `engine.Fragment`."""

    @property
    def name(self) -> str:
        """Of the parameter."""

    @property
    def start(self) -> int:
        """First element of the flattened parameter."""

    @property
    def stop(self) -> int:
        """One past the last element."""

    @property
    def weight(self) -> torch.Tensor:
        """[stop - start] of the master weights, in place."""

    @property
    def states(self) -> Mapping[str, torch.Tensor]:
        """Optimizer states by name, [stop - start] each, in place."""

    @property
    def is_owned(self) -> bool:
        """This rank writes it."""


@dataclass(frozen=True)
class Piece:
    """One file of a checkpoint.

    Attributes:
        file: Key below the step's prefix.
        kind: `weights` or `optimizer`.
        rank: That wrote it.
        sha256: Of the whole file.
        bytes: Its length.
        header_bytes: Of its safetensors header, length field included.
    """

    file: str
    kind: str
    rank: int
    sha256: str
    bytes: int
    header_bytes: int


@dataclass(frozen=True)
class StoredPiece:
    """Where a piece lies in its file: elements `[start, stop)` of `name` at byte `offset`."""

    name: str
    start: int
    stop: int
    dtype: str
    offset: int

    @property
    def item_bytes(self) -> int:
        """Bytes of an element."""
        return {"F64": 8, "I64": 8, "F32": 4, "BF16": 2, "F16": 2, "U8": 1}[self.dtype]


def piece_key(name: str, start: int, stop: int) -> str:
    """Name of a tensor in a file, e.g. `exp_avg/projector.0.weight[0:4096]`."""
    return f"{name}[{start}:{stop}]"


def read_header(data: bytes, *, origin: str) -> list[StoredPiece]:
    """Parse a safetensors header.

    Args:
        data: The first `Piece.header_bytes` of a file.
        origin: Named in messages.

    Raises:
        VerificationError: It is no header of pieces.
    """
    try:
        (length,) = struct.unpack("<Q", data[:_LENGTH_BYTES])
        entries = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        pieces = []
        for key, entry in entries.items():
            found = _KEY.fullmatch(key)
            if found is None:
                raise ValueError(f"{key!r} is no piece of a parameter")
            offset = _LENGTH_BYTES + length + entry["data_offsets"][0]
            start, stop = int(found["start"]), int(found["stop"])
            pieces.append(StoredPiece(found["name"], start, stop, entry["dtype"], offset))
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise VerificationError(
            f"{origin}: no header of a checkpoint's file: {error}; it is damaged"
        ) from error
    return pieces
