"""An HTTP server with files, ranges, and faults that are used up one by one."""

from __future__ import annotations

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultServer:
    """`files` maps paths to bytes; `faults` maps a path to a list of faults, one per request, in order.

    Faults: ("drop", n) sends n bytes and closes; ("status", code, headers); ("length", n) announces n
    bytes more than there are; ("sent", n) sends n bytes too many in chunks without a length;
    ("ignore_range",) answers 200; ("wrong_range",) answers 206 with another start; None: none.
    """

    def __init__(self):
        self.files, self.faults, self.etags, self.headers = {}, {}, {}, {}
        self.requests = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, request):
        path = request.path
        self.requests.append((path, request.headers.get("Range"), request.headers.get("If-Range")))
        fault = self.faults[path].pop(0) if self.faults.get(path) else None
        kind = fault[0] if fault else ""
        data, etag = self.files.get(path), self.etags.get(path, '"v1"')
        if kind == "change":
            data = self.files[path] = fault[1]
            etag = self.etags[path] = '"v2"'
        if kind == "status" or data is None:
            code, headers = (fault[1], fault[2]) if kind == "status" else (404, {})
            return self._send(request, code, headers, b"")
        headers = {**self.headers.get(path, {})}
        if etag:
            headers["ETag"] = etag
        start, code = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked and kind != "ignore_range" and request.headers.get("If-Range") in (None, etag):
            start, code = int(asked[1]), 206
            if start >= len(data):
                return self._send(request, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            shown = start + 1 if kind == "wrong_range" else start
            headers["Content-Range"] = f"bytes {shown}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        extra = fault[1] if kind == "length" else 0
        cut = fault[1] if kind == "drop" else len(body)
        return self._send(request, code, headers, body, cut=cut, announced=len(body) + extra)

    def _send(self, request, code, headers, body, cut=None, announced=None):
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        announced = len(body) if announced is None else announced
        request.send_header("Content-Length", str(announced))
        request.end_headers()
        sent = body if cut is None else body[:cut]
        request.wfile.write(sent)
        request.wfile.flush()
        if len(sent) != announced:
            request.close_connection = True


@contextlib.contextmanager
def fault_server():
    server = FaultServer()
    try:
        yield server
    finally:
        server.close()
