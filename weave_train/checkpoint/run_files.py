"""A run's small files: kept beside its checkpoints, so that another machine can resume from the store alone.

config.json, config.yaml      every flag, the model's settings, the data set
tokenizer/, language/         as trained with
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weave_data.errors import VerificationError
from weave_data.storage import LocalStore, Store, sha256_of

__all__ = ["fetch_run_files", "publish_run_files", "read_run_file"]

_PREFIXES = ("config.json", "config.yaml", "tokenizer/", "language/")


def publish_run_files(run_dir: Path, store: Store) -> None:
    """Copy a run directory's files into its store, where that is another place. One rank.

    Raises:
        StoreError: The store refused or can't be reached.
    """
    if isinstance(store, LocalStore) and store.root.absolute() == run_dir.absolute():
        return
    for info in (info for prefix in _PREFIXES for info in LocalStore(run_dir).list(prefix)):
        data = (run_dir / info.key).read_bytes()
        stored = store.head(info.key)
        current = None if stored is None else stored.sha256 or sha256_of(store.get(info.key))
        if current != sha256_of(data):
            store.replace(info.key, data, expected=current)


def read_run_file(store: Store, key: str) -> dict[str, Any]:
    """One of a run's JSON files; empty where it is not there.

    Raises:
        VerificationError: It is no JSON object.
    """
    if not any(info.key == key for info in store.list(key)):
        return {}
    try:
        values = json.loads(store.get(key))
    except ValueError as error:
        raise VerificationError(f"{store.uri}/{key}: damaged: {error}; restore the file") from error
    if not isinstance(values, dict):
        raise VerificationError(f"{store.uri}/{key}: holds no JSON object; restore the file")
    return values


@contextlib.contextmanager
def fetch_run_files(store: Store) -> Iterator[Path]:
    """A local folder with a run's files: its own directory, or a copy for as long as it is needed.

    Raises:
        VerificationError: A name would lead out of the folder.
        StoreError: The store can't be read.
    """
    if isinstance(store, LocalStore):
        yield store.root
        return
    with tempfile.TemporaryDirectory(prefix="weave-run-") as scratch:
        folder = Path(scratch)
        for info in [info for prefix in _PREFIXES for info in store.list(prefix)]:
            path = folder / info.key
            if not path.resolve().is_relative_to(folder.resolve()):
                raise VerificationError(f"{store.uri}/{info.key}: not a name of a run's file; look at it")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.get(info.key))
        yield folder
