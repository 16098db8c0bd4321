"""Starts whole builds of the rendered world as processes, ends them, and reads what they published."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from servers import S3Server
from small_builds import settings

from weave_data.shard import list_recipes
from weave_data.storage import open_store

DEADLINE_SECONDS = 900
ENDPOINT = "AWS_ENDPOINT_URL"


def upload(folder: Path, server: S3Server, bucket: str, prefix: str) -> str:
    client = server.client()
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder)}")
    return f"s3://{bucket}/{prefix}"


def write_config(folder: Path, source: str, output: str, **execution: Any) -> Path:
    values = settings(source, output)
    values["execution"] = {"in_process": False, "num_cpus": 2, **execution}
    path = folder / "build.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


def start(config: Path, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "weave_data", "build", str(config), *overrides],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str], *, code: int = 0) -> str:
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return out + err


def manifests(output: str) -> dict[str, str]:
    store = open_store(output, readonly=True)
    return {name: store.get(f"{name}/manifest.json").decode() for name in list_recipes(store)}


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL the build's process group, then whatever Ray had started for it."""
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    for straggler in alive:
        straggler.kill()
    psutil.wait_procs(alive, timeout=30)


def contents(output: str) -> dict[str, str]:
    """sha256 of every object of data: all but what says where and how builds ran, and views."""
    store = open_store(output, readonly=True)
    keys = [info.key for info in store.list("")]
    kept = [key for key in keys if not key.startswith(("runs/", "report")) and not key.endswith("card.md")]
    return {key: store.head(key).sha256 or "" for key in kept}
