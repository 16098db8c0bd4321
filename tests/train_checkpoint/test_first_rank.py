"""What a killed run was still saving may become complete between two ranks' looks: all take the first's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from training_runs import ENVIRONMENT

from weave_data.storage import open_store
from weave_train.checkpoint.layout import Completion, complete_key
from weave_train.plugin import run_ranks

pytestmark = pytest.mark.process


def settled(folder: Path, found: list[int | None], *, is_gone: bool = False) -> list[str]:
    run = folder / "run"
    store = open_store(str(run))
    for step in (3, 6):
        store.put_new(complete_key(step), Completion(step, {}, {}, {}, 1).to_json([]))
    told = folder / "told"
    told.mkdir()
    if is_gone:
        (told / "gone").touch()
    command = [sys.executable, str(Path(__file__).with_name("first_ranks.py")), str(run), json.dumps(found)]
    assert run_ranks([*command, str(told)], num_ranks=len(found), environment=ENVIRONMENT) == 0
    return [(told / f"rank-{rank}").read_text() for rank in range(len(found))]


def test_all_ranks_go_on_from_what_the_first_found(tmp_path: Path) -> None:
    assert settled(tmp_path, [3, 6, 3]) == ["3", "3", "3"]


def test_ranks_that_see_no_checkpoint_stop_with_the_others(tmp_path: Path) -> None:
    first, second = settled(tmp_path, [6, None])
    assert first.startswith("TrainingError: ranks disagree on which checkpoint to resume")
    assert second == first


def test_a_checkpoint_that_is_gone_on_one_rank_ends_all_of_them(tmp_path: Path) -> None:
    first, second = settled(tmp_path, [3, 6], is_gone=True)
    assert "no complete checkpoint" in second
    assert first.startswith("PeerError: ends with rank 1: ")
