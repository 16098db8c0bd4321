"""What only S3 has: how buckets are addressed, conditions on overwrites, encryption, the server's clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from weave_data.doctor.clock import judge_store
from weave_data.doctor.finding import Finding, Status, of_error
from weave_data.errors import StoreError, WeaveError
from weave_data.storage import S3Store, sha256_of
from weave_data.storage.s3_client import CHECK_ATTEMPTS, error_code, error_status, explain, s3_client

__all__ = ["Seen", "judge_encryption", "judge_endpoint", "judge_overwrite", "reach"]

_HANDLER = "weave-doctor"
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_WRONG_ETAG = "0" * 32


@dataclass
class Seen:
    """What went over the wire while the bucket was listed once."""

    url: str = ""
    date: str = ""
    error: StoreError | None = None
    code: str = ""
    before: float = 0.0
    after: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def reach(store: S3Store) -> Seen:
    """List one key of a bucket; findings `endpoint`, `clock` and, if it was refused, `bucket`."""
    seen = Seen(before=time.time())
    client = s3_client(CHECK_ATTEMPTS)
    with _watching(client, seen):
        try:
            reply: Any = client.list_objects_v2(Bucket=store.bucket, Prefix=store.prefix, MaxKeys=1)
        except (ClientError, BotoCoreError) as error:
            seen.error = explain(error, store.uri)
            reply = getattr(error, "response", {})
            seen.code = error_code(error) if isinstance(error, ClientError) else ""
    seen.after = time.time()
    seen.date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    seen.findings.append(judge_endpoint(store, seen))
    if seen.date:
        seen.findings.append(judge_store(seen.date, before=seen.before, after=seen.after))
    if seen.error is not None and seen.code not in _SKEWED and seen.findings[0].status is not Status.FAIL:
        seen.findings.append(of_error("bucket", seen.error))
    return seen


@contextlib.contextmanager
def _watching(client: Any, seen: Seen) -> Iterator[None]:
    def note(request: Any, **_: Any) -> None:
        seen.url = str(request.url)

    client.meta.events.register("before-send.s3", note, unique_id=_HANDLER)
    try:
        yield
    finally:
        client.meta.events.unregister("before-send.s3", unique_id=_HANDLER)


def judge_endpoint(store: S3Store, seen: Seen) -> Finding:
    """Where requests go, and whether the bucket stands in the host or in the path."""
    parts = urlsplit(seen.url)
    host = parts.hostname or ""
    is_virtual = host.startswith(f"{store.bucket}.")
    named = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
    style = "bucket in the host (virtual)" if is_virtual else "bucket in the path"
    if seen.error is None or seen.date:
        return Finding("endpoint", Status.OK, f"{named}, {style}")
    if not seen.url:
        return of_error("endpoint", seen.error)
    if is_virtual and not host.endswith(".amazonaws.com"):
        found = f"{named} does not answer; {style}, which needs a name of its own for every bucket"
        remedy = (
            "set `s3 = addressing_style = path` in the profile of ~/.aws/config, or add *.HOST to the DNS"
        )
        return Finding("endpoint", Status.FAIL, found, remedy)
    return of_error("endpoint", f"{style}: {seen.error}")


def judge_overwrite(store: S3Store, key: str) -> Finding:
    """A PUT with `If-Match` must be refused for another ETag, else taken: manifests are replaced so."""
    name = f"{store.prefix}/{key}" if store.prefix else key
    remedy = "use a store that honours If-Match (AWS, Ceph, MinIO); two builds at once would undo each other"
    try:
        s3_client().put_object(Bucket=store.bucket, Key=name, Body=b"", IfMatch=f'"{_WRONG_ETAG}"')
    except ClientError as error:
        if error_status(error) in (409, 412):
            return _judge_replacement(store, key)
        found = f"a PUT with If-Match is answered {error_status(error)} {error_code(error)}"
        return Finding("conditional replace", Status.FAIL, found, remedy)
    except BotoCoreError as error:
        return of_error("conditional replace", explain(error, f"{store.uri}/{key}"))
    return Finding(
        "conditional replace", Status.FAIL, "a PUT with a wrong If-Match replaced the object", remedy
    )


def _judge_replacement(store: S3Store, key: str) -> Finding:
    try:
        store.replace(key, b"", expected=sha256_of(store.get(key)))
    except WeaveError as error:
        remedy = "Ceph does so in buckets with versioning; use one without"
        return Finding("conditional replace", Status.FAIL, str(error).partition(";")[0], remedy)
    return Finding(
        "conditional replace", Status.OK, "a PUT with a wrong If-Match is refused, a right one taken"
    )


def judge_encryption(store: S3Store, key: str) -> Finding:
    """How the store encrypted an object that it took."""
    name = f"{store.prefix}/{key}" if store.prefix else key
    try:
        reply: Any = s3_client().head_object(Bucket=store.bucket, Key=name)
    except (ClientError, BotoCoreError) as error:
        return of_error("encryption", explain(error, f"{store.uri}/{key}"))
    kind, kms_key = reply.get("ServerSideEncryption"), reply.get("SSEKMSKeyId")
    if kind is None:
        return Finding("encryption", Status.OK, "none that the store tells of")
    return Finding("encryption", Status.OK, kind + (f" with {kms_key}; written and read" if kms_key else ""))
