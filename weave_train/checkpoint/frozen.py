"""Weights that a run does not train: kept once, under their own sha256, and checked when they come back.

    frozen/<part>-<first 16 digits>/weights-00000-000.safetensors, index.json (written last)

A part is `vision`, `projector` or `language`. Checkpoints name the sha256 of each part, so that another
tower, or another language model under an aligned projector, is never taken silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from weave_data.errors import VerificationError
from weave_data.storage import Store
from weave_train.checkpoint.commit import write_files
from weave_train.checkpoint.pieces import Piece
from weave_train.checkpoint.reading import read_values
from weave_train.checkpoint.snapshot import Snapshot

__all__ = ["checksum", "frozen_sha256", "frozen_values", "restore_frozen", "save_frozen"]

_GROUP_BYTES = 1 << 30


@dataclass(frozen=True)
class _Whole:
    """A whole tensor as a range; see `pieces.TensorRange`."""

    name: str
    start: int
    stop: int
    weight: torch.Tensor
    states: Mapping[str, torch.Tensor] = field(default_factory=dict)
    is_owned: bool = True


def frozen_values(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters of a module that are not trained, and its stored buffers; each tensor once."""
    values: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in module.state_dict(keep_vars=True).items():
        if not value.requires_grad and id(value) not in seen:
            seen.add(id(value))
            values[name] = value.detach()
    return values


def frozen_sha256(module: nn.Module) -> str:
    """Hash of `frozen_values`: names, dtypes, shapes and bytes, in order."""
    return _values_sha256(frozen_values(module))


def checksum(module: nn.Module) -> int:
    """A quick sum over the bits of `frozen_values`, where they are: tells whether a weight moved."""
    total = 0
    for value in frozen_values(module).values():
        words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
        total += int(value.contiguous().view(-1).view(words).sum(dtype=torch.int64))
    return total


def save_frozen(store: Store, part: str, module: nn.Module, *, sha256: str) -> None:
    """Store a part's frozen weights, unless they are there. One rank.

    Args:
        store: Of the run.
        part: `vision`, `projector` or `language`.
        module: The part.
        sha256: Its `frozen_sha256`.

    Raises:
        StoreError: The store refused or can't be reached.
    """
    prefix = _prefix(part, sha256)
    if next(store.list(f"{prefix}/index.json"), None) is not None:
        return
    values = frozen_values(module)
    pieces = [
        piece
        for number, group in enumerate(_groups(values))
        for piece in _write_group(store, prefix, group, number)
    ]
    index = {
        "tensors": [[name, str(value.dtype), list(value.shape)] for name, value in values.items()],
        "pieces": [asdict(piece) for piece in pieces],
    }
    store.put_new(f"{prefix}/index.json", json.dumps(index, indent=1).encode())


def _groups(values: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Some at a time: a copy of a whole language model is not to be had beside it."""
    group: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        if group and sum(held.nbytes for held in group.values()) + value.nbytes > _GROUP_BYTES:
            yield group
            group = {}
        group[name] = value
    if group:
        yield group


def _write_group(store: Store, prefix: str, group: Mapping[str, torch.Tensor], number: int) -> list[Piece]:
    ranges = [_Whole(name, 0, value.numel(), value) for name, value in group.items()]
    snapshot = Snapshot(ranges, rank=number)
    try:
        snapshot.fill(ranges)
        return write_files(store, prefix, snapshot.files, rank=number, folder="")
    finally:
        snapshot.close()


@torch.no_grad()
def restore_frozen(store: Store, part: str, module: nn.Module, *, sha256: str) -> None:
    """Put a run's own frozen weights into a part, cast to the dtype it has.

    Args:
        store: Of the run.
        part: As saved.
        module: What is not trained of it is filled, and must be just what was saved.
        sha256: As saved; names the files.

    Raises:
        VerificationError: They are missing, damaged, or don't fit the module.
    """
    origin = f"{store.uri}/{_prefix(part, sha256)}"
    values = _read(store, part, sha256)
    targets = frozen_values(module)
    odd = sorted(values.keys() ^ targets.keys())
    odd += [name for name in values.keys() & targets.keys() if values[name].shape != targets[name].shape]
    if odd:
        raise VerificationError(
            f"{origin}: does not fit the model's {part}: {odd[0]}; use the run's own flags, "
            "--trainable among them"
        )
    for name, value in values.items():
        targets[name].copy_(value)


def _read(store: Store, part: str, sha256: str) -> dict[str, torch.Tensor]:
    prefix = _prefix(part, sha256)
    origin = f"{store.uri}/{prefix}"
    sizes = {info.key: info.size_bytes for info in store.list(f"{prefix}/")}
    if f"{prefix}/index.json" not in sizes:
        raise VerificationError(
            f"{origin}: the frozen weights of {part!r} are not there; restore them, or use another checkpoint"
        )
    try:
        index = json.loads(store.get(f"{prefix}/index.json"))
        files = [(f"{prefix}/{piece['file']}", Piece(**piece)) for piece in index["pieces"]]
        values = {
            name: torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
            for name, dtype, shape in index["tensors"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{origin}/index.json: damaged: {error}; use another checkpoint") from error
    for key, piece in files:
        if sizes.get(key) != piece.bytes:
            raise VerificationError(
                f"{store.uri}/{key}: missing or not {piece.bytes} bytes long; use another checkpoint"
            )
    read_values(store, files, values, origin=origin)
    found = _values_sha256(values)
    if found != sha256:
        raise VerificationError(
            f"{origin}: the {part} weights there have sha256 {found[:12]}..., not {sha256[:12]}...; "
            "this is not what the run was trained with"
        )
    return values


def _values_sha256(values: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in values.items():
        tensor = value.cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _prefix(part: str, sha256: str) -> str:
    return f"frozen/{part}-{sha256[:16]}"
