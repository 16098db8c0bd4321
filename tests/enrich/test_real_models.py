"""Claims about enriching with a real language model: over HTTP with faults between, and on actors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fault_proxy import PASSING_FAULTS, fault_proxy
from small_language_models import smollm2
from typer.testing import CliRunner

from weave_data.cli import app
from weave_data.config.enrich import EnrichConfig
from weave_data.config.loading import load_config
from weave_data.pipeline.enrichment import enrich

CAPTIONS = ["dog running on beach 4k stock footage", "woman pours tea"]

pytestmark = pytest.mark.xdist_group("language-model")  # one server, one conversion


@dataclass
class ModelServer:
    port: int
    model: str


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def server(model, tmp_path_factory) -> Iterator[ModelServer]:
    """`transformers serve`: somebody else's implementation of the protocol."""
    if any(util.find_spec(name) is None for name in ("fastapi", "uvicorn", "openai")):
        pytest.skip("no model server: pip install 'transformers[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    program = (
        "from weave_data.torchvision_ops import install; install()\n"
        "from transformers.cli.transformers import main; main()"
    )
    arguments = ["serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 300
        while not _is_up(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.3)
        yield ModelServer(port, str(model))
    finally:
        process.kill()  # it waits for open connections otherwise
        process.wait(30)


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def settings(folder: Path, model: dict, *, captions: list[str] = CAPTIONS, **changes) -> EnrichConfig:
    rows = [{"clip_id": f"c{index}", "caption": text} for index, text in enumerate(captions)]
    (folder / "in.json").write_text(json.dumps(rows), encoding="utf-8")
    values = {
        "task": "captions",
        "captions": {"file": str(folder / "in.json")},
        "model": model,
        "answers": {"max_tokens": 32, "tries": 1, "max_rejected": 1.0},
        "output": str(folder / "out"),
    }
    return load_config(EnrichConfig, values, overrides=list(changes.items()), origin="test")


def written(config: EnrichConfig, path: str) -> dict[str, str]:
    rows = pq.read_table(f"{config.output}/{path}").to_pylist()
    return {row["clip_id"]: row["caption"] for row in rows}


@pytest.mark.process
def test_faults_between_cost_attempts_and_change_no_answer(server, tmp_path) -> None:
    written_files, num_seen = [], []
    for name, faults in (("calm", {}), ("rough", dict(enumerate(PASSING_FAULTS)))):
        folder = tmp_path / name
        folder.mkdir()
        with fault_proxy(server.port, faults) as proxy:
            endpoint = {"kind": "endpoint", "url": proxy.url, "name": server.model, "concurrency": 2}
            config = settings(folder, endpoint | {"backoff_seconds": 0.05, "timeout_seconds": 300.0})
            result = enrich(config)
            assert result.count.is_balanced
            assert result.count.num_in == len(CAPTIONS)
            assert result.count.num_out >= 1
            written_files.append(written(config, result.path))
            num_seen.append(len(proxy.seen))
            again = enrich(config)
            assert (again.num_requests, len(proxy.seen), again.path) == (0, num_seen[-1], result.path)
    assert written_files[0] == written_files[1]
    assert num_seen == [len(CAPTIONS), len(CAPTIONS) + len(PASSING_FAULTS)]


@pytest.mark.process
def test_the_command_writes_a_file_that_a_recipe_can_name(server, tmp_path) -> None:
    config = settings(
        tmp_path, {"kind": "endpoint", "url": f"http://127.0.0.1:{server.port}/v1", "name": server.model}
    )
    values = config.model_dump(mode="json", exclude_none=True)
    (tmp_path / "enrich.yaml").write_text(json.dumps(values), encoding="utf-8")
    dry = CliRunner().invoke(app, ["enrich", str(tmp_path / "enrich.yaml"), "--dry-run"])
    assert (dry.exit_code, dry.stdout.split(" ")[0]) == (0, "2"), dry.output
    run = CliRunner().invoke(app, ["enrich", str(tmp_path / "enrich.yaml")])
    assert run.exit_code == 0, run.output
    assert "2 asked for, " in run.stdout
    assert f"captions: {{file: {config.output}/enrich/" in run.stdout


@pytest.mark.process
@pytest.mark.parametrize("in_process", [True, False])
def test_a_local_model_answers_on_actors_and_asks_nothing_twice(model, tmp_path, in_process) -> None:
    config = settings(
        tmp_path,
        {"kind": "local", "path": str(model), "batch_size": 2},
        **{"execution.in_process": in_process, "execution.num_cpus": 1, "answers.batch": 1},
    )
    result = enrich(config)
    assert result.count.is_balanced
    assert result.count.num_in == len(CAPTIONS)
    assert result.count.num_out >= 1
    assert all(text.strip() for text in written(config, result.path).values())
    assert enrich(config).num_requests == 0
