"""One run on two hosts that share nothing but the store, whoever starts its ranks; and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_world import END_SECONDS, World, finish, launch_world, until
from servers import S3Server
from ssh_hosts import REPOSITORY
from training_runs import column

from weave_train.numbers import read_metrics

pytestmark = [
    pytest.mark.process,
    pytest.mark.server,
    pytest.mark.timeout(3000),
    pytest.mark.xdist_group("launch"),
]

STEPS = "6"
LONG = ("--max_steps", "30", "--save_every_steps", "2")


@pytest.fixture(scope="module")
def world(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with launch_world(s3, tmp_path_factory.mktemp("launch")) as made:
        yield made


@pytest.fixture(scope="module")
def alone(world: World) -> Path:
    return world.here("alone", "--max_steps", STEPS)


@pytest.fixture(scope="module")
def two_here(world: World) -> Path:
    return world.here("two-here", "--max_steps", STEPS, "--num_ranks", "2")


@pytest.fixture(scope="module")
def unbroken(world: World) -> Path:
    """Thirty steps of two ranks that nobody disturbs."""
    return world.here("unbroken", *LONG, "--num_ranks", "2")


def assert_same(run_dir: Path, reference: Path, *, rel: float) -> None:
    assert column(run_dir, "Step") == column(reference, "Step")
    assert column(run_dir, "Ledger") == column(reference, "Ledger")
    assert column(run_dir, "Loss (Raw)") == pytest.approx(column(reference, "Loss (Raw)"), rel=rel)


def metric_lines(world: World, run_id: str) -> list[bytes]:
    return (world.run_dir(run_id) / "metrics.jsonl").read_bytes().splitlines()


def kept_lines(world: World, run_id: str) -> list[bytes]:
    """Of the steps up to the newest complete checkpoint; taken again, they would hold another step time."""
    step = world.newest_checkpoint(run_id)
    assert step >= 4
    return metric_lines(world, run_id)[:step]


def test_two_hosts_under_torchrun_give_the_run_of_one_process(world: World, alone: Path) -> None:
    said = finish(world.launch("torchrun", "sampled", "--max_steps", STEPS))
    assert f"step {STEPS}, loss" in said
    assert_same(world.run_dir("sampled"), alone, rel=1e-4)
    world.wait_until_idle()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_as_many_ranks_elsewhere_round_alike_and_another_launcher_resumes_them(
    world: World, alone: Path, two_here: Path, launcher: str
) -> None:
    finish(world.launch(launcher, launcher, "--max_steps", STEPS))
    assert_same(world.run_dir(launcher), two_here, rel=1e-6)
    assert_same(world.run_dir(launcher), alone, rel=1e-4)
    # begun by one launcher on two hosts, ended by another on one, with the bucket in common
    begun = f"begun-{launcher}"
    finish(world.launch(launcher, begun, "--max_steps", STEPS, "--stop_after_steps", "3"))
    assert len(read_metrics(world.run_dir(begun))) == 3
    other = "deepspeed" if launcher == "torchrun" else "torchrun"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "weave_train", "launch", "--launcher", other, "--nproc_per_node", "2"),
            *world.flags(begun, "--max_steps", STEPS),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **world.environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    resumed = world.cluster.disk / begun
    assert column(resumed, "Step") == [4, 5, 6]
    assert column(resumed, "Ledger") == column(alone, "Ledger")[3:]
    assert column(resumed, "Loss (Raw)") == pytest.approx(column(two_here, "Loss (Raw)")[3:], rel=1e-6)


@pytest.mark.slow
def test_deepspeed_with_its_own_hostfile_gives_the_same_run(world: World, two_here: Path) -> None:
    pdsh = "/usr/bin/pdsh"
    if not Path(pdsh).exists():
        pytest.skip("needs pdsh: apt-get install pdsh")
    tools, folder = Path(sys.executable).parent, world.cluster.folder
    # what DeepSpeed passes on by itself is PYTHON* and NCCL_*; the rest is this file's
    (folder / "ds_env").write_text("".join(f"{name}={value}\n" for name, value in world.environment.items()))
    ssh_options = shlex.split(world.cluster.ssh)[1:]
    process = world.start.start(
        [
            *(str(tools / "deepspeed"), "--hostfile", str(world.cluster.hostfile()), "--no_ssh_check"),
            *("--master_addr", world.network.hosts[0].address, "--module", "weave_train", "pretrain"),
            *world.flags("pdsh", "--max_steps", STEPS),
        ],
        env={
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "DS_ACCELERATOR": "cpu",
            "DS_ENV_FILE": str(folder / "ds_env"),
            "PDSH_SSH_ARGS_APPEND": " ".join(ssh_options),
        },
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    finish(process)
    assert_same(world.run_dir("pdsh"), two_here, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "victim"), [("deepspeed", 1), ("torchrun", 0)])
def test_a_killed_rank_ends_the_run_everywhere_and_the_same_command_goes_on(
    world: World, unbroken: Path, launcher: str, victim: int
) -> None:
    run_id = f"killed-{launcher}"
    process = world.launch(launcher, run_id, *LONG)
    world.wait_for_steps(run_id, 7, process)  # step 6 is saved after step 4's is complete
    world.ranks_on(world.network.hosts[victim])[0].kill()
    killed = time.monotonic()
    process.communicate(timeout=END_SECONDS)
    assert process.returncode not in (0, None)
    world.wait_until_idle()
    assert time.monotonic() - killed < END_SECONDS
    assert len(read_metrics(world.run_dir(run_id))) < 30
    kept = kept_lines(world, run_id)
    finish(world.launch(launcher, run_id, *LONG))
    assert_same(world.run_dir(run_id), unbroken, rel=1e-6)
    assert metric_lines(world, run_id)[: len(kept)] == kept


@pytest.mark.slow
def test_a_run_with_restarts_survives_a_killed_rank_by_itself(world: World, unbroken: Path) -> None:
    process = world.launch("deepspeed", "restarted", *LONG, "--max_restarts", "1")
    world.wait_for_steps("restarted", 7, process)
    rank = world.ranks_on(world.network.hosts[0])[0]
    rank.suspend()  # reports no step more, so that what is read is what the restart finds
    kept = kept_lines(world, "restarted")
    rank.kill()
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "restart 1 of 1" in errors
    assert_same(world.run_dir("restarted"), unbroken, rel=1e-6)
    assert metric_lines(world, "restarted")[: len(kept)] == kept
    world.wait_until_idle()


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "number"), [("deepspeed", signal.SIGINT), ("torchrun", signal.SIGKILL)])
def test_nothing_outlives_the_command_and_no_command_line_shows_a_secret(
    world: World, launcher: str, number: signal.Signals
) -> None:
    run_id = f"{launcher}-{number.name}"
    process = world.launch(launcher, run_id, *LONG)
    world.wait_for_steps(run_id, 2, process)
    shown = [
        Path(f"/proc/{pid}/cmdline").read_bytes()
        for host in world.network.hosts
        for pid in host.process_ids()
    ]
    assert any(b"weave_train.hosts.agent" in words for words in shown)
    assert not any(world.environment["AWS_SECRET_ACCESS_KEY"].encode() in words for words in shown)
    process.send_signal(number)
    process.communicate(timeout=END_SECONDS)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    world.wait_until_idle()
    assert len(read_metrics(world.run_dir(run_id))) < 30


@pytest.mark.slow
def test_a_killed_agent_takes_its_ranks_and_the_other_host_with_it(world: World) -> None:
    process = world.launch("torchrun", "no-agent", *LONG)
    world.wait_for_steps("no-agent", 2, process)
    rank = world.ranks_on(world.network.hosts[1])[0]
    agent = next(p for p in rank.parents() if "weave_train.hosts.agent" in p.cmdline())
    agent.kill()
    process.communicate(timeout=END_SECONDS)
    assert process.returncode not in (0, None)
    world.wait_until_idle()


@pytest.mark.slow
def test_sigterm_saves_on_both_hosts_and_the_same_command_goes_on(world: World, unbroken: Path) -> None:
    run_id, flags = "terminated", ("--max_steps", "30")
    process = world.launch("deepspeed", run_id, *flags)
    world.wait_for_steps(run_id, 3, process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert 3 <= len(read_metrics(world.run_dir(run_id))) < 30
    finish(world.launch("torchrun", run_id, *flags))
    assert_same(world.run_dir(run_id), unbroken, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_a_ranks_own_exit_code_comes_through(world: World, launcher: str) -> None:
    lost = f"{world.cluster.disk}/no-such-run"  # which nobody but a rank looks for
    flags = ("--max_steps", STEPS, "--resume", lost, "--max_restarts", "3")
    process = world.launch(launcher, f"lost-{launcher}", *flags)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2, errors
    assert "no-such-run" in errors
    assert "restart" not in errors
    world.wait_until_idle()


@pytest.mark.slow
def test_a_host_that_can_not_be_reached_is_named_and_the_other_is_left_alone(world: World) -> None:
    hosts = world.cluster.folder / "with-nobody"
    hosts.write_text("host0 slots=1\nnobody slots=1\n")
    process = world.start.start(
        [
            *(
                sys.executable,
                "-m",
                "weave_train",
                "launch",
                "--launcher",
                "torchrun",
                "--hostfile",
                str(hosts),
            ),
            *("--ssh", world.cluster.ssh, *world.flags("unreachable", "--max_steps", STEPS)),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 3
    assert "hosts: nobody did not answer" in errors
    world.wait_until_idle()


@pytest.mark.slow
def test_hosts_that_are_started_one_by_one_find_each_other(world: World, two_here: Path) -> None:
    first, second = world.network.hosts[:2]
    processes = [
        host.start(
            [
                *(sys.executable, "-m", "weave_train", "launch", "--launcher", "torchrun"),
                *("--nproc_per_node", "1", "--nnodes", "2", "--rdzv_endpoint", f"{first.address}:29400"),
                *world.flags("rendezvous", "--max_steps", STEPS),
            ],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **world.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for host in (first, second)
    ]
    for process in processes:
        finish(process)
    # these see this machine's disk; either may have been the first rank
    assert_same(world.cluster.disk / "rendezvous", two_here, rel=1e-6)
    until(lambda: not any(world.cluster.busy().values()))
