"""Foreign data: listed and read, never written.

Reading goes through fsspec (s3fs for `s3://`), so that a source may lie wherever fsspec reaches.
Listing an S3 prefix goes through our own pages instead: `s3fs.find` keeps 2.2 KB of memory a key.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from botocore.exceptions import BotoCoreError, ClientError

from weave_data.errors import SourceError, StoreError
from weave_data.storage.base import ObjectInfo, check_range
from weave_data.storage.local import LocalStore
from weave_data.storage.opening import split_uri
from weave_data.storage.s3 import S3Store
from weave_data.storage.s3_client import (
    CONNECT_SECONDS,
    MAX_REQUESTS,
    READ_SECONDS,
    aws_environment,
    error_status,
    explain,
    has_expired,
    max_attempts,
    request_slot,
)

__all__ = ["SourceRoot", "open_source"]

_LEADS_OUT = re.compile(r"^/|(^|/)\.\.(/|$)")


@dataclass(frozen=True)
class SourceRoot:
    """A read-only root whose files are addressed by relative keys. Picklable; connects when used.

    Attributes:
        scheme: fsspec's name of the protocol: `file`, `s3`, ...
        bucket: Bucket or host; empty for local files.
        prefix: Path below it, absolute for local files.
    """

    scheme: str
    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """The root's address, for messages."""
        return self.prefix if self.scheme == "file" else f"{self.scheme}://{self._root}"

    @property
    def _root(self) -> str:
        return "/".join(part for part in (self.bucket, self.prefix) if part)

    def check(self) -> None:
        """Make sure, before any work, that the root can be listed and holds something.

        Raises:
            SourceError: Not reachable, refused, no such bucket or directory, nothing there.
        """
        if self.scheme == "s3":
            S3Store(self.bucket, self.prefix, readonly=True).check()
        elif next(self.list(), None) is None:
            raise SourceError(f"{self.uri}: holds no file; correct the address")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Stream the files whose key starts with `prefix`, by ascending key, with size and ETag.

        Raises:
            StoreError: The root does not exist or can't be listed.
        """
        if self.scheme == "s3":
            yield from S3Store(self.bucket, self.prefix, readonly=True).list(prefix)
        elif self.scheme == "file":
            if not Path(self.prefix).is_dir():
                raise SourceError(f"{self.uri}: no such directory; correct the path")
            yield from LocalStore(Path(self.prefix), readonly=True).list(prefix)
        else:
            yield from self._find(prefix)

    def _find(self, prefix: str) -> Iterator[ObjectInfo]:
        root = f"{self._root}/"
        found = self._ask(prefix, "find", f"{root}{prefix.rpartition('/')[0]}", detail=True)
        for path in sorted(found):
            key = path.removeprefix(root)
            if key.startswith(prefix):
                yield ObjectInfo(key, int(found[path]["size"]), etag=found[path].get("ETag"))

    def size(self, key: str) -> int | None:
        """Length of one file in bytes; None when it is not there."""
        try:
            info = self._ask(key, "info", self._path(key))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def read(self, key: str) -> bytes:
        """Read one file.

        Raises:
            StoreError: It is not there, its key leads out of the root, or the store refused or could not be
                reached.
        """
        try:
            return bytes(self._ask(key, "cat_file", self._path(key)))
        except FileNotFoundError as error:
            raise StoreError(f"{self.uri}/{key}: no such file; it was there when it was listed") from error

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes [start, stop) of one file: exactly `stop - start` of them, in one request.

        Raises:
            StoreError: The file is not there or shorter, or the store refused or could not be reached.
        """
        num_bytes = check_range(key, start, stop)
        if num_bytes == 0:
            return b""
        try:
            data = bytes(self._ask(key, "cat_file", self._path(key), start=start, end=stop))
        except FileNotFoundError as error:
            raise StoreError(f"{self.uri}/{key}: no such file; it was there when it was listed") from error
        if len(data) != num_bytes:
            raise StoreError(
                f"{self.uri}/{key}: bytes [{start}, {stop}) asked, {len(data)} there; the file is shorter "
                "than when it was listed: restore it, or build into a new output"
            )
        return data

    def _path(self, key: str) -> str:
        if _LEADS_OUT.search(key):
            raise StoreError(
                f"{self.uri}: {key!r} leads out of this root; correct the record that names it, or set the "
                "root to a folder above both"
            )
        return f"{self._root}/{key}"

    def _ask(self, key: str, verb: str, path: str, **options: Any) -> Any:
        """Call one method of the file system; FileNotFoundError passes through."""
        try:
            with request_slot():
                filesystem = _filesystem(self.scheme, os.getpid(), aws_environment())
                return getattr(filesystem, verb)(path, **options)
        except FileNotFoundError:
            raise
        except OSError as error:
            cause = error.__cause__
            if isinstance(cause, (ClientError, BotoCoreError)):
                raise self._explain(cause, key) from error
            raise StoreError(f"{self.uri}/{key}: {error}; check the path and its permissions") from error
        except (ClientError, BotoCoreError) as error:
            raise self._explain(error, key) from error
        except RuntimeError as error:
            if not has_expired(error):
                raise
            raise self._explain(error, key) from error

    def _explain(self, error: Exception, key: str) -> StoreError:
        """A HEAD's reply has no body to say why: a listing asks again."""
        if isinstance(error, ClientError) and error_status(error) in (400, 403):
            try:
                S3Store(self.bucket, self.prefix, readonly=True).check_access()
            except StoreError as reason:
                return reason
        return explain(error, f"{self.uri}/{key}")


def open_source(root_uri: str) -> SourceRoot:
    """Address a foreign root; nothing is contacted until it is used.

    Args:
        root_uri: `s3://bucket/prefix`, a path, `file:///folder`, or any other protocol of fsspec.

    Raises:
        SourceError: fsspec knows no such protocol.
    """
    scheme, bucket, prefix = split_uri(root_uri)
    if scheme not in fsspec.available_protocols():
        raise SourceError(f"{root_uri}: no protocol {scheme!r} in fsspec; use s3://bucket/prefix or a path")
    return SourceRoot(scheme, bucket, prefix)


@functools.lru_cache(maxsize=8)
def _filesystem(scheme: str, pid: int, environment: tuple[tuple[str, str], ...]) -> Any:  # noqa: ARG001
    if scheme != "s3":
        return fsspec.filesystem(scheme, skip_instance_cache=True)
    return fsspec.filesystem(
        "s3",
        skip_instance_cache=True,  # fsspec's own cache does not see a changed environment
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": max_attempts()},
            "max_pool_connections": MAX_REQUESTS,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    )
