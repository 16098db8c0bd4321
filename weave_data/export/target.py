"""Where an export goes: a folder or prefix that belongs to one recipe in one format."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from weave_data.errors import ConfigError
from weave_data.shard import Manifest, manifest_sha256
from weave_data.storage import Store, commit_exact

__all__ = ["MARKER", "claim", "commit_array", "to_json"]

MARKER = "export.json"
"""Says what a folder holds; the first object an export writes."""


def claim(target: Store, manifest: Manifest, export_format: str) -> None:
    """Take an empty folder for an export, or find that it holds the same export already.

    Args:
        target: Where the export goes.
        manifest: What is exported.
        export_format: Into which form.

    Raises:
        ConfigError: Something else lies there.
        StoreError: The folder can't be read or written.
    """
    ours = {
        "format": export_format,
        "recipe": manifest.recipe,
        "manifest_sha256": manifest_sha256(manifest),
        "fingerprint": manifest.fingerprint,
    }
    if next(iter(target.list("")), None) is None:
        commit_exact(target, MARKER, to_json(ours))
        return
    if target.head(MARKER) is None:
        raise ConfigError(
            f"{target.uri}: is not empty and holds no export; choose an empty or a new directory"
        )
    theirs = _read_marker(target)
    if theirs != ours:
        said = f"{theirs.get('format')} export of recipe {theirs.get('recipe')}"
        raise ConfigError(
            f"{target.uri}: holds the {said}, manifest sha256 {theirs.get('manifest_sha256')}; this is the "
            f"{export_format} export of {manifest.recipe}, {ours['manifest_sha256']}; choose another folder"
        )


def _read_marker(target: Store) -> Mapping[str, Any]:
    try:
        values = json.loads(target.get(MARKER))
    except ValueError as error:
        raise ConfigError(
            f"{target.uri}/{MARKER}: can't be read ({error}); choose another directory"
        ) from error
    return values if isinstance(values, dict) else {}


def to_json(value: Any) -> bytes:
    """JSON as people read it, with a line break at its end."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def commit_array(target: Store, key: str, records: Iterable[Mapping[str, Any]]) -> int:
    """Commit a JSON array, indented by two, holding one record in memory at a time.

    Returns:
        How many records it has.
    """
    count = 0
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        path = Path(scratch) / "array.json"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write("[")
            for count, record in enumerate(records, start=1):
                text = json.dumps(record, indent=2, ensure_ascii=False).replace("\n", "\n  ")
                file.write(("," if count > 1 else "") + "\n  " + text)
            file.write("\n]\n" if count else "]\n")
        commit_exact(target, key, path)
    return count
