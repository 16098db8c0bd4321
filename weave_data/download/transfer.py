"""One URL to one file that is whole and checked, across dropped connections and busy servers."""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import requests

from weave_data.errors import SourceError

__all__ = ["Fetched", "RetryPolicy", "fetch_file"]

_CHUNK_BYTES = 1 << 16  # what a dropped connection may cost
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416

_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)

OnBytes = Callable[[int, int | None], None]


@dataclass(frozen=True)
class RetryPolicy:
    """How patient a transfer is.

    Attributes:
        max_failures: Failures in a row without a new byte that end it.
        first_seconds: Wait after the first failure; doubles with each, with jitter.
        longest_seconds: No wait is longer; a server that asks for more ends the transfer.
        connect_seconds, read_seconds: Deadlines of one request.
        sleep: Waits.
    """

    max_failures: int = 6
    first_seconds: float = 1.0
    longest_seconds: float = 600.0
    connect_seconds: float = 20.0
    read_seconds: float = 60.0
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Fetched:
    """A file that is there. `resumed_at`: bytes that an earlier attempt had left; `restarts`: how often
    the server had another file than the one begun.
    """

    path: Path
    size_bytes: int
    sha256: str
    resumed_at: int = 0
    restarts: int = 0


class _RetryError(Exception):
    """Worth another attempt, after so many seconds if the server said."""

    def __init__(self, why: str, after_seconds: float | None = None) -> None:
        self.after_seconds = after_seconds
        super().__init__(why)


def fetch_file(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    policy: RetryPolicy | None = None,
    on_bytes: OnBytes | None = None,
) -> Fetched:
    """Fetch a URL; what an interrupted transfer left in `<path>.part` is continued.

    A transfer is only continued if the server says by a strong ETag or a date that it has the same file
    still; otherwise it begins anew. The file gets its name when size and sum are right.

    Args:
        url: http or https.
        path: Where it goes; its folder exists.
        sha256: What it must be. Without one, the sum that Hugging Face sends for large files is used.
        policy: How patient to be.
        on_bytes: Called with bytes had and bytes in all (None: not said).

    Raises:
        SourceError: Refused, not reachable any more, or not the bytes that were promised.
    """
    transfer = _Transfer(url, path, policy or RetryPolicy(), on_bytes or (lambda _have, _total: None))
    transfer.run()
    return transfer.finish(sha256)


