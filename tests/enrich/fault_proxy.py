"""A proxy before a model server that spoils some requests and counts all of them."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSING_FAULTS = ("unavailable", "rate-limited", "dropped", "half-json")

SLOW_SECONDS = 20.0
"""What `slow` takes before it drops the connection; a client should not wait that long."""


class FaultProxy(ThreadingHTTPServer):
    """Requests go to a server on loopback, but for those whose number (from 0) has a fault.

    Attributes:
        faults: Number of a request -> its fault.
        seen: Paths of all requests.
        served: How many the server answered.
    """

    daemon_threads = True

    def __init__(self, target_port: int, faults: Mapping[int, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target_port, self.faults = target_port, dict(faults)
        self.seen: list[str] = []
        self.served = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where an OpenAI client should point."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            number = len(self.server.seen)
            self.server.seen.append(self.path)
        match self.server.faults.get(number):
            case "unavailable":
                self._send(503, b"")
            case "rate-limited":
                self._send(429, b"{}", {"Retry-After": "1"})
            case "dropped":
                self.close_connection = True
                self.connection.close()
            case "half-json":
                self._send(200, b'{"choices": [{"message": {"content": "A d')
            case "slow":
                time.sleep(SLOW_SECONDS)
                self.close_connection = True
            case None:
                self._forward(body)

    def _forward(self, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target_port, timeout=300)
        connection.request("POST", self.path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        with self.server.lock:
            self.server.served += 1
        self._send(reply.status, data)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def fault_proxy(target_port: int, faults: Mapping[int, str]) -> Iterator[FaultProxy]:
    """Run a proxy until the block ends."""
    proxy = FaultProxy(target_port, faults)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
