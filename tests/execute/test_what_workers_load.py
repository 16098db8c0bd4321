"""A worker loads what it runs, not what a driver needs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from weave_data.config import EmbeddingConfig
from weave_data.decode import DecodeSettings
from weave_data.storage import open_source, open_store
from weave_data.tasks.frames import EmbedActor, FrameWork
from weave_data.tasks.shards import ShardWork

DRIVERS = ("pipeline", "upkeep", "report", "cluster")
HEAVY = (*(f"weave_data.{room}" for room in DRIVERS), "scipy", "jinja2", "pandas", "torch", "ray")


@pytest.mark.process
def test_a_worker_that_unpickles_its_work_loads_no_room_of_the_driver(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    settings = DecodeSettings()
    actor = EmbedActor(EmbeddingConfig(model="none"), store)
    frames = FrameWork(
        store,
        open_source(str(tmp_path)),
        None,
        settings,
        (),
        frozenset(),
        {},
        None,
        None,
        actor,  # type: ignore[arg-type]
    )
    script = (
        "import pickle, sys; import weave_data.catalog; pickle.load(sys.stdin.buffer); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((frames, ShardWork(store, None))),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == "[]"
