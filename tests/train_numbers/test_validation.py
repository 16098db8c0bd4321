"""Validation gives the same loss however rows are split, and leaves training as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vlm import make_batch, make_row, make_vlm
from validating_ranks import FRAMES, NUM_ROWS

from weave_train.launch import free_port, rank_environment
from weave_train.rows.batch import collate

REPOSITORY = Path(__file__).parents[2]


def start(tmp_path: Path, *, zero_stage: int, num_ranks: int, mode: str = "pass") -> dict[str, Any]:
    """Result of the first rank."""
    result = tmp_path / f"zero{zero_stage}-{num_ranks}-{mode}.json"
    codes, errors = start_ranks(result, zero_stage=zero_stage, num_ranks=num_ranks, mode=mode)
    assert codes == [0] * num_ranks, errors
    values: dict[str, Any] = json.loads(result.read_text())
    return values


def start_ranks(result: Path, *, zero_stage: int, num_ranks: int, mode: str) -> tuple[list[int], list[str]]:
    script = Path(__file__).with_name("validating_ranks.py")
    port = free_port()
    path = os.pathsep.join([str(REPOSITORY), str(script.parent)])
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(zero_stage), str(result), mode],
            env={
                **os.environ,
                **rank_environment(rank, world_size=num_ranks, port=port),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": path,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [rank.returncode for rank in ranks], errors


def plain_loss() -> float:
    """Loss per supervised token of all rows in one batch, without an engine."""
    vlm = make_vlm()
    rows = [make_row(FRAMES[n], seed=n, text=6 + 2 * n) for n in range(NUM_ROWS)]
    batch = collate(rows, pad_id=vlm.tokenizer.pad_token_id)
    with torch.no_grad():
        return float(vlm.core(vlm.encode(batch.pixels), batch)) / batch.num_supervised


def test_rows_of_the_test_hold_text_only_and_videos() -> None:
    assert {0, 1, 4} <= set(FRAMES)
    assert len(FRAMES) == NUM_ROWS
    assert make_batch(make_vlm(), [0]).num_supervised > 0


@pytest.mark.process
@pytest.mark.parametrize(
    ("zero_stage", "num_ranks"),
    [
        (0, 1),
        (3, 3),
        *(
            pytest.param(stage, ranks, marks=pytest.mark.slow)
            for stage in range(4)
            for ranks in (1, 2, 3)
            if (stage, ranks) not in ((0, 1), (3, 3))
        ),
    ],
)
def test_the_loss_is_that_of_one_batch_for_any_ranks_and_stage(
    tmp_path: Path, zero_stage: int, num_ranks: int
) -> None:
    values = start(tmp_path, zero_stage=zero_stage, num_ranks=num_ranks)
    loss, supervised, rows = values["before"]
    assert loss == pytest.approx(plain_loss(), rel=1e-5)
    assert rows == NUM_ROWS
    assert supervised == sum(make_row(FRAMES[n], seed=n, text=6 + 2 * n).num_supervised for n in range(11))
    assert values["between"][0] != loss
    assert values["after"] == values["again"], "a pass changes nothing"
    assert len(values["told"]) == 4 * len(range(NUM_ROWS // num_ranks)), "first rank's rows, each pass"


@pytest.mark.process
def test_training_goes_on_as_if_nothing_had_been_validated(tmp_path: Path) -> None:
    validated = start(tmp_path, zero_stage=3, num_ranks=2)
    straight = start(tmp_path, zero_stage=3, num_ranks=2, mode="none")
    assert (validated["first"], validated["second"]) == (straight["first"], straight["second"])


@pytest.mark.process
def test_rows_that_one_rank_cant_read_end_all_ranks_at_once(tmp_path: Path) -> None:
    codes, errors = start_ranks(tmp_path / "none.json", zero_stage=2, num_ranks=2, mode="broken")
    assert "OWN shard-00000.parquet: row group 3: gone" in errors[1]
    assert codes[1] == 3
    assert codes[0] not in (0, -9)
    assert "rank 1: shard-00000.parquet: row group 3: gone" in errors[0]
