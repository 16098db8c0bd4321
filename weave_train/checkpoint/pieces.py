"""Pieces of parameters in safetensors files: ranks write what they own, read what they hold.

A piece is fp32[stop - start] of one flattened parameter. Its key is `name[start:stop]`, for an optimizer
state `exp_avg/name[start:stop]`. Nothing in a file depends on the world size or the ZeRO stage.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from weave_data.errors import VerificationError

__all__ = ["Piece", "PieceReader", "TensorRange", "verify_piece", "write_pieces"]

_KEY = re.compile(r"(?P<name>.+)\[(?P<start>\d+):(?P<stop>\d+)\]")


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
        """fp32[stop - start], in place."""

    @property
    def states(self) -> Mapping[str, torch.Tensor]:
        """Optimizer states by name, fp32[stop - start], in place."""

    @property
    def is_owned(self) -> bool:
        """This rank writes it."""


@dataclass(frozen=True)
class Piece:
    """One file of a checkpoint; `kind` is `weights` or `optimizer`."""

    file: str
    kind: str
    sha256: str
    bytes: int


def write_pieces(directory: Path, ranges: Iterable[TensorRange], *, rank: int) -> list[Piece]:
    """Write what this rank owns.

    Args:
        directory: Of the step; exists.
        ranges: This rank's fragments; those that are not owned are left out.
        rank: Names the files.
    """
    weights: dict[str, torch.Tensor] = {}
    optimizer: dict[str, torch.Tensor] = {}
    for piece in ranges:
        if not piece.is_owned:
            continue
        key = f"{piece.name}[{piece.start}:{piece.stop}]"
        weights[key] = _host_copy(piece.weight)
        for state, tensor in piece.states.items():
            optimizer[f"{state}/{key}"] = _host_copy(tensor)
    pieces = []
    for kind, tensors in (("weights", weights), ("optimizer", optimizer)):
        if tensors:
            pieces.append(_write_piece(directory, f"{kind}-{rank:05d}.safetensors", kind, tensors))
    return pieces


def verify_piece(directory: Path, piece: Piece) -> None:
    """Check a file against its sha256.

    Raises:
        VerificationError: Its bytes are not the ones that were written.
    """
    path = directory / piece.file
    if _file_sha256(path) != piece.sha256:
        raise VerificationError(
            f"{path}: its bytes changed since it was written (sha256 is not {piece.sha256[:12]}...); "
            "resume from another step"
        )


class PieceReader:
    """Reads ranges of parameters across the pieces of all ranks. A context manager."""

    def __init__(self, directory: Path, pieces: Sequence[Piece]) -> None:
        self._directory = directory
        self._files = [safe_open(directory / piece.file, "pt") for piece in pieces]
        self._index: dict[str, list[tuple[int, int, Any, str]]] = {}

    def __enter__(self) -> PieceReader:
        for file in self._files:
            handle = file.__enter__()
            for key in handle.keys():  # noqa: SIM118  a safetensors handle is no mapping
                found = _KEY.fullmatch(key)
                if found is None:
                    raise VerificationError(f"{self._directory}: {key!r} is not a piece of a parameter")
                entry = (int(found["start"]), int(found["stop"]), handle, key)
                self._index.setdefault(found["name"], []).append(entry)
        for entries in self._index.values():
            entries.sort(key=lambda entry: entry[:2])
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in self._files:
            file.__exit__(None, None, None)

    def read(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Elements `[start, stop)` of a flattened parameter: fp32[stop - start].

        Raises:
            VerificationError: No such parameter, or pieces that don't cover the range.
        """
        if name not in self._index:
            raise VerificationError(
                f"{self._directory}: holds no {name!r}; it was written by another model. "
                "Resume with the run's own model flags"
            )
        result = torch.empty(stop - start, dtype=torch.float32)
        position = start
        for piece_start, piece_stop, handle, key in self._index[name]:
            if piece_stop <= position or piece_start >= stop:
                continue
            if piece_start > position:
                break
            upto = min(piece_stop, stop)
            values = handle.get_slice(key)[position - piece_start : upto - piece_start]
            result[position - start : upto - start] = values
            position = upto
        if position < stop:
            raise VerificationError(f"{self._directory}: {name!r} lacks elements {position} to {stop}")
        return result


def _write_piece(directory: Path, file: str, kind: str, tensors: dict[str, torch.Tensor]) -> Piece:
    partial, final = directory / f"{file}.partial", directory / file
    save_file(tensors, partial)
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(final)
    return Piece(file, kind, _file_sha256(final), final.stat().st_size)


def _host_copy(tensor: torch.Tensor) -> torch.Tensor:
    """Own memory on the host: fragments are views into flat buffers that safetensors would refuse."""
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
