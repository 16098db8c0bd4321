"""Pieces back to where they belong, whichever world and ZeRO stage wrote them.

A rank reads whole, and checks against their sha256, the files of the ranks that it stands for
(`rank % world size`): with an unchanged world these are just the ones it needs, so every byte is read
once. Of the others it reads what overlaps its own ranges.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from weave_data.errors import VerificationError
from weave_data.storage import Store
from weave_train.checkpoint.layout import Checkpoint
from weave_train.checkpoint.pieces import Piece, StoredPiece, TensorRange, read_header

__all__ = ["read_values", "read_weights", "restore"]

_THREADS = 4  # each holds one file in memory at most
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "U8": torch.uint8,
}


@dataclass(frozen=True)
class _Target:
    """Elements `[start, stop)` of `name` go into `tensor`, flat."""

    name: str
    start: int
    stop: int
    tensor: torch.Tensor


@torch.no_grad()
def restore(
    checkpoint: Checkpoint, ranges: Iterable[TensorRange], *, rank: int = 0, world_size: int = 1
) -> None:
    """Overwrite this rank's ranges with the checkpoint's values; all ranks together check every file.

    Args:
        checkpoint: Complete.
        ranges: What this rank holds.
        rank: Of this process.
        world_size: Ranks that restore.

    Raises:
        VerificationError: A file is damaged, or the checkpoint lacks a parameter or part of one.
        StoreError: It can't be read.
    """
    targets = []
    for piece in ranges:
        for name, tensor in _tensors(piece).items():
            targets.append(_Target(name, piece.start, piece.stop, tensor.detach().reshape(-1)))
    files = [(checkpoint.key_of(piece), piece) for piece in checkpoint.pieces]
    _read_into(
        checkpoint.store,
        files,
        targets,
        origin=checkpoint.uri,
        is_checked=lambda piece: piece.rank % world_size == rank,
    )


def read_weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """All trained weights of a checkpoint: fp32 by parameter name, in their own shapes.

    Of a run with `schedule_free_adamw` the averaged ones, x; its masters are y (`engine.schedule_free`).

    Raises:
        VerificationError: A file is damaged, or pieces don't cover a parameter.
        StoreError: It can't be read.
    """
    average = checkpoint.state.get("optimizer", {}).get("average")
    kinds = ("weights",) if average is None else ("weights", "optimizer")
    files = [(checkpoint.key_of(piece), piece) for piece in checkpoint.pieces if piece.kind in kinds]
    weights = {name: torch.empty(shape) for name, shape in checkpoint.shapes.items()}
    states = {} if average is None else {f"z/{name}": torch.empty_like(weights[name]) for name in weights}
    read_values(checkpoint.store, files, weights | states, origin=checkpoint.uri)
    if average is not None:
        for name, weight in weights.items():
            weight.lerp_(states[f"z/{name}"], 1 - 1 / average["beta1"])
    return weights


def read_values(
    store: Store,
    files: Sequence[tuple[str, Piece]],
    values: Mapping[str, torch.Tensor],
    *,
    origin: str,
) -> None:
    """Fill whole contiguous tensors by name; every file is read whole and checked.

    Args:
        store: Where the files are.
        files: Key and description of each.
        values: To be filled in place.
        origin: Named in messages.

    Raises:
        VerificationError: As `restore`.
    """
    targets = [_Target(name, 0, value.numel(), value.view(-1)) for name, value in values.items()]
    _read_into(store, files, targets, origin=origin, is_checked=lambda _: True)


def _tensors(piece: TensorRange) -> dict[str, torch.Tensor]:
    states = {f"{state}/{piece.name}": tensor for state, tensor in piece.states.items()}
    return {piece.name: piece.weight, **states}


@torch.no_grad()
def _read_into(
    store: Store,
    files: Sequence[tuple[str, Piece]],
    targets: Sequence[_Target],
    *,
    origin: str,
    is_checked: Callable[[Piece], bool],
) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        headers = list(threads.map(lambda file: _header(store, *file), files))
        _check_covered([piece for header in headers for piece in header], targets, origin=origin)
        by_name: dict[str, list[_Target]] = {}
        for target in targets:
            by_name.setdefault(target.name, []).append(target)

        def read(index: int) -> None:
            (key, piece), header = files[index], headers[index]
            overlaps = [
                (stored, target)
                for stored in header
                for target in by_name.get(stored.name, ())
                if stored.start < target.stop and target.start < stored.stop
            ]
            data = _checked(store, key, piece) if is_checked(piece) else None
            for stored, target in overlaps:
                _copy(store, key, data, stored, target)

        list(threads.map(read, range(len(files))))


def _header(store: Store, key: str, piece: Piece) -> list[StoredPiece]:
    return read_header(store.get_range(key, 0, piece.header_bytes), origin=f"{store.uri}/{key}")


def _checked(store: Store, key: str, piece: Piece) -> bytes:
    data = store.get(key)
    if hashlib.sha256(data).hexdigest() != piece.sha256:
        raise VerificationError(
            f"{store.uri}/{key}: its bytes changed since it was written (sha256 is not "
            f"{piece.sha256[:12]}...); restore the file, or go back to another checkpoint"
        )
    return data


def _copy(store: Store, key: str, data: bytes | None, stored: StoredPiece, target: _Target) -> None:
    start, stop = max(stored.start, target.start), min(stored.stop, target.stop)
    first, last = (stored.offset + (at - stored.start) * stored.item_bytes for at in (start, stop))
    content = store.get_range(key, first, last) if data is None else memoryview(data)[first:last]
    values = torch.frombuffer(bytearray(content), dtype=_DTYPES[stored.dtype])
    target.tensor[start - target.start : stop - target.start].copy_(values)


def _check_covered(stored: Sequence[StoredPiece], targets: Sequence[_Target], *, origin: str) -> None:
    by_name: dict[str, list[StoredPiece]] = {}
    for piece in sorted(stored, key=lambda piece: piece.start):
        by_name.setdefault(piece.name, []).append(piece)
    for target in targets:
        if target.name not in by_name and math.prod(target.tensor.shape) > 0:
            raise VerificationError(
                f"{origin}: holds no {target.name!r}; it was written by another model or optimizer. "
                "Resume with the run's own flags"
            )
        position = target.start
        for piece in by_name.get(target.name, ()):
            if piece.start <= position < piece.stop:
                position = piece.stop
        if position < target.stop:
            raise VerificationError(f"{origin}: {target.name!r} lacks elements {position} to {target.stop}")
