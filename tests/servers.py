"""One S3 server per test session: real Ceph where it can be had, else moto's stand-in.

    start_s3(folder)  -> S3Server    whoever comes first starts it, the others wait until it answers
    stop_s3(folder)                  by process id

`folder` is shared by all workers of a session. The test fixture is `s3` in conftest.
WEAVE_TEST_S3=moto asks for the stand-in: it starts in a second and proves nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "s3server"
START_SECONDS = 600  # includes an apt-get on a slow line


@dataclass(frozen=True)
class S3Server:
    """A running server. `kind` is `ceph` or `moto`; `reason` says why it is not Ceph."""

    kind: str
    endpoint: str
    access_key: str
    secret_key: str
    reason: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What a client process needs."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    @functools.lru_cache(maxsize=4)  # noqa: B019 - one or two servers a session
    def client(self):
        """A boto3 client of its own, independent of the code under test."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(request_checksum_calculation="when_required"),
        )

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"test-{uuid.uuid4().hex[:20]}"
        self.client().create_bucket(Bucket=name)
        return name


class S3UnavailableError(Exception):
    """No server could be started, or only a stand-in where the real one was promised."""


def start_s3(folder: Path, *, require_ceph: bool) -> S3Server:
    """Start the session's server, or wait for the worker that is starting it."""
    ready = folder / "server.json"
    try:
        (folder / "starting").mkdir(parents=True)
    except FileExistsError:
        return _wait_for(ready)
    try:
        description = asdict(_start(folder, require_ceph=require_ceph))
    except S3UnavailableError as error:
        description = {"error": str(error)}
    unfinished = ready.with_suffix(".tmp")
    unfinished.write_text(json.dumps(description))
    unfinished.replace(ready)
    return _wait_for(ready)


def running_s3(folder: Path) -> S3Server | None:
    """The session's server if one was started."""
    ready = folder / "server.json"
    description = json.loads(ready.read_text()) if ready.exists() else {"error": ""}
    return None if "error" in description else S3Server(**description)


def stop_s3(folder: Path) -> None:
    """Stop whatever `start_s3` started, also half-started things."""
    subprocess.run([SCRIPTS / "ceph-down", folder / "ceph"], check=False)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((folder / "moto.pid").read_text())
        os.kill(pid, signal.SIGTERM)


def _wait_for(ready: Path) -> S3Server:
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if time.monotonic() > deadline:
            raise S3UnavailableError(f"no S3 server within {START_SECONDS} s; see {ready.parent}")
        time.sleep(0.1)
    description = json.loads(ready.read_text())
    if "error" in description:
        raise S3UnavailableError(description["error"])
    return S3Server(**description)


def _start(folder: Path, *, require_ceph: bool) -> S3Server:
    if os.environ.get("WEAVE_TEST_S3") == "moto" and not require_ceph:
        return _start_moto(folder, "WEAVE_TEST_S3=moto")
    started = subprocess.run(
        [SCRIPTS / "ceph-up", folder / "ceph"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    environment = folder / "ceph" / "environment"
    if environment.exists():
        exports = (
            line.removeprefix("export ").split("=", 1) for line in environment.read_text().splitlines()
        )
        values = dict(exports)
        return S3Server(
            "ceph", values["AWS_ENDPOINT_URL"], values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"]
        )
    lines = started.stderr.strip().splitlines() or ["no message"]
    reason = f"ceph-up exited {started.returncode}: {lines[-1]}"
    if require_ceph:
        raise S3UnavailableError(f"CI=true promises tests against Ceph, but {reason}")
    return _start_moto(folder, reason)


def _start_moto(folder: Path, reason: str) -> S3Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "moto.pid").write_text(str(process.pid))
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5):
            return S3Server("moto", endpoint, "testkey", "testsecret", reason)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise S3UnavailableError(f"moto did not start; see {folder / 'moto.log'}")
