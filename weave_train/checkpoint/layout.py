"""Checkpoints by parameter name: free of world size, of ZeRO stage and of DeepSpeed's own files.

    run/checkpoints/step-000123/weights-00000.safetensors     pieces of the fp32 masters, one file per rank
                                optimizer-00000.safetensors   pieces of exp_avg and exp_avg_sq
                                complete.json                 written last: without it the step is not there
    run/latest                                                `step-000123`, after complete.json

`complete.json` holds the parameters' shapes, each file's sha256, what training needs to go on (`state`)
and the sum of the frozen tower, whose weights lie once in the run. See `pieces` for the files: any world
size and ZeRO stage reads what any other wrote.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from weave_data.errors import ConfigError, VerificationError
from weave_train.checkpoint.pieces import Piece, PieceReader, TensorRange, verify_piece

__all__ = [
    "CHECKPOINT_VERSION",
    "Checkpoint",
    "clear_step",
    "commit_checkpoint",
    "newest_checkpoint",
    "read_checkpoint",
    "read_weights",
    "restore",
    "step_directory",
    "verify_pieces",
]

CHECKPOINT_VERSION = 1
_COMPLETE = "complete.json"
_STEP_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint, as `complete.json` describes it.

    Attributes:
        step: Optimizer steps taken.
        shapes: Of every trained parameter.
        pieces: Files, of all ranks.
        tower_sha256: Of the frozen tower the weights belong to.
        state: What training needs to go on: data state, Adam's step, schedule.
        world_size: Ranks that wrote it; informational.
    """

    directory: Path
    step: int
    shapes: Mapping[str, tuple[int, ...]]
    pieces: tuple[Piece, ...]
    tower_sha256: str
    state: Mapping[str, Any]
    world_size: int


def step_directory(run_dir: Path, step: int) -> Path:
    """Directory of one step's checkpoint."""
    return run_dir / "checkpoints" / f"step-{step:06d}"


def clear_step(directory: Path) -> None:
    """Remove what an interrupted or earlier save of this step left; call on one rank, before any piece."""
    (directory / _COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def commit_checkpoint(
    directory: Path,
    *,
    pieces: Sequence[Piece],
    shapes: Mapping[str, tuple[int, ...]],
    tower_sha256: str,
    state: Mapping[str, Any],
    world_size: int,
) -> None:
    """Make a step's checkpoint exist: `complete.json`, then `latest`. One rank, after all pieces.

    Args:
        directory: Of the step, below `RUN/checkpoints`.
        pieces: Of all ranks.
        shapes: Of every trained parameter.
        tower_sha256: Of the frozen tower.
        state: JSON-able; holds `step`.
        world_size: Ranks that wrote.
    """
    values = {
        "version": CHECKPOINT_VERSION,
        "step": state["step"],
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "pieces": [asdict(piece) for piece in sorted(pieces, key=lambda piece: piece.file)],
        "tower_sha256": tower_sha256,
        "state": dict(state),
        "world_size": world_size,
    }
    _write_text(directory / _COMPLETE, json.dumps(values, indent=1))
    _write_text(directory.parent.parent / "latest", directory.name + "\n")


def read_checkpoint(directory: Path) -> Checkpoint:
    """Describe a complete checkpoint; no tensor is read.

    Raises:
        ConfigError: Not complete.
        VerificationError: Of another version, or a file is missing or has another size.
    """
    path = directory / _COMPLETE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{directory}: no complete checkpoint ({error}); name a directory checkpoints/step-<n> that has "
            f"{_COMPLETE}"
        ) from error
    if values.get("version") != CHECKPOINT_VERSION:
        raise VerificationError(
            f"{directory}: checkpoint version {values.get('version')!r}, "
            f"this version reads {CHECKPOINT_VERSION}"
        )
    pieces = tuple(Piece(**piece) for piece in values["pieces"])
    for piece in pieces:
        file = directory / piece.file
        if not file.is_file() or file.stat().st_size != piece.bytes:
            raise VerificationError(
                f"{file}: missing or not {piece.bytes} bytes long; resume from another step"
            )
    return Checkpoint(
        directory=directory,
        step=values["step"],
        shapes={name: tuple(shape) for name, shape in values["shapes"].items()},
        pieces=pieces,
        tower_sha256=values["tower_sha256"],
        state=values["state"],
        world_size=values["world_size"],
    )


def newest_checkpoint(run_dir: Path) -> Path | None:
    """Directory of the highest step with a `complete.json`; `latest` is a hint for people only."""
    steps = {}
    for path in (run_dir / "checkpoints").glob(f"step-*/{_COMPLETE}"):
        found = _STEP_NAME.fullmatch(path.parent.name)
        if found:
            steps[int(found[1])] = path.parent
    return steps[max(steps)] if steps else None


def read_weights(directory: Path, *, verify: bool = True) -> dict[str, torch.Tensor]:
    """All trained weights of a checkpoint: fp32 by parameter name, in their own shapes.

    Args:
        directory: `RUN/checkpoints/step-<n>`.
        verify: Check every file against its sha256.

    Raises:
        ConfigError: Not complete.
        VerificationError: A file is missing or damaged, or pieces don't cover a parameter.
    """
    checkpoint = read_checkpoint(directory)
    if verify:
        verify_pieces(checkpoint, kinds=("weights",))
    with PieceReader(checkpoint.directory, checkpoint.pieces) as reader:
        return {
            name: reader.read(name, 0, _numel(shape)).view(shape) for name, shape in checkpoint.shapes.items()
        }


def restore(checkpoint: Checkpoint, ranges: Iterable[TensorRange]) -> None:
    """Overwrite this rank's fragments with the checkpoint's values; reads only what overlaps them.

    Raises:
        VerificationError: The checkpoint lacks a parameter, or part of one.
    """
    with PieceReader(checkpoint.directory, checkpoint.pieces) as reader:
        for piece in ranges:
            piece.weight.copy_(reader.read(piece.name, piece.start, piece.stop))
            for state, tensor in piece.states.items():
                tensor.copy_(reader.read(f"{state}/{piece.name}", piece.start, piece.stop))


def verify_pieces(checkpoint: Checkpoint, *, kinds: Sequence[str], part: tuple[int, int] = (0, 1)) -> None:
    """Check files against their sha256.

    Args:
        checkpoint: Whose files.
        kinds: `weights`, `optimizer`.
        part: (rank, world size): each rank checks its share of the files.

    Raises:
        VerificationError: A file's bytes are not the ones that were written.
    """
    for piece in checkpoint.pieces[part[0] :: part[1]]:
        if piece.kind in kinds:
            verify_piece(checkpoint.directory, piece)


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)


def _numel(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
