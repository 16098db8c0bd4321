"""A proxy before an S3 server that stops time at one request, so that a test can kill the client there.

with Gate(server.endpoint, Point("PUT", "/frames/", "after")) as gate:
    ...start a client with AWS_ENDPOINT_URL=gate.endpoint...
    gate.reached.wait()      # the request is carried out, its reply held back
    ...kill the client...
"""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass
from typing import Literal

from s3server.faults import FaultProxy, _Handler


@dataclass(frozen=True)
class Point:
    """The first request of `method` whose path contains `fragment`, held before, half-way or after."""

    method: str
    fragment: str
    when: Literal["before", "half-way", "after"]


class Gate(FaultProxy):
    """Holds one kind of request; everything else passes."""

    def __init__(self, target: str, point: Point) -> None:
        super().__init__(target)
        self.point = point
        self.reached = threading.Event()
        self.released = threading.Event()
        self._server.RequestHandlerClass = type("GateHandler", (_GateHandler,), {"proxy": self})

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        super().__exit__(*exception)


class _GateHandler(_Handler):
    proxy: Gate

    def _serve(self) -> None:
        point = self.proxy.point
        if self.command != point.method or point.fragment not in self.path:
            super()._serve()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        match point.when:
            case "after":
                self._forward(body)
            case "half-way":
                upstream = self._send_half(body)
            case "before":
                pass
        self.proxy.reached.set()
        self.proxy.released.wait()
        if point.when == "half-way":
            upstream.close()
        self._hang_up()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve

    def _send_half(self, body: bytes) -> http.client.HTTPConnection:
        upstream = http.client.HTTPConnection(self.proxy.target.netloc, timeout=120)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "expect":
                upstream.putheader(name, value)
        upstream.endheaders(body[: len(body) // 2])
        return upstream
