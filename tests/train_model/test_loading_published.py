"""A published model is fetched by its id from where it lies; a token goes to the hub when it asks for one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_loading_videoweave import WHOLE, base, write_theirs  # noqa: F401  a fixture

pytestmark = pytest.mark.process

TOKEN = "hf_plantedTokenOfNobody"
PROGRAM = """
from weave_train import load
vlm = load({model!r}, device="cpu"{more})
print(vlm.generate(None, "In: What?\\nOut:", max_new_tokens=3) is not None, vlm.settings.num_frames)
"""


class Hub(ThreadingHTTPServer):
    """Serves `files` by their path; gated, it wants the token."""

    def __init__(self, files: dict[str, bytes], *, is_gated: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.is_gated = files, is_gated
        self.seen: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        authorization = self.headers.get("authorization")
        self.server.seen.append((self.path, authorization))
        data = self.server.files.get(self.path)
        if self.server.is_gated and authorization != f"Bearer {TOKEN}":
            self.reply(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif data is None:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            self.reply(200, data, {"ETag": f'"{abs(hash(data)):x}"', "X-Repo-Commit": "c" * 40})

    def reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[False, True], ids=["open", "gated"])
def hub(request: pytest.FixtureRequest, base: Path, tmp_path: Path) -> Iterator[Hub]:  # noqa: F811
    write_theirs(base, tmp_path / "run", parts=WHOLE)
    place = "/RylanSchaeffer/prismatic-vlms/resolve/main/gemma-instruct%2B2b%2Bclip"
    files = {
        f"{place}/{name}": (tmp_path / "run" / name).read_bytes()
        for name in ("config.json", "checkpoints/latest-checkpoint.pt")
    }
    server = Hub(files, is_gated=request.param)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def run(hub: Hub, folder: Path, more: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_VERBOSITY": "debug",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    program = PROGRAM.format(model="prism-gemma-instruct+2b+clip", more=more)
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_a_token_is_sent_only_when_it_is_asked_for_and_never_shown(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / ".hf_token").write_text(TOKEN + "\n")
    done = run(hub, folder, more=", num_frames=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "2"]
    sent = {authorization for _, authorization in hub.seen}
    assert sent == ({None, f"Bearer {TOKEN}"} if hub.is_gated else {None})
    assert hub.seen[0][1] is None
    assert TOKEN not in done.stdout + done.stderr
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name != ".hf_token"]
    assert kept
    assert not any(TOKEN.encode() in path.read_bytes() for path in kept)
    if hub.is_gated:
        (folder / ".hf_token").unlink()
        (tmp_path / "there").mkdir()
        refused = run(hub, tmp_path / "there")
        assert "can't be had from RylanSchaeffer/prismatic-vlms" in refused.stderr
        assert run(hub, tmp_path / "there", more=f", hf_token={TOKEN!r}").returncode == 0
