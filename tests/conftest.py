"""What every test gets: a private home, no network services, and on request one S3 server."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from servers import S3Server, S3UnavailableError, running_s3, start_s3, stop_s3

SHARED_FOLDER = "WEAVE_TEST_SHARED"
"""Environment variable: a folder of this session that xdist workers inherit from their controller."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # a local ray.init() writes a token into HOME otherwise
    "HF_HUB_OFFLINE": "1",
    "AWS_EC2_METADATA_DISABLED": "true",  # missing credentials are missing, not asked for elsewhere
    "MPLBACKEND": "agg",
}


hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is not a failure
hypothesis.settings.load_profile("any machine")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells have it in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # else nothing that tests start hears Ctrl-C
    if not _is_worker(config):
        os.environ[SHARED_FOLDER] = tempfile.mkdtemp(prefix="weave-tests-")
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)  # `timeout` must not leave a server behind


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the session's server; the controller outlives its workers."""
    if _is_worker(config) or SHARED_FOLDER not in os.environ:
        return
    folder = Path(os.environ.pop(SHARED_FOLDER))
    if (folder / "s3").exists():
        stop_s3(folder / "s3")
    shutil.rmtree(folder, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    server = running_s3(Path(os.environ[SHARED_FOLDER]) / "s3") if SHARED_FOLDER in os.environ else None
    if server is None:
        return
    if server.kind == "ceph":
        terminalreporter.write_line("S3 tests ran against a real Ceph gateway")
    else:
        terminalreporter.write_sep("!", "S3 tests ran against moto, a stand-in: no evidence for S3", red=True)
        terminalreporter.write_line(f"{server.reason}; install ceph-mon ceph-osd radosgw for the real server")


@pytest.fixture(scope="session", autouse=True)
def private_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's home, accounts or caches."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "TORCH_HOME"):
            patch.delenv(name, raising=False)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder of real clips, photos, tokenizers and models that are not part of the repository."""
    folder = os.environ.get("WEAVE_ASSETS")
    if not folder:
        pytest.skip("WEAVE_ASSETS is not set: real clips and photos are not part of the repository")
    return Path(folder)


@pytest.fixture(scope="session")
def small_language(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directory of a tiny model of a language id's class, for `llm_weights`; built when first asked for."""
    from small_languages import write_small_language

    folder = tmp_path_factory.mktemp("languages")
    return functools.cache(lambda llm_backbone_id: write_small_language(llm_backbone_id, folder))


@pytest.fixture(scope="session")
def s3(private_environment: None) -> Iterator[S3Server]:
    """The session's S3 server, with AWS_* set for this process and its children."""
    try:
        server = start_s3(
            Path(os.environ[SHARED_FOLDER]) / "s3", require_ceph=os.environ.get("CI", "").lower() == "true"
        )
    except S3UnavailableError as error:
        pytest.fail(str(error))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def real_s3(s3: S3Server) -> S3Server:
    """The S3 server, for claims that moto's stand-in would fake."""
    if s3.kind != "ceph":
        pytest.skip(f"needs a real S3 server: moto accepts any secret and any race ({s3.reason})")
    return s3


@pytest.fixture
def small_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every vision id is a small tower of its family; see `small_towers.py`."""
    from small_towers import shrink_towers

    shrink_towers(monkeypatch)
