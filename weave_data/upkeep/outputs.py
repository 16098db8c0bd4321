"""What lies in an output: its manifests, and the intermediate files that their inputs name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import RESERVED_NAMES
from weave_data.shard import Manifest, list_recipes, parse_manifest, read_manifest
from weave_data.storage import ObjectInfo, Store

__all__ = [
    "CatalogEntry",
    "all_manifests",
    "catalog_entries",
    "current_manifests",
    "flat_values",
    "input_catalogs",
    "stored_inputs",
]


@dataclass(frozen=True)
class CatalogEntry:
    """One part of a committed catalog: its name, how many clips it has, the key of its file."""

    part: str
    num_clips: int
    key: str


def current_manifests(store: Store, recipe: str | None = None) -> list[Manifest]:
    """The manifests an output shows now, by recipe.

    Raises:
        ConfigError: No such recipe.
        VerificationError: Nothing is published.
    """
    known = list_recipes(store)
    if not known:
        raise VerificationError(f"{store.uri}: no published recipe; is this an OUTPUT of weave-data build?")
    if recipe is not None and recipe not in known:
        raise ConfigError(f"{store.uri}: no recipe {recipe!r}; published recipes: {', '.join(known)}")
    return [read_manifest(store, name) for name in ([recipe] if recipe else known)]


def all_manifests(store: Store, keys: Iterator[str]) -> Iterator[tuple[str, Manifest]]:
    """Manifests among `keys`, current and immutable ones, each with its key.

    Raises:
        VerificationError: One can't be read: what it refers to is not known, so nothing is safe.
    """
    for key in keys:
        parts = key.split("/")
        if parts[0] in RESERVED_NAMES or not key.endswith(".json"):
            continue
        if parts[1:] == ["manifest.json"] or (len(parts) == 3 and parts[1] == "manifests"):
            yield key, parse_manifest(store.get(key), name=f"{store.uri}/{key}")


def flat_values(value: Any) -> Iterator[str]:
    """Every string within nested inputs."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from flat_values(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from flat_values(item)
    elif isinstance(value, str):
        yield value


def stored_inputs(store: Store, manifest: Manifest, name: str) -> list[ObjectInfo] | None:
    """The stored files of one input of a recipe, `plans` or `groups`: one an epoch, in order.

    Returns:
        None when the inputs name none, or one that they name is gone.
    """
    found = []
    for key, _ in manifest.inputs.get(name, ()):
        info = next(iter(store.list(key)), None)
        if info is None or info.key != key:
            return None
        found.append(info)
    return found or None


def input_catalogs(manifest: Manifest) -> tuple[str, ...]:
    """Keys of the catalogs a recipe was built over."""
    return tuple(flat_values(manifest.inputs.get("catalog", ())))


def catalog_entries(store: Store, key: str) -> list[CatalogEntry]:
    """Parts of a committed catalog, in its order; empty when it is not there.

    Raises:
        VerificationError: `catalog.json` is not a catalog.
    """
    name = f"catalog/{key}/catalog.json"
    if store.head(name) is None:
        return []
    try:
        parts = json.loads(store.get(name))["parts"]
        return [
            CatalogEntry(part["name"], part["num_clips"], f"catalog/{key}/{part['name']}.parquet")
            for part in parts
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationError(f"{store.uri}/{name}: not a catalog ({error}); delete it") from error
