"""A save that is killed anywhere never breaks the run: the one before is there, whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from servers import S3Server
from training_runs import ENVIRONMENT

from weave_data.storage import open_store
from weave_train.checkpoint.layout import complete_steps, newest_checkpoint
from weave_train.checkpoint.reading import read_weights
from weave_train.launch import free_port

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

_SCRIPT = Path(__file__).parent / "saving_forever.py"
_DEADLINE = 120.0


class Ranks:
    """Processes that save without end, and what they say."""

    def __init__(self, uri: str, world_size: int) -> None:
        paths = os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(_SCRIPT.parents[1])])
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": paths}
        port = str(free_port())
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(_SCRIPT), str(rank), str(world_size), uri, port],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for rank in range(world_size)
        ]
        self.lines = self._words()

    def _words(self) -> Iterator[str]:
        out = self.processes[0].stdout
        assert out is not None
        timer = threading.Timer(_DEADLINE, self.kill)
        timer.start()
        try:
            yield from (line.strip() for line in out)
        finally:
            timer.cancel()

    def kill(self) -> None:
        """SIGKILL to the ranks alone: what they started must notice by itself."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL)

    def end(self) -> str:
        """Reap; returns what went to standard error, which closes when the last child has ended."""
        said = [_rest(process.stderr) for process in self.processes]
        for process in self.processes:
            process.wait(timeout=_DEADLINE)
        return "".join(said)


def _rest(pipe: IO[str] | None) -> str:
    assert pipe is not None
    return pipe.read()


def kill_and_restart(uri: str, *, num_kills: int, world_size: int, seed: int) -> None:
    """Kill at random times after a random save; restart at once."""
    random_ = random.Random(seed)
    reached = 0
    for _ in range(num_kills):
        ranks = Ranks(uri, world_size)
        killer = threading.Timer(random_.uniform(0.0, 0.15), ranks.kill)
        saves = random_.randint(1, 3)
        restored = None
        for line in ranks.lines:
            word, step = line.split()
            if word == "restored":
                restored = int(step)
            elif (saves := saves - 1) == 0:
                killer.start()
                reached = int(step)
        assert restored is not None, ranks.end()
        killer.cancel()
        ranks.end()
        store = open_store(uri)
        newest = newest_checkpoint(store)
        assert newest is not None or reached <= 1
        if newest is not None:
            # a save waits for the one before: at most the last one is lost
            assert newest.step >= reached - 1
            weights = read_weights(newest)
            assert {float(value.min()) for value in weights.values()} == {float(newest.step)}
            assert {float(value.max()) for value in weights.values()} == {float(newest.step)}
    steps = complete_steps(open_store(uri))
    assert len([step for step in steps if step % 10]) <= 3


@pytest.mark.slow
def test_twenty_kills_at_random_points_of_saves_lose_at_most_the_last(tmp_path: Path) -> None:
    kill_and_restart(str(tmp_path / "run"), num_kills=20, world_size=1, seed=1)


@pytest.mark.parametrize("num_kills", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_kills_of_two_ranks(tmp_path: Path, num_kills: int) -> None:
    kill_and_restart(str(tmp_path / "run"), num_kills=num_kills, world_size=2, seed=num_kills)


@pytest.mark.server
def test_kills_while_saving_to_s3(s3: S3Server) -> None:
    kill_and_restart(f"s3://{s3.new_bucket()}/run", num_kills=3, world_size=1, seed=3)
