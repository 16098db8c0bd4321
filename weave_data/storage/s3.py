"""A store below `s3://bucket/prefix`, through boto3.

Every object is one PUT with `If-None-Match: *` and its sha256 as metadata; the first writer wins
and the loser learns the stored sha256. A random `put-id`, metadata as well, tells a writer whose
reply was lost that the object it finds is its own. `replace` is a PUT with `If-Match`.
"""

from __future__ import annotations

import base64
import contextlib
import math
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import urllib3
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ResponseStreamingError,
)

from weave_data.errors import ConflictError, SourceError, StoreError
from weave_data.storage.base import (
    Committed,
    ObjectInfo,
    RequestLimits,
    check_key,
    check_range,
    check_size,
    sha256_of,
)
from weave_data.storage.s3_client import (
    CHECK_ATTEMPTS,
    READ_SECONDS,
    back_off,
    endpoint,
    error_status,
    explain,
    has_expired,
    max_attempts,
    request_slot,
    s3_client,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

__all__ = ["S3Store"]

_PAGE_KEYS = 1000
_PIECE_BYTES = 1 << 20
_CONFLICT_ATTEMPTS = 8


@dataclass(frozen=True)
class S3Store:
    """Objects of one bucket below a prefix. Holds no connection, so it pickles.

    Args:
        bucket: Its name.
        prefix: Without slashes at its ends; may be empty.
        readonly: Refuse writes and, in `check`, a prefix that holds nothing.
        limits: Of reads, for callers with retries of their own; None: those of `s3_client`.
    """

    bucket: str
    prefix: str
    readonly: bool = False
    limits: RequestLimits | None = None

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def check(self, *, write: bool = False) -> None:
        """See `Store.check`. Listing needs the bucket, the credentials and the right to list."""
        first = next(self._list_page("", None, max_keys=1, attempts=CHECK_ATTEMPTS)[0], None)
        if self.readonly and first is None:
            raise SourceError(
                f"{self.uri}: nothing is stored under this prefix at {endpoint()}; correct the address"
            )
        if write:
            key = f"runs/probe-{uuid.uuid4().hex}"
            self.put_new(key, b"")
            self.delete(key)

    def check_access(self) -> None:
        """Make sure that bucket and credentials allow a listing, whether or not anything is there.

        Raises:
            StoreError: They don't; says why.
        """
        self._list_page("", None, max_keys=1, attempts=CHECK_ATTEMPTS)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`; one page of 1000 keys is in memory at a time."""
        token: str | None = None
        while True:
            page, token = self._list_page(prefix, token, max_keys=_PAGE_KEYS)
            yield from page
            if token is None:
                return

    def _list_page(
        self, prefix: str, token: str | None, *, max_keys: int, attempts: int | None = None
    ) -> tuple[Iterator[ObjectInfo], str | None]:
        root = f"{self.prefix}/" if self.prefix else ""
        asked: dict[str, Any] = {"ContinuationToken": token} if token else {}
        with self._explaining(prefix), request_slot():
            reply = s3_client(attempts).list_objects_v2(
                Bucket=self.bucket, Prefix=root + prefix, MaxKeys=max_keys, **asked
            )
        # names that end with a slash are folder markers of other tools
        found = (
            ObjectInfo(
                item["Key"][len(root) :],
                item["Size"],
                etag=item["ETag"].strip('"'),
                modified=item["LastModified"].timestamp(),
            )
            for item in reply.get("Contents", [])
            if not item["Key"].endswith("/")
        )
        return found, reply.get("NextContinuationToken")

    def head(self, key: str) -> ObjectInfo | None:
        """See `Store.head`; sha256 is None for an object that another tool wrote."""
        found = self._head(key)
        return found[0] if found else None

    def _head(self, key: str) -> tuple[ObjectInfo, str | None] | None:
        with self._explaining(key):
            try:
                with request_slot():
                    reply = s3_client().head_object(Bucket=self.bucket, Key=self._name(key))
            except ClientError as error:
                # HEAD has no body: a missing bucket looks the same, `check` tells them apart
                if error_status(error) == 404:
                    return None
                if error_status(error) in (400, 403):
                    self.check_access()  # raises with the reason, which only a reply with a body tells
                raise
        metadata = reply["Metadata"]
        info = ObjectInfo(
            key,
            reply["ContentLength"],
            etag=reply["ETag"].strip('"'),
            sha256=metadata.get("sha256"),
            modified=reply["LastModified"].timestamp(),
        )
        return info, metadata.get("put-id")

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        return self._read(key)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See `Store.get_range`."""
        num_bytes = check_range(key, start, stop)
        if num_bytes == 0:
            return b""
        data = self._read(key, Range=f"bytes={start}-{stop - 1}")
        if len(data) != num_bytes:
            raise StoreError(
                f"{self.uri}/{key}: bytes [{start}, {stop}) asked, {len(data)} received; the object is "
                "shorter than its index says: run `weave-data verify`"
            )
        return data

    def _read(self, key: str, **asked: Any) -> bytes:
        """GET; botocore retries the request, this loop the reading of its body."""
        limits = self.limits or RequestLimits(max_attempts(), READ_SECONDS, math.inf)
        with self._explaining(key):
            for attempt in range(limits.attempts):
                with request_slot():
                    client = s3_client(limits.attempts, limits.idle_seconds)
                    reply = client.get_object(Bucket=self.bucket, Key=self._name(key), **asked)
                    try:
                        return _read_body(reply, limits.total_seconds)
                    except BotoCoreError:
                        if attempt + 1 == limits.attempts:
                            raise
                back_off(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def put_new(self, key: str, data: bytes | Path, *, sha256: str | None = None) -> Committed:
        """See `Store.put_new`."""
        self._check_writable(key)
        size_bytes = check_size(key, data)
        digest = sha256 or sha256_of(data)
        put_id = uuid.uuid4().hex
        if self._put(key, data, digest, put_id, IfNoneMatch="*"):
            return Committed(key, digest, size_bytes, is_ours=True)
        found = self._head(key)
        if found is None:
            raise StoreError(f"{self.uri}/{key}: deleted while it was written; stop other writers, run again")
        info, stored_id = found
        return Committed(key, self._sha256(info), info.size_bytes, is_ours=stored_id == put_id)

    def _put(self, key: str, data: bytes | Path, sha256: str, put_id: str, **condition: Any) -> bool:
        """PUT under a condition; False when the condition did not hold."""
        for attempt in range(_CONFLICT_ATTEMPTS):
            with self._explaining(key), request_slot(), _opened(data) as body:
                try:
                    s3_client().put_object(
                        Bucket=self.bucket,
                        Key=self._name(key),
                        Body=body,
                        ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
                        Metadata={"sha256": sha256, "put-id": put_id},
                        **condition,
                    )
                except ClientError as error:
                    if error_status(error) == 412:
                        return False
                    if error_status(error) == 404 and "IfMatch" in condition:
                        return False
                    if error_status(error) != 409 or attempt + 1 == _CONFLICT_ATTEMPTS:
                        raise
                else:
                    return True
            back_off(attempt)  # 409: another conditional PUT of this key was under way
        raise AssertionError("unreachable: the last attempt returns or raises")

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._check_writable(key)
        with self._explaining(key), request_slot():
            s3_client().delete_object(Bucket=self.bucket, Key=self._name(key))

    def purge_versions(self) -> int:
        """Delete what a bucket with versioning keeps below this root of objects replaced or deleted before.

        Returns:
            Versions that were deleted; 0 where the bucket keeps none.

        Raises:
            StoreError: It is not known whether it does, or the versions can't be listed or deleted.
        """
        self._check_writable("")
        try:
            with self._explaining(""):
                return self._purge_versions()
        except StoreError as error:
            raise StoreError(
                f"{error}; older versions of objects may be left: grant s3:GetBucketVersioning, "
                "s3:ListBucketVersions and s3:DeleteObjectVersion, then run the same command again"
            ) from error

    def _purge_versions(self) -> int:
        client, root = s3_client(), f"{self.prefix}/" if self.prefix else ""
        if "Status" not in client.get_bucket_versioning(Bucket=self.bucket):
            return 0
        count = 0
        for page in client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=root):
            gone = [(each["Key"], each["VersionId"]) for each in page.get("DeleteMarkers", [])]
            gone += [
                (each["Key"], each["VersionId"]) for each in page.get("Versions", []) if not each["IsLatest"]
            ]
            for key, version in gone:
                with request_slot():
                    client.delete_object(Bucket=self.bucket, Key=key, VersionId=version)
            count += len(gone)
        return count

    def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
        """See `Store.replace`."""
        digest = sha256_of(data)
        if expected is None:
            stored: str | None = self.put_new(key, data, sha256=digest).sha256
        else:
            self._check_writable(key)
            stored = self._swap(key, data, digest, expected)
        if stored == expected:
            raise StoreError(
                f"{self.uri}/{key}: the store refuses to replace an object that nobody changed (If-Match); "
                "Ceph does so in buckets with versioning: take one without"
            )
        if stored != digest:
            raise ConflictError(
                f"{self.uri}/{key}: holds sha256 {stored or 'nothing'}, expected {expected or 'nothing'}; "
                "another writer replaced it: look at it, then run again"
            )

    def _swap(self, key: str, data: bytes, digest: str, expected: str) -> str | None:
        """Replace content `expected`; return the sha256 that is stored in the end."""
        info = self.head(key)
        if info is None or self._sha256(info) != expected:
            return self._sha256(info) if info else None
        # AWS writes ETags with quotes; Ceph 16 compares without. A form that isn't understood fails safely.
        for tag in (f"{info.etag}", f'"{info.etag}"'):
            if self._put(key, data, digest, uuid.uuid4().hex, IfMatch=tag):
                return digest
        found = self.head(key)
        return self._sha256(found) if found else None

    def _sha256(self, info: ObjectInfo) -> str:
        return info.sha256 or sha256_of(self.get(info.key))

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    def _check_writable(self, key: str) -> None:
        if self.readonly:
            raise StoreError(f"{self.uri}/{key}: the store was opened read-only; open it for writing")

    @contextlib.contextmanager
    def _explaining(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise explain(error, f"{self.uri}/{key}") from error
        except RuntimeError as error:
            if not has_expired(error):
                raise
            raise explain(error, f"{self.uri}/{key}") from error


def _read_body(reply: GetObjectOutputTypeDef, total_seconds: float) -> bytes:
    with contextlib.closing(reply["Body"]) as body:
        if math.isinf(total_seconds):
            return body.read()
        data = _read_within(body, total_seconds)
    expected = reply["ContentLength"]
    if len(data) != expected:  # reading by pieces, urllib3 takes a reply that breaks off for a whole one
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=expected)
    return data


def _read_within(body: Any, total_seconds: float) -> bytes:
    """Read as bytes come in: a server that sends one now and then never times out on a socket."""
    stop = time.monotonic() + total_seconds
    stream = body._raw_stream  # botocore's own reads wait until a buffer is full
    pieces: list[bytes] = []
    try:
        while piece := stream.read1(_PIECE_BYTES):
            pieces.append(piece)
            if time.monotonic() > stop:
                raise TimeoutError(f"the body took more than {total_seconds:.1f} s")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ResponseStreamingError(error=error) from error
    return b"".join(pieces)


@contextlib.contextmanager
def _opened(data: bytes | Path) -> Iterator[bytes | IO[bytes]]:
    if isinstance(data, bytes):
        yield data
    else:
        with data.open("rb") as file:
            yield file
