"""Checkpoints know names and ranges, not ranks: what any world writes, any other reads."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weave_data.errors import ConfigError, VerificationError
from weave_train.checkpoint.layout import (
    clear_step,
    commit_checkpoint,
    newest_checkpoint,
    read_checkpoint,
    read_weights,
    restore,
    step_directory,
    verify_pieces,
)
from weave_train.checkpoint.pieces import write_pieces

SHAPES = {"core.weight": (7, 3), "core.bias": (5,), "core.layers[0].scale": (1,)}


@dataclass(frozen=True)
class Held:
    """A fragment, as an engine would hand it out."""

    name: str
    start: int
    stop: int
    weight: torch.Tensor
    states: dict[str, torch.Tensor]
    is_owned: bool = True


def true_values() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def cut(values: dict[str, torch.Tensor] | None, cuts: Sequence[int]) -> list[list[Held]]:
    """Flatten all parameters in a row and cut the row at places that respect nothing, one part a rank."""
    total = sum(torch.Size(shape).numel() for shape in SHAPES.values())
    bounds = [0, *sorted(min(place, total) for place in cuts), total]
    ranks = []
    for low, high in itertools.pairwise(bounds):
        held, begin = [], 0
        for name, shape in SHAPES.items():
            numel = torch.Size(shape).numel()
            start, stop = max(low - begin, 0), min(high - begin, numel)
            if start < stop:
                full = torch.zeros(numel) if values is None else values[name].reshape(-1).clone()
                states = {key: full * scale for key, scale in (("exp_avg", 2.0), ("exp_avg_sq", 3.0))}
                views = {key: state[start:stop] for key, state in states.items()}
                held.append(Held(name, start, stop, full[start:stop], views))
            begin += numel
        ranks.append(held)
    return ranks


def write(run_dir: Path, ranks: list[list[Held]], step: int = 12) -> Path:
    directory = step_directory(run_dir, step)
    clear_step(directory)
    pieces = [piece for rank, held in enumerate(ranks) for piece in write_pieces(directory, held, rank=rank)]
    commit_checkpoint(
        directory,
        pieces=pieces,
        shapes=SHAPES,
        tower_sha256="t" * 64,
        state={"step": step, "adam_step": step},
        world_size=len(ranks),
    )
    return directory


CUTS = st.lists(st.integers(0, 27), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CUTS, CUTS)
def test_any_partition_reads_what_any_other_wrote(
    tmp_path: Path, written: list[int], asked: list[int]
) -> None:
    values = true_values()
    checkpoint = read_checkpoint(write(tmp_path, cut(values, written)))
    expected, targets = cut(values, asked), cut(None, asked)
    for held in targets:
        restore(checkpoint, held)
    for ours, theirs in zip(targets, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.weight, other.weight)
            assert all(torch.equal(one.states[key], other.states[key]) for key in other.states)


def test_weights_come_back_whole_in_their_shapes(tmp_path: Path) -> None:
    values = true_values()
    weights = read_weights(write(tmp_path, cut(values, [4, 23])))
    assert weights.keys() == values.keys()
    assert all(torch.equal(weights[name], values[name]) for name in values)


def test_what_is_not_owned_is_not_written(tmp_path: Path) -> None:
    (held,) = cut(true_values(), [])
    copies = [Held(*vars(piece).values()) for piece in held]
    others = [Held(**{**vars(piece), "is_owned": False}) for piece in copies]
    directory = write(tmp_path, [held, others])
    assert sorted(path.name for path in directory.iterdir()) == [
        "complete.json",
        "optimizer-00000.safetensors",
        "weights-00000.safetensors",
    ]


def test_a_save_that_did_not_finish_is_never_the_newest(tmp_path: Path) -> None:
    first = write(tmp_path, cut(true_values(), []), step=9)
    second = write(tmp_path, cut(true_values(), []), step=1_000_000)
    assert newest_checkpoint(tmp_path) == second
    (second / "complete.json").unlink()
    assert newest_checkpoint(tmp_path) == first
    assert (tmp_path / "latest").read_text() == "step-1000000\n"
    with pytest.raises(ConfigError, match="no complete checkpoint"):
        read_checkpoint(second)


def test_a_step_saved_again_forgets_the_files_of_more_ranks(tmp_path: Path) -> None:
    write(tmp_path, cut(true_values(), [5, 20]))
    directory = write(tmp_path, cut(true_values(), []))
    assert len(list(directory.iterdir())) == 3


def test_a_missing_or_shortened_file_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path, cut(true_values(), [5]))
    piece = directory / "weights-00001.safetensors"
    piece.write_bytes(piece.read_bytes()[:-1])
    with pytest.raises(VerificationError, match=r"weights-00001.safetensors: missing or not \d+ bytes"):
        read_checkpoint(directory)


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    directory = write(tmp_path, cut(true_values(), [5]))
    piece = directory / "weights-00001.safetensors"
    data = bytearray(piece.read_bytes())
    data[-1] ^= 1
    piece.write_bytes(bytes(data))
    with pytest.raises(VerificationError, match="its bytes changed"):
        read_weights(directory)
    verify_pieces(read_checkpoint(directory), kinds=("optimizer",))


def test_pieces_with_a_gap_are_refused(tmp_path: Path) -> None:
    ranks = cut(true_values(), [5, 9])
    checkpoint = read_checkpoint(write(tmp_path, [ranks[0], ranks[2]]))
    with pytest.raises(VerificationError, match="lacks elements 5 to"):
        restore(checkpoint, cut(None, [])[0])


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write(tmp_path, cut(true_values(), [])))
    with pytest.raises(VerificationError, match="holds no 'other'"):
        restore(checkpoint, [Held("other", 0, 1, torch.zeros(1), {})])


def test_another_version_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path, cut(true_values(), []))
    values = json.loads((directory / "complete.json").read_text())
    (directory / "complete.json").write_text(json.dumps({**values, "version": 99}))
    with pytest.raises(VerificationError, match="version 99"):
        read_checkpoint(directory)
