"""What `weave-train launch` would start where, and what it refuses before it starts anything."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from weave_data.errors import ConfigError
from weave_train import cli
from weave_train.commands import ranks
from weave_train.hosts.agent import _code
from weave_train.hosts.fan_out import Job
from weave_train.hosts.hostfile import Host, read_hostfile
from weave_train.hosts.starts import Rendezvous, start_command

FLAGS = ["--dataset.manifest", "out/l4/manifest.json", "--model.type", "tiny"]
HOSTS = (Host("gpu-1", 2), Host("gpu-2", 4))


def weave_train(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["weave-train", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_a_hostfile_is_read_as_deepspeed_reads_it(tmp_path: Path) -> None:
    runner = pytest.importorskip("deepspeed.launcher.runner")
    file = tmp_path / "hosts"
    file.write_text("# ours\n\ngpu-1 slots=2\n  gpu-2   slots=4\n")
    assert read_hostfile(file) == HOSTS
    assert [(host.name, host.slots) for host in HOSTS] == list(runner.fetch_hostfile(str(file)).items())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no host"),
        ("gpu-1\n", "line 1: 'gpu-1'; write NAME slots=RANKS"),
        ("gpu-1 slots=0\n", "line 1"),
        ("gpu-1 slots=2\ngpu-1 slots=2\n", "line 2: 'gpu-1' is there already"),
        ("-oProxyCommand=touch${IFS}x slots=1\n", "line 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "hosts"
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem.replace("(", r"\(")):
        read_hostfile(file)


def test_each_host_gets_its_ranks_under_deepspeed() -> None:
    command = start_command("deepspeed", "/opt/python", HOSTS, 1, Rendezvous("10.0.0.1", 29500, 2))
    words = dict(word[2:].split("=", 1) for word in command if word.startswith("--") and "=" in word)
    world = json.loads(base64.urlsafe_b64decode(words["world_info"]))
    assert world == {"gpu-1": [0, 1], "gpu-2": [0, 1, 2, 3]}
    assert (words["node_rank"], words["master_addr"], words["master_port"]) == ("1", "10.0.0.1", "29500")
    assert command[-4:] == ["weave_train", "pretrain", "--config", "{config}"]


def test_the_first_host_has_rank_0_under_torchrun_unless_hosts_find_each_other() -> None:
    run = pytest.importorskip("torch.distributed.run")
    known = start_command("torchrun", "python", HOSTS, 1, Rendezvous("10.0.0.1", 29500, 2, None, "10.0.0.2"))
    read = run.parse_args(known[3:])
    assert (read.node_rank, read.master_addr, read.nproc_per_node) == (1, "10.0.0.1", "4")
    found = start_command(
        "torchrun", "python", (Host(None, 8),), 0, Rendezvous("10.0.0.1", 29400, 4, "mine", "10.0.0.7")
    )
    read = run.parse_args(found[3:])
    assert (read.rdzv_backend, read.rdzv_endpoint, read.rdzv_id) == ("c10d", "10.0.0.1:29400", "mine")
    assert (read.nnodes, read.local_addr, read.max_restarts) == ("4", "10.0.0.7", 0)


@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_show_starts_nothing_and_shows_no_value(launcher, tmp_path, monkeypatch, capsys) -> None:
    file = tmp_path / "hosts"
    file.write_text("gpu-1 slots=2\ngpu-2 slots=4\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("MY_TOKEN", "planted-token")
    arguments = ["launch", "--launcher", launcher, "--hostfile", str(file), "--ssh", "no-such-program -p 22"]
    assert weave_train([*arguments, "--export", "MY_TOKEN", "--show", *FLAGS], monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "planted" not in shown
    assert "AWS_SECRET_ACCESS_KEY" in shown
    assert "MY_TOKEN" in shown
    assert "no-such-program -p 22 gpu-2" in shown
    assert weave_train([*arguments, *FLAGS], monkeypatch) == 2
    assert "can't start 'no-such-program'" in capsys.readouterr().err


def test_variables_travel_by_name_and_not_those_of_this_machine(monkeypatch) -> None:
    for name in ("AWS_PROFILE", "NCCL_DEBUG", "HF_TOKEN", "CUDA_VISIBLE_DEVICES", "MINE", "PYTHONPATH"):
        monkeypatch.setenv(name, "1")
    job = Job("torchrun", HOSTS, "", exports=("MINE",))
    assert {"AWS_PROFILE", "NCCL_DEBUG", "HF_TOKEN", "MINE"} <= job.environment.keys()
    assert not {"CUDA_VISIBLE_DEVICES", "PYTHONPATH", "HOME", "PATH"} & job.environment.keys()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--launcher", "torchrun"], "hostfile: give one, or --nproc_per_node"),
        (["--launcher", "ray"], "num_ranks: required"),
        (["--launcher", "ray", "--num_ranks", "2", "--dry_run"], "dry_run: workers of Ray Train only train"),
        (["--launcher", "ray", "--num_ranks", "2", "--hostfile", "x"], "ray places --num_ranks workers"),
        (["--launcher", "ray", "--num_ranks", "2", "--nnodes", "2"], "leave out --hostfile"),
        (["--launcher", "torchrun", "--nproc_per_node", "2", "--nnodes", "2"], "--rdzv_endpoint HOST:PORT"),
        (
            ["--launcher", "torchrun", "--nproc_per_node", "2", "--nnodes", "2", "--rdzv_endpoint", "host"],
            "write HOST:PORT",
        ),
        (
            ["--launcher", "deepspeed", "--nproc_per_node", "2", "--nnodes", "2", "--rdzv_endpoint", "a:1"],
            "deepspeed needs --hostfile",
        ),
        (["--launcher", "torchrun", "--nproc_per_node", "2", "--num_ranks", "4"], "the hosts have 2"),
        (["--launcher", "torchrun", "--nproc_per_node", "2", "--max_step", "4"], "did you mean 'max_steps'"),
        (["--launcher", "torchrun", "--hostfile", "absent"], "can't read absent"),
        (
            ["--launcher", "torchrun", "--nproc_per_node", "2", "--max_restarts", "1", "--resume", "never"],
            "resume: never, but max_restarts",
        ),
        (["--launcher", "torchrun", "--hostfile", "x", "--nnodes", "2"], "leave out"),
    ],
)
def test_what_can_not_be_started_is_said_first(arguments, problem, monkeypatch, capsys) -> None:
    assert weave_train(["launch", *arguments, *FLAGS], monkeypatch) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "restarts"), [([], 3), (["--max_restarts", "1"], 1)])
def test_restarts_on_ray_are_the_files_unless_a_flag_says_otherwise(
    flags, restarts, tmp_path, monkeypatch
) -> None:
    file, asked = tmp_path / "train.yaml", []
    file.write_text("max_restarts: 3\nlauncher: ray\n")
    monkeypatch.setattr(ranks, "start_ranks", lambda config, num_ranks: asked.append(config.max_restarts))
    words = ["launch", "--launcher", "ray", "--num_ranks", "2", "--config", str(file), *flags, *FLAGS]
    assert weave_train(words, monkeypatch) == 0
    assert asked == [restarts]


@pytest.mark.parametrize(
    ("launcher", "said", "code"),
    [
        (0, [0, 0], 0),
        (0, [0], 1),  # a rank, or the launcher itself, was killed and nobody said so
        (0, [], 1),
        (1, [5, 1], 5),  # torchrun says 1 whatever its ranks said
        (1, [1, 70], 70),
        (130, [6, 130], 6),
        (1, [1, 130], 1),  # the second was ended with the first
        (247, [0], 247),
        (-9, [0, 0], 1),
    ],
)
def test_a_host_has_succeeded_only_if_all_its_ranks_say_so(launcher, said, code) -> None:
    assert _code(launcher, said, num_ranks=2) == code
