"""Starts ranks on `precision_ranks` and reads what they wrote."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from precision_ranks import Case
from safetensors.torch import load_file

from weave_train.plugin import run_ranks

__all__ = ["FREE", "PURE", "ROWS", "read_held", "run_cases"]

ROWS = [[0, 1, 2, 3], [4, 5, 6, 7]]
FREE = {"optimizer": "schedule_free_adamw"}
PURE = {"master_weights": "bf16"}
_REPOSITORY = Path(__file__).parents[2]
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{_REPOSITORY}:{_REPOSITORY / 'tests'}"}


def run_cases(cases: Sequence[Case], directory: Path) -> dict[str, list[dict[str, Any]]]:
    """What every rank wrote, by case."""
    path = directory / "cases.json"
    path.write_text(json.dumps([asdict(case) for case in cases]))
    script = str(Path(__file__).parent / "precision_ranks.py")
    num_ranks = len(cases[0].rank_rows)
    command = [sys.executable, script, str(path), str(directory)]
    assert run_ranks(command, num_ranks=num_ranks, environment=_ENVIRONMENT) == 0
    return {
        case.name: [
            json.loads((directory / f"{case.name}-{rank}.json").read_text()) for rank in range(num_ranks)
        ]
        for case in cases
    }


def read_held(case: Case, directory: Path) -> dict[str, torch.Tensor]:
    """Weights (`name`) and states (`state/name`) after a case, put together from all ranks, flat."""
    pieces: dict[str, list[tuple[int, int, torch.Tensor]]] = {}
    for rank in range(len(case.rank_rows)):
        for key, value in load_file(directory / f"{case.name}-{rank}.safetensors").items():
            name, start, stop = re.fullmatch(r"(.+)\[(\d+):(\d+)\]", key).groups()  # type: ignore[union-attr]
            pieces.setdefault(name, []).append((int(start), int(stop), value.view(-1)))
    held = {}
    for name, parts in pieces.items():
        held[name] = torch.full((max(stop for _, stop, _ in parts),), float("nan"))
        for start, stop, value in parts:
            held[name][start:stop] = value
    return held
