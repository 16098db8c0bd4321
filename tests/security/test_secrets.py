"""Secrets that a run is given are in nothing that it prints, stores or leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from builders import write_woven_dataset
from doctor.doctored import build_config
from servers import S3Server
from small_builds import settings
from world import render_world

pytestmark = [pytest.mark.server, pytest.mark.process, pytest.mark.timeout(1800)]

DEADLINE_SECONDS = 1200


def planted(name: str) -> str:
    return f"PLANTED{name}{uuid.uuid4().hex}"


@dataclass
class Place:
    """A user's folder with secrets in every place where they may lie, and all that programs said there."""

    folder: Path
    environment: dict[str, str]
    secrets: dict[str, str]
    said: list[str] = field(default_factory=list)

    def run(self, package: str, *words: str, code: int, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", package, *words],
            cwd=self.folder,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr
        self.said.append(said)
        assert done.returncode == code, said
        return said

    def leaks(self, s3: S3Server, bucket: str) -> dict[str, list[str]]:
        """Places that hold a secret, by its name."""
        texts = {f"output {index}": said.encode() for index, said in enumerate(self.said)}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name not in {".hf_token", "own.yaml"}:
                texts[str(path)] = path.read_bytes()
        client = s3.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", []):
                reply = client.get_object(Bucket=bucket, Key=item["Key"])
                texts[item["Key"]] = reply["Body"].read() + json.dumps(reply["Metadata"]).encode()
        assert len(texts) > len(self.said)
        return {
            name: found
            for name, secret in self.secrets.items()
            if (found := [where for where, data in texts.items() if secret.encode() in data])
        }


@pytest.fixture
def place(real_s3: S3Server, tmp_path: Path) -> Place:
    home = tmp_path / "home"
    home.mkdir()
    secrets = {name: planted(name) for name in ("session", "hub", "file", "wandb", "key", "ray", "password")}
    (tmp_path / ".hf_token").write_text(f"hf_{secrets['file']}\n")
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "HF_TOKEN": f"hf_{secrets['hub']}",
        "WANDB_API_KEY": secrets["wandb"],
        "OPENAI_API_KEY": secrets["key"],
        "RAY_AUTH_TOKEN": secrets["ray"],
        "OMP_NUM_THREADS": "1",
    }
    return Place(tmp_path, environment, {**secrets, "S3": real_s3.secret_key})


def test_builds_and_their_failures_tell_no_secret(s3: S3Server, place: Place) -> None:
    bucket = s3.new_bucket()
    render_world(place.folder / "clips", num_clips=4, seed=5, size_px=(64, 80), seconds=1.5)
    values = settings(str(place.folder / "clips"), f"s3://{bucket}/woven")
    values["recipes"] = values["recipes"][:1]
    config = place.folder / "build.yaml"
    config.write_text(json.dumps(values))
    wrong = {"AWS_SECRET_ACCESS_KEY": planted("wrong"), "AWS_SESSION_TOKEN": place.secrets["session"]}
    place.secrets["wrong"] = wrong["AWS_SECRET_ACCESS_KEY"]
    password = place.secrets["password"]
    place.run("weave_data", "doctor", str(config), code=0)
    place.run("weave_data", "build", str(config), code=0)
    place.run("weave_data", "build", str(config), "--debug", code=1, **wrong)
    place.run("weave_data", "doctor", str(config), "--json", code=3, **wrong)
    place.run("weave_data", "doctor", str(config), f"output=s3://key:{password}@{bucket}/x", code=3)
    place.run("weave_data", "build", str(config), f"output=sftp://me:{password}@127.0.0.1/x", code=3)
    endpoint = {"AWS_ENDPOINT_URL": f"http://me:{password}@127.0.0.1:9"}
    place.run("weave_data", "doctor", str(config), code=3, **endpoint)
    assert place.leaks(s3, bucket) == {}


def test_a_command_with_a_password_leaves_none_in_the_record_of_its_run(place: Place) -> None:
    from weave_data.config import BuildConfig, load_config
    from weave_data.pipeline.runs import RunLog
    from weave_data.storage import LocalStore

    password = place.secrets["password"]
    values = settings(f"sftp://me:{password}@host/clips", str(place.folder / "out"))
    store = LocalStore(place.folder / "out")
    log = RunLog.start(store, load_config(BuildConfig, values, origin="test"))
    log.finish("StoreError", {"message": f"sftp://me:{password}@host/clips: refused"})
    stored = b"".join(path.read_bytes() for path in (place.folder / "out").rglob("*") if path.is_file())
    assert b"sftp://***@host/clips" in stored
    assert password.encode() not in stored


@pytest.mark.slow
def test_training_and_its_failures_tell_no_secret(s3: S3Server, place: Place) -> None:
    bucket = s3.new_bucket()
    manifest = write_woven_dataset(f"s3://{bucket}/woven", rows=8)
    flags = ["--dataset.manifest", manifest, "--model.type", "tiny", "--run_id", "r", "--max_steps", "1"]
    flags += ["--model.finetune_global_batch_size", "2", "--model.finetune_per_device_batch_size", "2"]
    flags += ["--trackers", "jsonl", "wandb", "--checkpoint.uri", f"s3://{bucket}/runs/r"]
    wrong = {"AWS_SECRET_ACCESS_KEY": planted("wrong"), "AWS_SESSION_TOKEN": place.secrets["session"]}
    place.secrets["wrong"] = wrong["AWS_SECRET_ACCESS_KEY"]
    offline = {"WANDB_MODE": "offline"}
    place.run("weave_train", "doctor", *flags, code=0)
    place.run("weave_train", "pretrain", *flags, code=0, **offline)
    place.run("weave_train", "doctor", *flags, code=3, **wrong)
    place.run("weave_train", "pretrain", *flags, code=3, **wrong, **offline)
    token = f"hf_{place.secrets['password']}"
    place.run("weave_train", "pretrain", *flags, "--hf_token", token, code=2)
    other = ["q" if word == "r" else word.replace("runs/r", "runs/q") for word in flags]
    place.run("weave_train", "pretrain", *other, "--model.llm_backbone_id", "llama2-7b-pure", code=3)
    assert place.leaks(s3, bucket) == {}


def test_a_plant_is_found_wherever_it_lies(s3: S3Server, place: Place) -> None:
    bucket = s3.new_bucket()
    config = build_config(place.folder, source=str(place.folder), output="out")
    config.write_text(config.read_text() + f"# {place.secrets['hub']}")
    s3.client().put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"m": place.secrets["ray"]})
    place.said.append(f"token {place.secrets['wandb']}")
    assert set(place.leaks(s3, bucket)) == {"hub", "ray", "wandb"}
