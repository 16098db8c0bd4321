"""Files -> receipts -> `complete.json` -> older checkpoints go: what a rank's background process does.

    rank r    hash and write the files, then receipt-<r>.json
    rank 0    wait for all receipts, write complete.json, delete what need not be kept

No torch is imported here, and nothing is known about processes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from weave_data.errors import StoreError
from weave_data.storage import LocalStore, Store, sha256_of
from weave_train.checkpoint.layout import Completion, complete_key, complete_steps, step_key
from weave_train.checkpoint.pieces import Piece

__all__ = [
    "Retention",
    "SaveJob",
    "SnapshotFile",
    "apply_retention",
    "await_receipts",
    "commit",
    "save_part",
    "write_files",
]

_THREADS = 2
_POLL_SECONDS = (0.05, 1.0)
_STEP_KEY = re.compile(r"checkpoints/step-(\d{6,})/.+")


@dataclass(frozen=True)
class SnapshotFile:
    """A file as it lies in shared memory: `descriptor` of an anonymous file with all its bytes."""

    name: str
    kind: str
    bytes: int
    header_bytes: int
    descriptor: int


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay; see `config.CheckpointConfig`."""

    keep_last: int | None = None
    keep_every_steps: int | None = None


@dataclass(frozen=True)
class SaveJob:
    """One rank's part of a save.

    Attributes:
        attempt: Folder below the step's, the same on all ranks.
        rank: Whose part.
        completion: What rank 0 writes in the end; the same on all ranks.
        retention: What rank 0 deletes afterwards.
    """

    attempt: str
    rank: int
    completion: Completion
    retention: Retention

    @property
    def prefix(self) -> str:
        """Of the attempt's objects."""
        return f"{step_key(self.completion.step)}/{self.attempt}"


def save_part(
    store: Store, job: SaveJob, files: Sequence[SnapshotFile], *, on_written: Callable[[], None]
) -> None:
    """All of a rank's part; on rank 0 returns when the step is complete.

    Args:
        store: Of the run.
        job: What is saved.
        files: This rank's.
        on_written: Called when the files are no longer needed.

    Raises:
        StoreError: The store refused or can't be reached.
    """
    pieces = write_files(store, job.prefix, files, rank=job.rank, folder=job.attempt)
    receipt = json.dumps([asdict(piece) for piece in pieces]).encode()
    store.put_new(f"{job.prefix}/receipt-{job.rank:05d}.json", receipt)
    on_written()
    if job.rank == 0:
        commit(store, job, await_receipts(store, job))
        apply_retention(store, job.completion.step, job.retention)


def write_files(
    store: Store, prefix: str, files: Sequence[SnapshotFile], *, rank: int, folder: str
) -> list[Piece]:
    """Hash and write files; `Piece.file` is `folder/name`."""

    def write(file: SnapshotFile) -> Piece:
        with mmap.mmap(file.descriptor, file.bytes, prot=mmap.PROT_READ) as content:
            digest = _sha256(content)
        # opened anew by whoever writes it, so that offsets are not shared
        path = Path(f"/proc/self/fd/{file.descriptor}")
        committed = store.put_new(f"{prefix}/{file.name}", path, sha256=digest)
        if committed.sha256 != digest:
            raise StoreError(
                f"{store.uri}/{prefix}/{file.name}: another run wrote other bytes here; "
                "give each run its own directory and checkpoint.uri"
            )
        return Piece(
            f"{folder}/{file.name}" if folder else file.name,
            file.kind,
            rank,
            digest,
            file.bytes,
            file.header_bytes,
        )

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(write, files))


def await_receipts(store: Store, job: SaveJob) -> list[Piece]:
    """Files of all ranks, as soon as all of them have written theirs.

    Waits as long as it takes: a rank that failed ends the run, and this process with it.
    """
    pause, longest = _POLL_SECONDS
    while True:
        receipts = [info.key for info in store.list(f"{job.prefix}/receipt-")]
        if len(receipts) == job.completion.world_size:
            return [Piece(**values) for key in receipts for values in json.loads(store.get(key))]
        time.sleep(pause)
        pause = min(pause * 1.5, longest)


def commit(store: Store, job: SaveJob, pieces: Sequence[Piece]) -> None:
    """Make the step exist. Where it does already, another process of this run was first: ours goes."""
    step = job.completion.step
    content = job.completion.to_json(pieces)
    committed = store.put_new(complete_key(step), content)
    is_ours = committed.sha256 == sha256_of(content)
    attempts = {info.key.split("/")[2] for info in store.list(f"{step_key(step)}/")} - {"complete.json"}
    for attempt in attempts:
        if (attempt != job.attempt) == is_ours:
            _delete_below(store, f"{step_key(step)}/{attempt}")


def apply_retention(store: Store, step: int, retention: Retention) -> None:
    """Delete checkpoints that need not be kept, oldest first, and what killed saves left before `step`.

    A checkpoint stops being complete before its first file goes.
    """
    steps = complete_steps(store)
    kept = set(steps)
    if retention.keep_last is not None:
        every = retention.keep_every_steps
        kept = {s for s in steps if every is not None and s % every == 0} | set(steps[-retention.keep_last :])
    for old in steps:
        if old not in kept:
            _delete_step(store, old)
    lost = {
        int(found[1]) for info in store.list("checkpoints/step-") if (found := _STEP_KEY.fullmatch(info.key))
    }
    for old in sorted(lost - kept):
        if old < step:
            _delete_step(store, old)


def _delete_step(store: Store, step: int) -> None:
    store.delete(complete_key(step))
    _delete_below(store, step_key(step))


def _delete_below(store: Store, prefix: str) -> None:
    for key in [info.key for info in store.list(f"{prefix}/")]:
        store.delete(key)
    if isinstance(store, LocalStore):  # folders, and what killed writers hid in them
        shutil.rmtree(store.root / prefix, ignore_errors=True)


def _sha256(content: mmap.mmap) -> str:
    with memoryview(content) as view:
        return hashlib.sha256(view).hexdigest()
