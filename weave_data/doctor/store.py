"""Is an output writable the way a build writes it, is a source readable: tried with one small object.

The object is `runs/probe-<32 hex digits>`, the name that `weave-data build` and `gc` use for theirs; it is
removed again, and the finding says so.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence

from weave_data.doctor.credentials import find_credentials
from weave_data.doctor.finding import Finding, Status, of_error
from weave_data.doctor.s3_probe import judge_encryption, judge_overwrite, reach
from weave_data.errors import StoreError, WeaveError
from weave_data.storage import LocalStore, S3Store, SourceRoot, Store, open_source, open_store

__all__ = ["probe_catalog", "probe_output", "probe_source", "without_repetition"]

_CONTENT, _OTHER = b"weave doctor", b"not the first writer"


def probe_output(uri: str, *, check: str = "output") -> list[Finding]:
    """Write, write again under the same name, read, replace under a wrong condition, remove."""
    try:
        store = open_store(uri)
    except WeaveError as error:
        return [of_error(check, error)]
    findings: list[Finding] = []
    if isinstance(store, S3Store):
        findings = _reach_s3(store)
        if any(finding.status is Status.FAIL for finding in findings):
            return findings
    with _no_folder_left(store):
        return [*findings, *_probe(store, check)]


def _probe(store: Store, check: str) -> list[Finding]:
    findings: list[Finding] = []
    key = f"runs/probe-{uuid.uuid4().hex}"
    try:
        store.check()
        committed = store.put_new(key, _CONTENT)
    except WeaveError as error:
        return [_refused(check, error)]
    try:
        findings += _look_at_probe(store, key, is_ours=committed.is_ours, check=check)
    except WeaveError as error:
        findings.append(of_error(check, error))
    finally:
        left = _remove(store, key, check)
    return [*findings, *left]


@contextlib.contextmanager
def _no_folder_left(store: Store) -> Iterator[None]:
    """Remove folders that the probe of a local output made, as far as they are empty."""
    folder = store.root / "runs" if isinstance(store, LocalStore) else None
    made = [] if folder is None else [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not made, or somebody else uses it by now
            for path in made:
                path.rmdir()


def _reach_s3(store: S3Store) -> list[Finding]:
    credentials = find_credentials()
    if credentials.status is Status.FAIL:
        return [credentials]
    return [credentials, *reach(store).findings]


def _look_at_probe(store: Store, key: str, *, is_ours: bool, check: str) -> list[Finding]:
    findings = []
    second = store.put_new(key, _OTHER)
    stored = store.get(key)
    if not is_ours or second.is_ours or stored != _CONTENT:
        found = "a second writer replaced the first one's object: If-None-Match is not honoured"
        remedy = (
            "use a store with conditional writes (AWS, Ceph, MinIO): two builds at once are not safe here"
        )
        findings.append(Finding("conditional put", Status.FAIL, found, remedy))
    else:
        findings.append(Finding("conditional put", Status.OK, "the first writer wins"))
    if store.get_range(key, 0, 5) != stored[:5]:
        remedy = "look at the proxies before the store"
        findings.append(Finding(check, Status.FAIL, "a range of bytes came back as something else", remedy))
    if isinstance(store, S3Store):
        findings += [judge_overwrite(store, key), judge_encryption(store, key)]
    found = f"{store.uri}: listed; {key} written, read and removed again"
    return [Finding(check, Status.OK, found), *findings]


def _refused(check: str, error: WeaveError) -> Finding:
    if "kms" in str(error).lower():
        found = str(error).partition(";")[0]
        remedy = "grant kms:GenerateDataKey and kms:Decrypt on the bucket's key, and check that it is enabled"
        return Finding("encryption", Status.FAIL, found, remedy)
    return of_error(check, error)


def _remove(store: Store, key: str, check: str) -> list[Finding]:
    try:
        store.delete(key)
    except StoreError as error:
        remedy = "grant s3:DeleteObject, and remove it (`weave-data gc` does after a day)"
        return [Finding(check, Status.WARN, f"{store.uri}/{key} stays: {error}", remedy)]
    return []


def probe_source(uri: str, *, check: str = "source") -> list[Finding]:
    """List a foreign root, and read the first byte of its first file: one right does not bring the other."""
    try:
        root = open_source(uri)
        if root.scheme == "s3":
            store = S3Store(root.bucket, root.prefix, readonly=True)
            findings = _reach_s3(store)
            if any(finding.status is Status.FAIL for finding in findings):
                return findings
            return [*findings, _read_one(root, check)]
        return [_read_one(root, check)]
    except WeaveError as error:
        return [of_error(check, error)]


def _read_one(root: SourceRoot, check: str) -> Finding:
    root.check()
    first = next((item for item in root.list() if item.size_bytes), None)
    if first is None:
        return of_error(check, f"{root.uri}: holds only empty files; correct the address")
    root.read_range(first.key, 0, 1)
    return Finding(check, Status.OK, f"{root.uri}: listed, {first.key} read")


def probe_catalog(uri: str) -> Finding:
    """Is there a file of this name, or a folder that holds some?"""
    folder, _, name = uri.rstrip("/").rpartition("/")
    try:
        root = open_source(folder or ".")
        if root.size(name) is None and next(open_source(uri).list(), None) is None:
            return of_error("catalog", f"{uri}: no such file; correct source.catalog")
    except WeaveError as error:
        return of_error("catalog", error)
    return Finding("catalog", Status.OK, f"{uri}: there")


def without_repetition(more: Sequence[Finding], known: Sequence[Finding]) -> list[Finding]:
    """Findings of another store, those left out that tell of the same account and server."""
    said = {finding.check for finding in known if finding.check in ("credentials", "clock")}
    whole = {(finding.check, finding.found) for finding in known}
    return [
        finding
        for finding in more
        if finding.check not in said and (finding.check, finding.found) not in whole
    ]
