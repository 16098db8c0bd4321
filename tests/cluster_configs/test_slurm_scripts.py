"""Slurm scripts: ShellCheck, and what they start, with stand-ins for Slurm's own programs.

There is no Slurm here. `scontrol` and `srun` below do what the scripts rely on: name the allocation's hosts,
and start a command once a task with a task's variables.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from published_shapes import FOLDER

from weave_data.config import load_build_config

pytestmark = pytest.mark.process

SCRIPTS = sorted((FOLDER / "slurm").glob("*.sbatch"))

SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do echo "$1" >> "$RECORD/srun"; shift; done
for ((task = 0; task < SLURM_NTASKS; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$((task % (SLURM_NTASKS / SLURM_JOB_NUM_NODES))) "$@" || exit $?
done
"""
SCONTROL = """#!/usr/bin/env bash
[ "$*" = "show hostnames node-[1-2]" ] && printf 'node-1\\nnode-2\\n'
"""
WEAVE_TRAIN = """#!/usr/bin/env bash
echo "$RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT $*" >> "$RECORD/ranks"
exit "${STATUS:-0}"
"""
RAY = """#!/usr/bin/env bash
echo "$*" >> "$RECORD/ray"
stat -c '%a' "$RAY_AUTH_TOKEN_PATH" >> "$RECORD/token"
cat "$RAY_AUTH_TOKEN_PATH" >> "$RECORD/token"
echo " $RAY_AUTH_MODE" >> "$RECORD/token"
exit "${STATUS:-0}"
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Environment of a batch script on two nodes."""
    programs, record = tmp_path / "bin", tmp_path / "record"
    programs.mkdir()
    record.mkdir()
    (tmp_path / "cwd").mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "weave-train": WEAVE_TRAIN, "ray": RAY}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RECORD": str(record),
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS": "4",
        "SLURM_CPUS_PER_TASK": "32",
    }


def submit(name: str, *words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(FOLDER / "slurm" / name), *words],
        cwd=Path(env["RECORD"]).parent / "cwd",
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def recorded(env: dict[str, str], name: str) -> list[str]:
    return (Path(env["RECORD"]) / name).read_text(encoding="utf-8").splitlines()


def options(script: Path) -> dict[str, str]:
    """`#SBATCH` lines before the first command, which is where Slurm stops to read them."""
    head = script.read_text(encoding="utf-8").partition("\nset -euo pipefail\n")[0]
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", head, re.M)
    assert len(found) == script.read_text(encoding="utf-8").count("#SBATCH ")
    return dict(found)


def test_there_is_a_script_for_each_program() -> None:
    assert [path.name for path in SCRIPTS] == ["build.sbatch", "train.sbatch"]
    assert all(path.stat().st_mode & 0o100 for path in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    run = subprocess.run([str(shellcheck), str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_a_rank_has_a_gpu_and_is_told_before_the_end() -> None:
    asked = options(FOLDER / "slurm" / "train.sbatch")
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    assert asked["signal"].startswith("TERM@"), "B: would tell the batch script alone"
    assert "requeue" in asked
    assert options(FOLDER / "slurm" / "build.sbatch")["ntasks-per-node"] == "1"


def test_every_task_is_another_rank_of_one_group(slurm: dict[str, str]) -> None:
    run = submit("train.sbatch", "train.yaml", "--max_steps", "3", env=slurm)
    assert run.returncode == 0, run.stderr
    tail = "4 2 node-1 24567 pretrain --config train.yaml --max_steps 3"
    assert recorded(slurm, "ranks") == [f"0 0 {tail}", f"1 1 {tail}", f"2 0 {tail}", f"3 1 {tail}"]
    assert recorded(slurm, "srun") == ["--kill-on-bad-exit=1", "--cpus-per-task=32"]


@pytest.mark.parametrize("name", ["build.sbatch", "train.sbatch"])
def test_the_programs_exit_code_is_the_jobs(name: str, slurm: dict[str, str]) -> None:
    assert submit(name, "weave.yaml", env={**slurm, "STATUS": "4"}).returncode == 4
    assert submit(name, env=slurm).returncode == 2


def test_a_build_runs_on_a_ray_of_its_own_that_asks_for_a_token(slurm: dict[str, str]) -> None:
    run = submit("build.sbatch", "weave.yaml", "execution.gpus=2", env={**slurm, "SLURM_NTASKS": "2"})
    assert run.returncode == 0, run.stderr
    line = (
        "symmetric-run --address node-1:24567 --min-nodes 2 --num-cpus=32 -- "
        "weave-data build weave.yaml execution.gpus=2 execution.ray_address=node-1:24567"
    )
    assert recorded(slurm, "ray") == [line, line]
    mode, token = recorded(slurm, "token")[:2]
    assert mode == "600"
    assert re.fullmatch(r"[0-9a-f]{64} token", token)
    assert token.split()[0] not in run.stdout + run.stderr
    assert list((Path(slurm["RECORD"]).parent / "cwd").iterdir()) == [], "the token is gone with the job"


def test_rays_command_and_our_configuration_take_these_words(tmp_path: Path) -> None:
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

    words = ["--address", "node-1:24567", "--min-nodes", "2", "--num-cpus=32"]
    assert curate_and_validate_ray_start_args(words) == ["--num-cpus=32"]
    build = FOLDER / "profiles" / "four-by-eight-gpus" / "build.yaml"
    config = load_build_config(build, ["execution.ray_address=node-1:24567", "execution.gpus=2"])
    assert config.execution.ray_address == "node-1:24567"
