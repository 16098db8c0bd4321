"""From an address to a store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from urllib.parse import unquote, urlsplit

from weave_data.errors import StoreError
from weave_data.foreign_text import redact
from weave_data.storage.base import RangeReader, RequestLimits, Store
from weave_data.storage.local import LocalStore
from weave_data.storage.s3 import S3Store

__all__ = ["limit_reads", "open_store", "split_uri"]


def open_store(uri: str, *, readonly: bool = False) -> Store:
    """Open an output; nothing is contacted until it is used (`Store.check` does so on purpose).

    Args:
        uri: `s3://bucket/prefix`, `file:///folder`, or a path.
        readonly: Refuse every write.

    Raises:
        StoreError: The address is of no kind we can write to.
    """
    match split_uri(uri):
        case ("s3", bucket, prefix):
            return S3Store(bucket, prefix, readonly)
        case ("file", _, path):
            return LocalStore(Path(path), readonly)
        case (scheme, _, _):
            raise StoreError(f"{uri}: {scheme}:// is not a store; use s3://bucket/prefix or a local path")


def limit_reads(store: Store, limits: RequestLimits) -> RangeReader:
    """The same store with other limits of reads; a local one has none to set."""
    return dataclasses.replace(store, limits=limits) if isinstance(store, S3Store) else store


def split_uri(uri: str) -> tuple[str, str, str]:
    """Split an address into scheme (`file` for plain paths), bucket and prefix or absolute path.

    Raises:
        StoreError: It is empty, has no bucket, or holds credentials for one.
    """
    if not uri:
        raise StoreError("the address is empty; use s3://bucket/prefix or a local path")
    if "://" not in uri:
        return "file", "", str(Path(uri).expanduser().absolute())
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost"):
            raise StoreError(f"{uri}: file addresses name no host; write file:///{parts.netloc}{parts.path}")
        return "file", "", str(Path(unquote(parts.path)).absolute())
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise StoreError(f"{uri}: no bucket; write {scheme}://bucket/prefix")
    if scheme == "s3" and "@" in bucket:
        raise StoreError(
            f"{redact(uri)}: an address names a bucket, no credentials; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"
        )
    return scheme, bucket, prefix.strip("/")