class _Transfer:
    """The state of one transfer: the part file and what is known about the server's file."""

    def __init__(self, url: str, path: Path, policy: RetryPolicy, on_bytes: OnBytes) -> None:
        self._url, self._path, self._policy, self._on_bytes = url, path, policy, on_bytes
        self._part = path.with_name(f"{path.name}.part")
        self._notes = path.with_name(f"{path.name}.part.json")
        self._known: dict[str, str | int | None] = self._read_notes()
        self._resumed_at = self._have() if self._known else 0
        self._restarts = 0

    def run(self) -> None:
        failures, best = 0, self._have()
        while True:
            try:
                with requests.Session() as session:
                    self._attempt(session)
                return
            except (_RetryError, requests.RequestException, TimeoutError) as error:
                failures = 1 if self._have() > best else failures + 1
                best = max(best, self._have())
                if isinstance(error, _NO_ADDRESS):
                    raise SourceError(f"{self._url}: no address ({error}); correct it") from error
                if failures >= self._policy.max_failures:
                    raise SourceError(
                        f"{self._url}: gave up after {failures} failures in a row ({_one_line(error)}); "
                        f"{self._have()} bytes are kept, the same command continues"
                    ) from error
                self._wait(failures, getattr(error, "after_seconds", None))

    def finish(self, expected: str | None) -> Fetched:
        size_bytes = self._have()
        digest = hashlib.sha256()
        with self._part.open("rb") as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
        found, wanted = digest.hexdigest(), expected or self._known.get("sha256")
        if wanted and found != wanted:
            self._forget()
            raise SourceError(
                f"{self._url}: sha256 {found} of {size_bytes} bytes, {wanted} was promised; the file is "
                "thrown away: try again, and if it stays so the server has another file"
            )
        with self._part.open("rb") as file:
            os.fsync(file.fileno())
        self._part.replace(self._path)
        self._notes.unlink(missing_ok=True)
        return Fetched(self._path, size_bytes, found, self._resumed_at, self._restarts)

    def _attempt(self, session: requests.Session) -> None:
        have = self._have()
        headers = {"Accept-Encoding": "identity"}
        validator = self._known.get("validator")
        if have and validator:
            headers |= {"Range": f"bytes={have}-", "If-Range": str(validator)}
        deadlines = (self._policy.connect_seconds, self._policy.read_seconds)
        with session.get(self._url, headers=headers, stream=True, timeout=deadlines) as response:
            if response.status_code in _BUSY:
                raise _RetryError(f"HTTP {response.status_code}", _retry_after(response.headers))
            if response.status_code == _RANGE_NOT_SATISFIABLE:
                if have and have == self._known.get("size_bytes"):
                    return  # it was whole already
                self._restart("its length changed")
            if response.status_code not in (_OK, _PARTIAL):
                raise SourceError(
                    f"{self._url}: HTTP {response.status_code} {response.reason}; check the address and "
                    "whether the data set asks for an account"
                )
            if response.status_code == _PARTIAL:
                self._check_range(response, have)
            else:
                self._begin(response, had=have)
            self._receive(response)

    def _begin(self, response: requests.Response, *, had: int) -> None:
        """Start from nothing: a first attempt, another file than before, or no ranges here."""
        if had:
            self._restarts += 1
            self._resumed_at = 0
        length = response.headers.get("Content-Length", "")
        self._known = {
            "url": self._url,
            "validator": _validator(response.headers),
            "size_bytes": int(length) if length.isdigit() else None,
            "sha256": _promised_sum(response),
        }
        self._part.write_bytes(b"")
        self._notes.write_text(json.dumps(self._known), encoding="utf-8")

    def _check_range(self, response: requests.Response, have: int) -> None:
        said = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
        known = self._known.get("size_bytes")
        if not match or int(match[1]) != have or (known and match[2] not in ("*", str(known))):
            self._restart(f"it answered with range {said!r}")

    def _receive(self, response: requests.Response) -> None:
        total = self._known.get("size_bytes")
        total = total if isinstance(total, int) else None
        have = self._have()
        with self._part.open("ab") as file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                have += len(chunk)
                self._on_bytes(have, total)
        if total is not None and have != total:
            if have > total:
                self._restart(f"it sent {have} bytes, {total} were announced")
            raise _RetryError(f"the connection ended at {have} of {total} bytes")

    def _restart(self, why: str) -> None:
        self._forget()
        self._restarts += 1
        self._resumed_at = 0
        raise _RetryError(f"{why}; begun anew")

    def _wait(self, failures: int, asked_seconds: float | None) -> None:
        if asked_seconds is not None and asked_seconds > self._policy.longest_seconds:
            raise SourceError(
                f"{self._url}: the server asks to wait {asked_seconds:.0f} s; {self._have()} bytes are kept, "
                "run the same command then"
            )
        seconds = min(self._policy.first_seconds * 2 ** (failures - 1), self._policy.longest_seconds)
        jittered = seconds * random.uniform(0.5, 1.0)  # noqa: S311  (spreads retries, decides nothing)
        self._policy.sleep(jittered if asked_seconds is None else asked_seconds)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self._known = {}

    def _read_notes(self) -> dict[str, str | int | None]:
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            notes = None
        if isinstance(notes, dict) and notes.get("url") == self._url and notes.get("validator"):
            return notes
        self._forget()  # nobody can say what these bytes are
        return {}


def _validator(headers: Mapping[str, str]) -> str | None:
    """What If-Range may hold: a strong ETag, else a date."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")


def _promised_sum(response: requests.Response) -> str | None:
    for answer in (*response.history, response):
        tag = answer.headers.get("X-Linked-ETag", "").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            return tag
    return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
