"""The kinds of rounds: each breaks one piece of work at points drawn from its seed, and judges the end."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from build_runs import kill_group, start
from chaos_table import Outcome
from chaos_workplace import Workplace
from faults.faults_world import small_settings
from hosts.ray_hosts import BIN, ray_hosts
from netns import virtual_hosts
from raycluster import ray_head
from s3server.faults import Fault, FaultProxy, Refusal, Storm
from training_runs import Training, column, wait_for_steps

from weave_data.storage import open_store

Round = Callable[[Path, random.Random, Workplace], Outcome]

_DEADLINE_SECONDS = 1800
_REQUESTS = 105  # of an undisturbed build; the last ones publish
_MAX_STARTS = 6


def build_killed(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """SIGKILL to a build and all it started when it makes its n-th request; again; then it may end."""
    config, output = _config(folder, draw, place)
    kills = 0
    for _ in range(draw.randint(1, 3)):
        with FaultProxy(place.server.endpoint) as proxy:
            process = start(config, AWS_ENDPOINT_URL=proxy.endpoint)
            _wait_for_requests(proxy, draw.randrange(5, _REQUESTS), process)
            if process.poll() is None:
                kill_group(process)
                kills += 1
            else:
                process.communicate()
    _finish(config)
    return place.judge(output, faults=kills)


def build_through_faults(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """Refusals, resets, stalls, truncated bodies, lost replies, and the server gone for some seconds."""
    config, output = _config(folder, draw, place)
    with FaultProxy(place.server.endpoint, stall_seconds=draw.uniform(1.0, 30.0)) as proxy:
        proxy.storm = _storm(draw)
        proxy.go_down_after(draw.randrange(10, _REQUESTS), seconds=draw.uniform(1.0, 10.0))
        for _ in range(_MAX_STARTS):
            code, said = _run(config, AWS_ENDPOINT_URL=proxy.endpoint)
            if code == 0:
                break
            # a storm may outlast every attempt; then the build has to say that it goes on where it stopped
            assert code in (3, 6), said
            assert "same command again" in said.lower(), said
        assert code == 0, said
        return place.judge(output, faults=proxy.happened.total())


def build_refused(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """Credentials expire at the n-th request: the build ends and says so, and goes on with good ones."""
    config, output = _config(folder, draw, place)
    with FaultProxy(place.server.endpoint) as proxy:
        proxy.refuse_after(draw.randrange(1, _REQUESTS - 20), Refusal(400, "ExpiredToken"))
        code, said = _run(config, AWS_ENDPOINT_URL=proxy.endpoint)
        assert code == 3, said
        assert "refused the credentials (ExpiredToken)" in said, said
        proxy.refusal = None
        _finish(config)
    return place.judge(output, faults=1)


def driver_killed(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """SIGKILL to the driver alone of a build on a Ray that lives on; the same command resumes."""
    with ray_head(folder) as head:
        config, output = _config(folder, draw, place, ray_address=head.gcs_address)
        with FaultProxy(place.server.endpoint) as proxy:
            process = start(config, AWS_ENDPOINT_URL=proxy.endpoint)
            _wait_for_requests(proxy, draw.randrange(5, 30), process)
            process.kill()
            process.communicate()
        _finish(config)
    return place.judge(output, faults=1)


def node_killed(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """SIGKILL to one of two Ray nodes, each a host of its own, while a submitted build works; it finishes."""
    with (
        virtual_hosts(2) as network,
        network.store(place.server) as environment,
        ray_hosts(network, folder, cpus=(1, 1), environment=environment) as cluster,
    ):
        config, output = _config(folder, draw, place, ray_address=None)
        build = subprocess.Popen(
            [str(BIN / "weave-data"), "submit", str(config), "--address", cluster.dashboard],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=cluster.outside(),
        )  # fmt: skip
        store, deadline = open_store(output), time.monotonic() + _DEADLINE_SECONDS
        while not list(store.list("frames/")) and build.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(draw.random())
        kills = int(build.poll() is None)
        cluster.nodes[1].host.kill()
        said, _ = build.communicate(timeout=_DEADLINE_SECONDS)
        assert build.returncode == 0, said
    return place.judge(output, faults=kills)


def saves_killed(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """SIGKILL to ranks that save all the time; the newest checkpoint is whole, whatever happened."""
    from train_checkpoint.test_kills import kill_and_restart

    num_kills = draw.randint(1, 3)
    uri = str(folder / "run") if draw.random() < 0.5 else f"s3://{place.server.new_bucket()}/run"
    kill_and_restart(uri, num_kills=num_kills, world_size=draw.randint(1, 2), seed=draw.randrange(1 << 31))
    return Outcome(num_kills)


def training_killed(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """SIGKILL to a run at random steps; every step's ledger is that of a run that never was."""
    return _train(folder, draw, place, with_storm=False)


