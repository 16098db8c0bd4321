"""A head's job server that answers as it is told: for submissions that are interrupted or never answered."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class JobHead:
    """Knows jobs by their submission id.

    Attributes:
        silent: Beginnings of `METHOD PATH` that get no answer until the end.
        refused: Beginnings that are answered with 500.
        jobs: Status of each job.
        asked: Every request, in order.
        is_asked: Set when a silent one has come in.
    """

    def __init__(self) -> None:
        self.silent: tuple[str, ...] = ()
        self.refused: tuple[str, ...] = ()
        self.jobs: dict[str, str] = {}
        self.asked: list[str] = []
        self.is_asked = threading.Event()
        self._ended = threading.Event()
        handler = type("Handler", (_Handler,), {"head": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def hold(self) -> None:
        """Keep a request waiting."""
        self.is_asked.set()
        self._ended.wait()

    def answer(self, asked: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a reply."""
        import ray

        method, path = asked.split(" ")
        job_id, _, verb = path.removeprefix("/api/jobs/").partition("/")
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": ray.__version__, "ray_commit": ""}
        if path.startswith("/api/packages/"):
            return 200, {}
        if method == "POST" and not job_id:
            job_id = json.loads(body)["submission_id"]
            self.jobs[job_id] = "RUNNING"
            return 200, {"job_id": job_id, "submission_id": job_id}
        if job_id not in self.jobs:
            return 404, f"Job {job_id} does not exist"
        if verb == "stop":
            self.jobs[job_id] = "STOPPED"
            return 200, {"stopped": True}
        if verb == "logs":
            return 200, {"logs": "what the build said\n"}
        return 200, {
            "type": "SUBMISSION", "entrypoint": "true", "submission_id": job_id, "status": self.jobs[job_id]
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    head: JobHead

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        asked = f"{self.command} {self.path}"
        self.head.asked.append(asked)
        if asked.startswith(self.head.refused or "-"):
            status, value = 500, "the agent is gone"
        else:
            status, value = self.head.answer(asked, body)
        if asked.startswith(self.head.silent or "-"):
            self.head.hold()
            return
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, *_: object) -> None:
        """Say nothing."""
