"""Checkpoints know names and ranges, not ranks: what any world writes, any other reads."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from stored_pieces import Held, write_checkpoint

from weave_data.errors import ConfigError, VerificationError
from weave_data.storage import LocalStore
from weave_train.checkpoint.layout import (
    Checkpoint,
    complete_key,
    find_checkpoint_at,
    newest_checkpoint,
    read_checkpoint,
)
from weave_train.checkpoint.reading import read_weights, restore

SHAPES = {"core.weight": (7, 3), "core.bias": (5,), "core.layers[0].scale": (1,)}


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


def write(run_dir: Path, ranks: list[list[Held]], step: int = 12, **options: object) -> Checkpoint:
    store = LocalStore(run_dir)
    write_checkpoint(store, ranks, step=step, shapes=SHAPES, **options)  # type: ignore[arg-type]
    return read_checkpoint(store, step)


def files_of(checkpoint: Checkpoint) -> list[Path]:
    return [Path(checkpoint.store.uri) / checkpoint.key_of(piece) for piece in checkpoint.pieces]


CUTS = st.lists(st.integers(0, 27), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CUTS, CUTS, st.sampled_from([12, 40, 1 << 20]))
def test_any_partition_reads_what_any_other_wrote(
    tmp_path_factory: pytest.TempPathFactory, written: list[int], asked: list[int], max_file_bytes: int
) -> None:
    values = true_values()
    folder = tmp_path_factory.mktemp("run")
    checkpoint = write(folder, cut(values, written), max_file_bytes=max_file_bytes)
    expected, targets = cut(values, asked), cut(None, asked)
    for rank, held in enumerate(targets):
        restore(checkpoint, held, rank=rank, world_size=len(targets))
    for ours, theirs in zip(targets, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.weight, other.weight)
            assert all(torch.equal(one.states[key], other.states[key]) for key in other.states)


def test_weights_come_back_whole_in_their_shapes(tmp_path: Path) -> None:
    values = true_values()
    weights = read_weights(write(tmp_path, cut(values, [4, 23])))
    assert weights.keys() == values.keys()
    assert all(torch.equal(weights[name], values[name]) for name in values)


def test_files_are_safetensors_that_any_reader_opens_and_none_is_larger_than_allowed(tmp_path: Path) -> None:
    values = true_values()
    checkpoint = write(tmp_path, cut(values, [10]), max_file_bytes=32)
    found = {}
    for path, piece in zip(files_of(checkpoint), checkpoint.pieces, strict=True):
        assert path.stat().st_size - piece.header_bytes <= 32
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118  a safetensors handle is no mapping
                found[key] = file.get_tensor(key)
    assert torch.equal(found["core.weight[0:8]"], values["core.weight"].reshape(-1)[:8])
    assert torch.equal(found["exp_avg_sq/core.layers[0].scale[0:1]"], values["core.layers[0].scale"] * 3.0)
    assert sum(len(value) for value in found.values()) == 3 * 27


def test_every_dtype_keeps_its_bits(tmp_path: Path) -> None:
    values = [
        torch.randn(5).to(torch.bfloat16),
        torch.randn(3),
        torch.randn(7).half(),
        torch.tensor([1 << 40]),
    ]
    ranges = [Held(f"p{i}", 0, len(value), value) for i, value in enumerate(values)]
    store = LocalStore(tmp_path)
    write_checkpoint(store, [ranges], step=1, shapes={"p0": (5,)}, max_file_bytes=16)
    targets = [Held(f"p{i}", 0, len(value), torch.zeros_like(value)) for i, value in enumerate(values)]
    restore(read_checkpoint(store, 1), targets)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(targets, ranges, strict=True))


def test_what_is_not_owned_is_not_written(tmp_path: Path) -> None:
    (held,) = cut(true_values(), [])
    others = [Held(**{**vars(piece), "is_owned": False}) for piece in held]
    names = [piece.file for piece in write(tmp_path, [held, others]).pieces]
    assert names == [
        "attempt/optimizer-00000-000.safetensors",
        "attempt/weights-00000-000.safetensors",
    ]


def test_a_save_that_did_not_finish_is_never_the_newest(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert newest_checkpoint(store) is None
    write(tmp_path, cut(true_values(), []), step=9)
    write(tmp_path, cut(true_values(), []), step=1_000_000)
    newest = newest_checkpoint(store)
    assert newest is not None
    assert newest.step == 1_000_000
    store.delete(complete_key(1_000_000))
    newest = newest_checkpoint(store)
    assert newest is not None
    assert newest.step == 9
    with pytest.raises(ConfigError, match="no complete checkpoint"):
        read_checkpoint(store, 1_000_000)


def test_a_step_or_a_run_is_found_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (9, 10):
        write(tmp_path / "run", cut(true_values(), []), step=step)
    assert find_checkpoint_at(str(tmp_path / "run")).step == 10
    assert find_checkpoint_at(f"{tmp_path}/run/checkpoints/step-000009/").step == 9
    monkeypatch.chdir(tmp_path / "run")
    assert find_checkpoint_at("checkpoints/step-000009").uri == f"{tmp_path}/run/checkpoints/step-000009"
    with pytest.raises(ConfigError, match="no complete checkpoint"):
        find_checkpoint_at(str(tmp_path))


def test_a_run_directory_leads_to_where_its_checkpoints_go(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", cut(true_values(), []))
    (tmp_path / "run").mkdir()
    config = {"pretrain": {"checkpoint": {"uri": str(tmp_path / "elsewhere")}}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert find_checkpoint_at(str(tmp_path / "run")).uri == f"{tmp_path}/elsewhere/checkpoints/step-000012"


def test_a_missing_or_shortened_file_is_refused(tmp_path: Path) -> None:
    path = files_of(write(tmp_path, cut(true_values(), [5])))[-1]
    path.write_bytes(path.read_bytes()[:-1])
    message = r"weights-00001-000.safetensors: missing or not \d+ bytes long; delete .*complete.json"
    with pytest.raises(VerificationError, match=message):
        newest_checkpoint(LocalStore(tmp_path))
    path.unlink()
    with pytest.raises(VerificationError, match=message):
        newest_checkpoint(LocalStore(tmp_path))


def test_a_changed_byte_is_found_by_the_rank_that_checks_the_file(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, cut(true_values(), [5, 10]))
    path = files_of(checkpoint)[-1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(VerificationError, match="weights-00002-000.safetensors: its bytes changed"):
        read_weights(checkpoint)
    found = []
    for rank in range(2):
        try:
            restore(checkpoint, cut(None, [5])[rank], rank=rank, world_size=2)
        except VerificationError:
            found.append(rank)
    assert found == [0]


def test_pieces_with_a_gap_are_refused(tmp_path: Path) -> None:
    ranks = cut(true_values(), [5, 9])
    checkpoint = write(tmp_path, [ranks[0], ranks[2]])
    with pytest.raises(VerificationError, match="lacks elements 5 to"):
        restore(checkpoint, cut(None, [])[0])


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, cut(true_values(), []))
    with pytest.raises(VerificationError, match="holds no 'other'"):
        restore(checkpoint, [Held("other", 0, 1, torch.zeros(1), {})])


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 2}', '{"version": 99}'])
def test_another_version_or_a_damaged_description_is_refused(tmp_path: Path, content: str) -> None:
    checkpoint = write(tmp_path, cut(true_values(), []))
    (tmp_path / complete_key(12)).write_text(content)
    with pytest.raises(VerificationError, match=r"version 99|complete.json: damaged"):
        read_checkpoint(checkpoint.store, 12)