def training_through_faults(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """The same, with rows and checkpoints behind a store that misbehaves."""
    return _train(folder, draw, place, with_storm=True)


def hostile_media(folder: Path, draw: random.Random, place: Workplace) -> Outcome:
    """Broken variants of clips through decoder processes: every input is accounted for."""
    tests = Path(__file__).parents[1]
    command = [sys.executable, str(tests / "hostile_run.py"), "--variants", "60"]
    command += ["--first", str(draw.randrange(10_000)), "--seed", str(draw.randrange(1 << 31))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DEADLINE_SECONDS)
    figures = json.loads(done.stdout.splitlines()[-1])
    accounted = figures["decoded"] + figures["rejected"] + figures["open"]
    return Outcome(60, rows=60, lost=60 - accounted, problems=tuple(figures["problems"]))


KINDS: Mapping[str, Round] = {
    "build-killed": build_killed,
    "build-through-faults": build_through_faults,
    "build-refused": build_refused,
    "driver-killed": driver_killed,
    "node-killed": node_killed,
    "saves-killed": saves_killed,
    "training-killed": training_killed,
    "training-through-faults": training_through_faults,
    "hostile-media": hostile_media,
}
"""By the name that `--only` takes."""


def _train(folder: Path, draw: random.Random, place: Workplace, *, with_storm: bool) -> Outcome:
    from expected_ledgers import expected_ledgers

    training, num_steps = Training(place.manifest, folder), 40
    run_dir = folder / "run"
    flags = (
        *("--max_steps", str(num_steps), "--save_every_steps", str(draw.randint(1, 6))),
        *("--num_ranks", str(draw.randint(1, 2))),
        *("--checkpoint.uri", f"s3://{place.server.new_bucket()}/run"),
    )
    kills = 0
    with FaultProxy(place.server.endpoint, stall_seconds=draw.uniform(1.0, 30.0)) as proxy:
        proxy.storm = _storm(draw) if with_storm else None
        if with_storm:
            proxy.go_down_after(draw.randrange(10, 60), seconds=draw.uniform(1.0, 10.0))
        for _ in range(draw.randint(1, 2)):
            process = training.begin("run", *flags, AWS_ENDPOINT_URL=proxy.endpoint)
            wait_for_steps(run_dir, draw.randrange(num_steps - 5), process)
            time.sleep(draw.random() * 0.4)
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=_DEADLINE_SECONDS)
        for _ in range(_MAX_STARTS):
            process = training.begin("run", *flags, AWS_ENDPOINT_URL=proxy.endpoint)
            _, err = process.communicate(timeout=_DEADLINE_SECONDS)
            if process.returncode == 0:
                break
            assert with_storm, err
            assert process.returncode == 3, err
        faults = kills + proxy.happened.total()
    steps, ledgers = column(run_dir, "Step"), column(run_dir, "Ledger")
    expected = expected_ledgers(training, *flags, num_steps=num_steps)
    wrong = sum(dict(zip(steps, ledgers, strict=True)).get(n + 1) != told for n, told in enumerate(expected))
    return Outcome(faults, rows=9 * num_steps, lost=9 * wrong, duplicated=9 * (len(steps) - len(set(steps))))


def _config(folder: Path, draw: random.Random, place: Workplace, **execution: str | None) -> tuple[Path, str]:
    output = f"s3://{place.server.new_bucket()}/woven"
    values = small_settings(place.source, output)
    in_process = draw.random() < 0.5 and not execution
    values["execution"] = execution or {"in_process": in_process, "num_cpus": 2}
    path = folder / "build.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path, output


def _run(config: Path, **environment: str) -> tuple[int, str]:
    """Exit code and words of one build; started again where the machine was too busy to start Ray."""
    for _ in range(_MAX_STARTS):
        process = start(config, **environment)
        out, err = process.communicate(timeout=_DEADLINE_SECONDS)
        if "private Ray did not start" not in err:
            break
    return process.returncode, out + err


def _finish(config: Path) -> None:
    code, said = _run(config)
    assert code == 0, said


def _storm(draw: random.Random):
    others = (Fault.RESET, Fault.CUT_BODY, Fault.DROP_REPLY, Fault.STALL)
    rates = {Fault.REFUSE: 0.05} | {fault: draw.uniform(0.0, 0.04) for fault in others}
    return Storm(rates, draw.randrange(1 << 31))


def _wait_for_requests(proxy, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while len(proxy.requests) < count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
