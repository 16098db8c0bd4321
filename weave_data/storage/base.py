"""What a store promises, whichever medium it is on.

A committed object never changes: `put_new` is conditional and the first writer wins. Only
`replace` changes an object, and only from content the caller names by its sha256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from weave_data.errors import CommitError, StoreError

__all__ = [
    "MAX_OBJECT_BYTES",
    "Committed",
    "ObjectInfo",
    "RangeReader",
    "RequestLimits",
    "Store",
    "check_key",
    "check_range",
    "check_size",
    "commit_exact",
    "commit_first",
    "sha256_of",
]

MAX_OBJECT_BYTES = 1 << 30
"""One PUT each: conditional completion of multipart uploads is not enforced everywhere."""

_MAX_COMPONENT_BYTES = 180
"""Of 255 on common file systems; the rest is for the names `LocalStore` derives from a key."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ObjectInfo:
    """One object as listed or looked up.

    Attributes:
        key: Relative to the store's root, `/` between components.
        size_bytes: Its length.
        etag: Opaque, without quotes; None on local disk.
        sha256: Hex digits; None when not known without reading the object (listings, foreign objects).
        modified: When it was written, seconds since 1970 on the store's clock; None when not known.
            For ages shown to people and for what is too young to delete, never for data.
    """

    key: str
    size_bytes: int
    etag: str | None = None
    sha256: str | None = None
    modified: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Committed:
    """What lies under a key after `put_new`.

    Attributes:
        key: As given.
        sha256: Of the *stored* bytes, which are another writer's when `is_ours` is False.
        size_bytes: Of the stored bytes.
        is_ours: This call wrote them (also when the store's reply was lost on the way).
    """

    key: str
    sha256: str
    size_bytes: int
    is_ours: bool


@dataclass(frozen=True)
class RequestLimits:
    """How long one read may take, for callers that make their own retries.

    Attributes:
        attempts: How often the request is made, the first time included.
        idle_seconds: Longest wait for the next byte.
        total_seconds: Longest wait for the whole body once the reply has begun.
    """

    attempts: int
    idle_seconds: float
    total_seconds: float


class RangeReader(Protocol):
    """The part of a `Store` that reading a shard needs."""

    @property
    def uri(self) -> str:
        """See `Store.uri`."""
        ...

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """See `Store.get_range`."""
        ...


class Store(Protocol):
    """An output: five verbs and one compare-and-swap. Picklable; every method is thread-safe.

    Every method raises StoreError, in one line, when the store refuses or can't be reached.
    """

    @property
    def uri(self) -> str:
        """Where the root is; shown in messages, never stored in data."""
        ...

    def check(self, *, write: bool = False) -> None:
        """Make sure that the root can be used, before any work.

        Args:
            write: Also write and delete a small object under `runs/`.

        Raises:
            SourceError: Not reachable, refused, no such bucket, or a read-only root that holds nothing.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Stream the objects whose key starts with `prefix`, by ascending UTF-8 key."""
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Look one object up; None when it is not there."""
        ...

    def get(self, key: str) -> bytes:
        """Read a whole object; one that is not there is a StoreError."""
        ...

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes [start, stop): exactly `stop - start` of them, or StoreError."""
        ...

    def put_new(self, key: str, data: bytes | Path, *, sha256: str | None = None) -> Committed:
        """Write an object that must not exist yet; the first writer wins.

        Args:
            key: Where; see `check_key`.
            data: The bytes, or a file that holds them; at most `MAX_OBJECT_BYTES`.
            sha256: Of `data`, when the caller has it already.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when it is not there."""
        ...

    def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
        """Swap an object's content if it is still what the caller has seen.

        Content that is `data` already counts as done, whoever wrote it.

        Args:
            key: Which object.
            data: The new content.
            expected: sha256 of the content to be replaced; None: the object must not exist.

        Raises:
            ConflictError: The object holds something else.
        """
        ...


def commit_exact(store: Store, key: str, data: bytes | Path, *, sha256: str | None = None) -> Committed:
    """Commit a file of an exact stage: whoever writes it must write the same bytes.

    Raises:
        CommitError: Other bytes are committed under this key.
    """
    ours = sha256 or sha256_of(data)
    committed = store.put_new(key, data, sha256=ours)
    if committed.sha256 != ours:
        raise CommitError(
            f"{store.uri}/{key}: committed with sha256 {committed.sha256}, this run computed {ours}; an "
            "exact stage must give the same bytes: compare package versions with constraints.txt, or use "
            "a new output"
        )
    return committed


def commit_first(store: Store, key: str, data: bytes | Path, *, sha256: str | None = None) -> Committed:
    """Commit a file of a float stage: the first writer's bytes become the data, ours are dropped."""
    return store.put_new(key, data, sha256=sha256)


def check_key(key: str) -> str:
    """Return `key` if it is a clean relative name.

    Components are separated by single slashes, hold no backslash or control character, don't start
    with a dot (unfinished files of the local store do, so that no listing shows them) and are at
    most 180 bytes long.

    Raises:
        StoreError: It is not; the message names the rule.
    """
    components = key.split("/")
    if not all(components) or any(component.startswith(".") for component in components):
        raise StoreError(f"key {key!r}: components must not be empty or start with '.'; choose another name")
    if "\\" in key or any(ord(character) < 32 for character in key):
        raise StoreError(f"key {key!r}: backslashes and control characters are refused; choose another name")
    if any(len(component.encode()) > _MAX_COMPONENT_BYTES for component in components):
        raise StoreError(f"key {key!r}: a component is longer than {_MAX_COMPONENT_BYTES} bytes; shorten it")
    return key


def check_range(key: str, start: int, stop: int) -> int:
    """Return the length of [start, stop) or raise StoreError when it is not a range."""
    if not 0 <= start <= stop:
        raise StoreError(f"{key}: [{start}, {stop}) is not a byte range; 0 <= start <= stop must hold")
    return stop - start


def check_size(key: str, data: bytes | Path) -> int:
    """Return the length of `data` or raise StoreError when one PUT can't hold it."""
    size_bytes = len(data) if isinstance(data, bytes) else data.stat().st_size
    if size_bytes > MAX_OBJECT_BYTES:
        raise StoreError(
            f"{key}: {size_bytes} bytes; objects are at most {MAX_OBJECT_BYTES} so that one conditional PUT "
            "holds them; lower part_clips or shard_rows"
        )
    return size_bytes


def sha256_of(data: bytes | Path) -> str:
    """Hex sha256 of bytes or of a file."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()
    with data.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
