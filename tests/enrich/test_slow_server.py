"""Claims about a server that does not answer in time, over real sockets."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fault_proxy import fault_proxy

from weave_data.config.enrich import EnrichConfig
from weave_data.config.loading import load_config
from weave_data.pipeline.enrichment import enrich


class Echo(BaseHTTPRequestHandler):
    """Answers at once; stands for a model where only time matters."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"message": {"content": "A dog."}, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.server
def test_an_answer_that_does_not_come_in_time_is_asked_for_again(tmp_path) -> None:
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    (tmp_path / "in.json").write_text('[{"clip_id": "1", "caption": "dog"}]', encoding="utf-8")
    try:
        with fault_proxy(upstream.server_address[1], {0: "slow"}) as proxy:
            endpoint = {"kind": "endpoint", "url": proxy.url, "name": "m", "timeout_seconds": 2.0}
            values = {
                "task": "captions",
                "captions": {"file": str(tmp_path / "in.json")},
                "model": endpoint | {"backoff_seconds": 0.01},
                "output": str(tmp_path / "out"),
            }
            result = enrich(load_config(EnrichConfig, values, origin="test"))
            assert result.count.num_out == 1
            assert len(proxy.seen) >= 2
    finally:
        upstream.shutdown()
        upstream.server_close()
