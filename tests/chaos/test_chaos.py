"""The command of `make chaos`: one round and its table, and that lost and repeated rows are seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import write_woven_dataset
from chaos_table import Outcome, Table
from chaos_workplace import Workplace
from servers import S3Server

CHAOS = Path(__file__).parent


@pytest.mark.process
def test_one_round_is_replayed_by_its_seed_and_ends_in_a_table() -> None:
    # this seed: one kill, one rank, a local folder; no store is asked for anything
    words = [sys.executable, str(CHAOS), "--rounds", "1", "--only", "saves-killed", "--seed", "15"]
    environment = {**os.environ, "WEAVE_TEST_S3": "moto"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 1: --only saves-killed --seed 15" in done.stdout
    titles, kind, total = done.stdout.splitlines()[-3:]
    assert titles.split("  ")[-1].strip() == "rows duplicated"
    assert kind.split() == ["saves-killed", "1", "1", "1", "0", "0", "0"]
    assert total.split()[0] == "all"


def test_rows_that_are_missing_and_rows_that_are_there_twice_are_counted(tmp_path: Path) -> None:
    for name, rows in (("all", 20), ("fewer", 16)):
        write_woven_dataset(tmp_path / name, rows=rows, clips_per_sample=2, frames_per_sample=4)
    place = Workplace(tmp_path, S3Server("none", "", "", ""))
    place.__dict__["undisturbed"] = str(tmp_path / "all")
    assert place.judge(str(tmp_path / "all"), faults=3) == Outcome(3, rows=20)
    fewer = place.judge(str(tmp_path / "fewer"), faults=3)
    assert (fewer.lost, fewer.duplicated) == (4, 0)
    assert fewer.problems  # objects differ, too
    place.__dict__["undisturbed"] = str(tmp_path / "fewer")
    more = place.judge(str(tmp_path / "all"), faults=3)
    assert (more.lost, more.duplicated) == (0, 4)


def test_what_did_not_survive_is_named_with_the_command_that_repeats_it() -> None:
    table = Table()
    table.add("build-killed", 7, Outcome(2, rows=8))
    assert table.is_clean
    table.add("build-killed", 9, Outcome(1, rows=8, lost=3, duplicated=1))
    assert not table.is_clean
    _, kind, total, again = table.lines()
    assert kind.split() == ["build-killed", "2", "1", "3", "16", "3", "1"]
    assert total.split() == ["all", "2", "1", "3", "16", "3", "1"]
    assert again == "again: python tests/chaos --rounds 1 --only build-killed --seed 9"
