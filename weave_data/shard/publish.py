"""Publish a manifest, and find it again.

    <recipe>/manifests/<fingerprint>.json   immutable, committed first
    <recipe>/manifest.json                  a copy of the current one, replaced by compare-and-swap

A recipe that is published with other settings is a conflict, said with the first setting that
differs. A preview (`--limit N`) gives way to a build that differs from it in the limit only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from weave_data.errors import ConflictError, VerificationError
from weave_data.records import RESERVED_NAMES
from weave_data.shard.manifest import Difference, Manifest, first_difference, parse_manifest
from weave_data.storage import Store, commit_exact
from weave_data.tables import sha256_hex

__all__ = [
    "check_settings",
    "current_key",
    "immutable_key",
    "is_output",
    "list_recipes",
    "publish",
    "read_manifest",
]

_MAX_RACES = 5


def current_key(recipe: str) -> str:
    """Key of the manifest a recipe shows now."""
    return f"{recipe}/manifest.json"


def immutable_key(recipe: str, fingerprint: str) -> str:
    """Key of the manifest that never changes."""
    return f"{recipe}/manifests/{fingerprint}.json"


def publish(store: Store, manifest: Manifest, *, replace: bool = False) -> bool:
    """Make `manifest` the current one of its recipe.

    Args:
        store: The output; every shard of the manifest is committed already.
        manifest: What was built.
        replace: Take the recipe's name from a build with other settings.

    Returns:
        True when `manifest.json` changed, False when this very manifest was current.

    Raises:
        ConflictError: The recipe is published with other settings.
        CommitError: This fingerprint is committed with other shards or totals.
    """
    data = manifest.to_bytes()
    commit_exact(store, immutable_key(manifest.recipe, manifest.fingerprint), data)
    key = current_key(manifest.recipe)
    for attempt in range(_MAX_RACES):
        current = store.get(key) if store.head(key) is not None else None
        if current == data:
            return False
        if current is not None and not replace:
            _check_supersedes(_settings_of(current, name=key), manifest)
        try:
            store.replace(key, data, expected=None if current is None else sha256_hex(current))
        except ConflictError:
            if attempt + 1 == _MAX_RACES:
                raise
        else:
            return True
    raise AssertionError("unreachable")


def check_settings(
    store: Store, *, recipe: str, configuration: Mapping[str, Any], replace: bool = False
) -> None:
    """Find a conflict before any work: same rule as `publish`, settings only.

    Raises:
        ConflictError: The recipe is published with other settings.
    """
    key = current_key(recipe)
    if replace or store.head(key) is None:
        return
    theirs = _settings_of(store.get(key), name=key)["configuration"]
    found = first_difference(theirs, configuration)
    if found is not None and not _differs_in_limit_only(theirs, configuration):
        raise _conflict(recipe, found)


def read_manifest(store: Store, recipe: str, *, fingerprint: str | None = None) -> Manifest:
    """The current manifest of a recipe, or the one with a fingerprint.

    Raises:
        VerificationError: There is none, or it can't be read; the message names the recipes there are.
    """
    key = current_key(recipe) if fingerprint is None else immutable_key(recipe, fingerprint)
    if store.head(key) is None:
        # a mistyped address may be a whole bucket: only an output is worth listing
        known = ", ".join(list_recipes(store)) if is_output(store) else "none"
        raise VerificationError(f"{store.uri}: no {key}; published recipes: {known or 'none'}")
    return parse_manifest(store.get(key), name=f"{store.uri}/{key}")


def is_output(store: Store, folder: str = "") -> bool:
    """True when a build has stored frames below `folder` (which ends with a slash)."""
    return next(iter(store.list(f"{folder}frames/")), None) is not None


def list_recipes(store: Store) -> tuple[str, ...]:
    """Names of the published recipes of an output, sorted."""
    found = set()
    for info in store.list(""):
        name, _, rest = info.key.partition("/")
        if rest == "manifest.json" and name not in RESERVED_NAMES:
            found.add(name)
    return tuple(sorted(found))


def _settings_of(data: bytes, *, name: str) -> dict[str, Any]:
    """What a published manifest was built from; also of another schema version, to name the conflict."""
    try:
        values = json.loads(data)
        return {
            "schema_version": values["schema_version"],
            "configuration": values["configuration"],
            "inputs": values["inputs"],
            "fingerprint": values["fingerprint"],
        }
    except (ValueError, TypeError, KeyError) as error:
        raise VerificationError(
            f"{name}: the published manifest is damaged ({error}); --replace overwrites it"
        ) from error


def _check_supersedes(theirs: Mapping[str, Any], manifest: Manifest) -> None:
    ours = {
        "schema_version": manifest.schema_version,
        "configuration": manifest.configuration,
        "inputs": manifest.inputs,
    }
    if theirs["fingerprint"] == manifest.fingerprint:
        return
    # inputs follow from settings: a preview's catalog differs because its limit does
    if _differs_in_limit_only(theirs["configuration"], manifest.configuration):
        return
    for part in ("schema_version", "configuration", "inputs"):
        prefix = "" if part == "configuration" else part
        found = first_difference(theirs[part], ours[part], path=prefix)
        if found is not None:
            raise _conflict(manifest.recipe, found)
    raise _conflict(manifest.recipe, Difference("fingerprint", theirs["fingerprint"], manifest.fingerprint))


def _differs_in_limit_only(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """True when theirs is a preview and dropping both limits makes the settings equal."""
    limit = _limit(theirs)
    if limit is None or _limit(ours) == limit:
        return False
    return first_difference(_without_limit(theirs), _without_limit(ours)) is None


def _limit(configuration: Mapping[str, Any]) -> Any:
    source = configuration.get("source")
    return source.get("limit") if isinstance(source, Mapping) else None


def _without_limit(configuration: Mapping[str, Any]) -> dict[str, Any]:
    source = dict(configuration.get("source", {}))
    source.pop("limit", None)
    return {**configuration, "source": source}


def _conflict(recipe: str, found: Difference) -> ConflictError:
    return ConflictError(
        f"recipe {recipe}: published with {found.path} = {_show(found.theirs)}, "
        f"this build has {_show(found.ours)}; use --replace or another recipe name"
    )


def _show(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
