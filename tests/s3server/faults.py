"""A proxy before an S3 server that misbehaves on request.

    with FaultProxy(server.endpoint) as proxy:
        proxy.plan(Fault.REFUSE, 3)      # the next three requests are answered 503
        proxy.plan(Fault.DROP_REPLY, 1)  # then one is carried out, and its reply lost
        proxy.plan(Fault.CUT_BODY, 1)    # then one reply breaks off in the middle of its body

RESET tears the connection down without a reply, SILENT never replies, DRIP sends its body a byte at a
time, SHORTEN sends half a body as if it were whole.

`only` limits a plan to one HTTP method. `requests` holds (method, path, range) of everything that arrived.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import http.server
import socket
import struct
import threading
from urllib.parse import urlsplit


class Fault(enum.Enum):
    REFUSE = "refuse"
    DROP_REPLY = "drop_reply"
    CUT_BODY = "cut_body"
    RESET = "reset"
    SILENT = "silent"
    DRIP = "drip"
    SHORTEN = "shorten"


class FaultProxy:
    """Runs in a thread of this process between `__enter__` and `__exit__`."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.requests: list[tuple[str, str, str | None]] = []
        self._plan: list[tuple[Fault, str | None]] = []
        self._lock = threading.Lock()
        self.ending = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()

    def plan(self, fault: Fault, times: int = 1, *, only: str | None = None) -> None:
        """Let the next `times` requests (of method `only`) suffer a fault."""
        with self._lock:
            self._plan += [(fault, only)] * times

    def take(self, method: str) -> Fault | None:
        """The fault of a request that just arrived."""
        with self._lock:
            for index, (fault, only) in enumerate(self._plan):
                if only in (None, method):
                    del self._plan[index]
                    return fault
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        pass

    def _serve(self) -> None:
        self.proxy.requests.append((self.command, self.path, self.headers.get("Range")))
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        fault = self.proxy.take(self.command)
        if fault is Fault.REFUSE:
            self._reply(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        if fault in (Fault.RESET, Fault.SILENT):
            if fault is Fault.SILENT:
                self.proxy.ending.wait()
            self._reset()
            return
        status, headers, data = self._forward(body)
        if fault is Fault.SHORTEN:
            self._reply(status, headers, data[: len(data) // 2])
        elif fault is Fault.DRIP:
            self._drip(status, headers, data)
        elif fault is Fault.DROP_REPLY:
            self._hang_up()
        elif fault is Fault.CUT_BODY:
            self._reply(status, headers, data, cut=len(data) // 2)
            self._hang_up()
        else:
            self._reply(status, headers, data)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(self.proxy.target.netloc, timeout=120)
        # the client signed its own Host header: keep it
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        upstream.request(self.command, self.path, body, headers)
        reply = upstream.getresponse()
        data = reply.read()
        kept = {
            name: value
            for name, value in reply.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        upstream.close()
        return reply.status, kept, data

    def _reply(self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        if self.command != "HEAD" and status != 204:
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            headers["Content-Length"] = str(len(data))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if cut is None else data[:cut])
            self.wfile.flush()

    def _drip(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self._reply(status, headers, data, cut=0)
        with contextlib.suppress(OSError):  # the client has had enough
            for byte in data:
                if self.proxy.ending.wait(0.05):
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
