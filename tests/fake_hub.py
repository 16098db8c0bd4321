"""A model hub on loopback: repositories from directories, some of them gated, and a log of what was asked."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FakeHub", "running_hub"]

_COMMIT = "c" * 40


@dataclass
class FakeHub:
    """`requests` are (method, path, token or None), as they came."""

    repositories: Mapping[str, Path]
    gated: Mapping[str, str]
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def downloads(self, repository: str) -> list[str]:
        """Names of the files that were sent."""
        prefix = f"/{repository}/resolve/"
        return [
            path.split("/")[-1]
            for method, path, _ in self.requests
            if method == "GET" and path.startswith(prefix)
        ]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: FakeHub

    def do_GET(self) -> None:
        self._answer(*self._find())

    def do_HEAD(self) -> None:
        self._answer(*self._find(), has_body=False)

    def _find(self) -> tuple[int, bytes, str]:
        """Status, body and error code of what is asked for."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.requests.append((self.command, self.path, token))
        parts = self.path.split("?")[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if is_api else parts
        repository = f"{owner}/{name}"
        if repository not in self.hub.repositories:
            return 404, b"", "RepoNotFound"
        if self.hub.gated.get(repository, token) != token:
            return 403, b"", "GatedRepo"
        folder = self.hub.repositories[repository]
        if is_api and not rest:
            names = [{"rfilename": path.name} for path in sorted(folder.iterdir())]
            listing = {"id": repository, "modelId": repository, "sha": _COMMIT, "siblings": names}
            return 200, json.dumps(listing).encode(), ""
        if is_api and rest == ["auth-check"]:
            return 200, b"", ""
        path = folder / rest[-1]
        return (404, b"", "EntryNotFound") if is_api or not path.is_file() else (200, path.read_bytes(), "")

    def _answer(self, code: int, data: bytes, error: str, *, has_body: bool = True) -> None:
        self.send_response(code)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("X-Repo-Commit", _COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if has_body:
            self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def running_hub(repositories: Mapping[str, Path], *, gated: Mapping[str, str]) -> Iterator[FakeHub]:
    """Serve directories as repositories; `gated` ones want this token."""
    hub = FakeHub(repositories, gated)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
