"""A proxy before an S3 server that misbehaves on request.

    with FaultProxy(server.endpoint) as proxy:
        proxy.plan(Fault.REFUSE, 3)      # the next three requests are answered 503
        proxy.plan(Fault.DROP_REPLY, 1)  # then one is carried out, and its reply lost
        proxy.plan(Fault.CUT_BODY, 1)    # then one reply breaks off in the middle of its body

RESET tears the connection down without a reply, SILENT never replies, DRIP sends its body a byte at a
time, SHORTEN sends half a body as if it were whole, STALL waits `stall_seconds` before it does anything.

`only` limits a plan to one HTTP method. `requests` holds (method, path, range) of everything that arrived.

    proxy.storm = Storm({Fault.REFUSE: 0.05, Fault.DROP_REPLY: 0.02}, seed=7)   # at random, until None
    proxy.refusal = Refusal(400, "ExpiredToken")   # every request from now on, until None
    proxy.refuse_after(60, Refusal(...))           # the same, from a later request on
    proxy.go_down_after(40, seconds=3.0)           # connections are reset, as while a server restarts

`happened` counts the faults that were done to somebody.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import struct
import threading
from collections import Counter
from urllib.parse import urlsplit

from s3server.fault_kinds import Fault, Refusal, Storm

__all__ = ["Fault", "FaultProxy", "Refusal", "Storm"]


class FaultProxy:
    """Runs in a thread of this process between `__enter__` and `__exit__`."""

    def __init__(self, target: str, *, stall_seconds: float = 30.0) -> None:
        self.target = urlsplit(target)
        self.stall_seconds = stall_seconds
        self.storm: Storm | None = None
        self.refusal: Refusal | None = None
        self._is_down = False
        self._downtime: tuple[int, float] | None = None
        self._coming: tuple[int, Refusal] | None = None
        self.happened: Counter[Fault | Refusal] = Counter()
        self.requests: list[tuple[str, str, str | None]] = []
        self._plan: list[tuple[Fault, str | None]] = []
        self._lock = threading.Lock()
        self.ending = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients are killed
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

    def go_down_after(self, num_requests: int, *, seconds: float) -> None:
        """Serve so many more requests, then reset every connection for a while."""
        self._downtime = (num_requests, seconds)

    def refuse_after(self, num_requests: int, refusal: Refusal) -> None:
        """Serve so many more requests, then refuse all, until `refusal` is None."""
        self._coming = (len(self.requests) + num_requests, refusal)

    def is_down(self) -> bool:
        """Asked once a request."""
        with self._lock:
            if self._downtime is not None:
                left, seconds = self._downtime
                self._downtime = (left - 1, seconds) if left else None
                if not left:
                    self._is_down = True
                    threading.Timer(seconds, self._come_back).start()
            if self._is_down:
                self._noted(Fault.RESET)
            return self._is_down

    def present_refusal(self) -> Refusal | None:
        """Asked once a request."""
        with self._lock:
            if self._coming is not None and len(self.requests) > self._coming[0]:
                self.refusal, self._coming = self._coming[1], None
            return self.refusal

    def _come_back(self) -> None:
        self._is_down = False

    def take(self, method: str) -> Fault | None:
        """The fault of a request that just arrived."""
        with self._lock:
            for index, (fault, only) in enumerate(self._plan):
                if only in (None, method):
                    del self._plan[index]
                    return self._noted(fault)
            fault_of_storm = self.storm.next_fault() if self.storm is not None else None
            return self._noted(fault_of_storm)

    def _noted(self, fault: Fault | None) -> Fault | None:
        if fault is not None:
            self.happened[fault] += 1
        return fault


class _Handler(http.server.BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        pass

    def _serve(self) -> None:
        self.proxy.requests.append((self.command, self.path, self.headers.get("Range")))
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        fault = self.proxy.take(self.command)
        if not self._refuses(fault):
            self._carry_out(fault, body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def _refuses(self, fault: Fault | None) -> bool:
        """True where the request never reaches the server."""
        refusal = self.proxy.present_refusal()
        if fault is Fault.RESET or self.proxy.is_down():
            self._reset()
        elif refusal is not None:
            self.proxy.happened[refusal] += 1
            self._reply(refusal.status, {}, f"<Error><Code>{refusal.code}</Code></Error>".encode())
        elif fault is Fault.REFUSE:
            self._reply(503, {}, b"<Error><Code>SlowDown</Code></Error>")
        elif fault is Fault.SILENT:
            self.proxy.ending.wait()
            self._reset()
        else:
            return False
        return True

    def _carry_out(self, fault: Fault | None, body: bytes) -> None:
        if fault is Fault.STALL:
            self.proxy.ending.wait(self.proxy.stall_seconds)
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
