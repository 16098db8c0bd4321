"""Runs `doctor` on a small configuration, and servers with one fault each."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from s3server.faults import FaultProxy, _Handler
from servers import S3Server
from typer.testing import CliRunner

Found = dict[str, dict[str, str]]


def build_config(folder: Path, *, source: str, output: str, **more: Any) -> Path:
    """A configuration that a doctor can look at; nothing of it is ever built."""
    values = {
        "source": {"kind": "folder", "videos": source},
        "embedding": {"model": "none"},
        "recipes": [{"name": "l1", "strategy": "single"}],
        "output": output,
        "execution": {"in_process": True},
        **more,
    }
    path = folder / "build.yaml"
    path.write_text(json.dumps(values))
    return path


def doctor(config: Path, *overrides: str) -> tuple[int, Found]:
    """Exit code, and findings by check; of several, the worst."""
    from weave_data.cli import app

    done = CliRunner().invoke(app, ["doctor", str(config), *overrides, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, by_check(done.output)


def by_check(output: str) -> Found:
    found: Found = {}
    rows = json.loads(output)["findings"]
    for row in sorted(rows, key=lambda row: ["ok", "warn", "fail"].index(row["status"])):
        found[row["check"]] = row
    return found


def failed(found: Found) -> set[str]:
    return {check for check, row in found.items() if row["status"] == "fail"}


class Denying:
    """An issuer of credentials who denies everybody; entered, its address."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                data = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
                self.send_response(403)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class OtherServer(FaultProxy):
    """An S3 server that has one thing in another way; a subclass of `_Handler` says which."""

    def __init__(self, server: S3Server, handler: type[_Handler]) -> None:
        super().__init__(server.endpoint)
        self.server = server
        self._server.RequestHandlerClass = type("OtherHandler", (handler,), {"proxy": self})


class Skewed(_Handler):
    """Its clock is an hour behind."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        import time

        return super().date_time_string(time.time() - 3600)


class Unconditional(_Handler):
    """Takes every PUT, whatever its conditions."""

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        _, bucket, key = self.path.partition("?")[0].split("/", 2)
        given = {
            name.lower().removeprefix("x-amz-meta-"): value
            for name, value in self.headers.items()
            if name.lower().startswith("x-amz-meta-")
        }
        self.proxy.server.client().put_object(Bucket=bucket, Key=key, Body=body, Metadata=given)  # type: ignore[attr-defined]
        self._reply(200, {}, b"")

    do_PUT = _take


class DisabledKey(_Handler):
    """Its bucket is encrypted with a key that is switched off."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._reply(400, {}, b"<Error><Code>KMS.DisabledException</Code></Error>")

    do_PUT = _refuse


class Encrypting(_Handler):
    """Tells with what key an object is encrypted."""

    def _tell(self) -> None:
        status, headers, data = self._forward(b"")
        key = {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": "key-7",
        }
        self._reply(status, {**headers, **key}, data)

    do_HEAD = _tell


class NoDelete(_Handler):
    """Grants no deletion."""

    def _keep(self) -> None:
        self._reply(403, {}, b"<Error><Code>AccessDenied</Code></Error>")

    do_DELETE = _keep


class NoRead(_Handler):
    """Lists, but lets nobody read."""

    def _list_only(self) -> None:
        if "list-type" in self.path:
            self._serve()
        else:
            self._reply(403, {}, b"<Error><Code>AccessDenied</Code></Error>")

    do_GET = _list_only
