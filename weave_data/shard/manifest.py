"""The manifest: what a woven data set is, in one deterministic JSON.

Two builds of the same thing write the same manifest, so one hash decides every claim of identity.
No path, host, clock or credential enters it; shard paths are relative to the output.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weave_data.errors import VerificationError
from weave_data.records import SCHEMA_VERSION, StageCount, canonical_json
from weave_data.tables import sha256_hex

__all__ = [
    "Difference",
    "Manifest",
    "ShardEntry",
    "first_difference",
    "make_fingerprint",
    "manifest_sha256",
    "parse_manifest",
]


@dataclass(frozen=True)
class ShardEntry:
    """One shard: where it is, what it holds, its sum, and where its footer begins.

    `path` is relative to the output; the footer is `[footer_offset, footer_offset + footer_bytes)`
    and ends with the file.
    """

    path: str
    split: str
    epoch: int
    rows: int
    bytes: int
    sha256: str
    footer_offset: int
    footer_bytes: int


@dataclass(frozen=True)
class Manifest:
    """A published recipe.

    Attributes:
        recipe: Name; the directory below the output.
        configuration: Resolved semantic settings (`BuildConfig.semantic`), nested.
        inputs: Identities the bytes depend on: stage keys and sha256 of committed files.
        row_group_rows: Rows of every full row group.
        shard_rows: Rows of every full shard.
        totals: Accounting of each stage, in flow order; every one balances.
        shards: In reading order: split, epoch, index.
        weights_sha256: Of each model the build ran, by role; empty when none ran.
        float_stages: What float stages ran on: package versions, device.
        fingerprint: 64 hex digits over schema, configuration and inputs.
        schema_version: `records.SCHEMA_VERSION` at the time of the build.
    """

    recipe: str
    configuration: Mapping[str, Any]
    inputs: Mapping[str, Any]
    row_group_rows: int
    shard_rows: int
    totals: tuple[StageCount, ...]
    shards: tuple[ShardEntry, ...]
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    float_stages: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", make_fingerprint(self.configuration, self.inputs))

    @property
    def pixels(self) -> str:
        """`inline`, or `reference` when the shards hold addresses into the frame tars beside them."""
        recipe = self.configuration.get("recipe")
        return str(recipe.get("pixels", "inline")) if isinstance(recipe, Mapping) else "inline"

    @property
    def num_rows(self) -> int:
        """Woven samples over all splits and epochs."""
        return sum(shard.rows for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def select(self, *, split: str, epoch: int = 0) -> tuple[ShardEntry, ...]:
        """Shards of one split and epoch, in reading order."""
        return tuple(shard for shard in self.shards if (shard.split, shard.epoch) == (split, epoch))

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict; `parse_manifest` is the inverse of its canonical JSON."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["totals"] = [count.to_json() for count in self.totals]
        values["shards"] = [dataclasses.asdict(shard) for shard in self.shards]
        return values

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal manifests are equal bytes."""
        return canonical_json(self.to_json())


@dataclass(frozen=True)
class Difference:
    """One setting on which two builds disagree; `None` where a side lacks it."""

    path: str
    theirs: Any
    ours: Any


def make_fingerprint(configuration: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """64 hex digits over schema version, resolved settings and input identities.

    Known before any shard is written, so it can name their directory.
    """
    return sha256_hex(
        canonical_json(
            {
                "stage": "manifest",
                "schema": SCHEMA_VERSION,
                "configuration": dict(configuration),
                "inputs": dict(inputs),
            }
        )
    )


def manifest_sha256(manifest: Manifest) -> str:
    """Sum of the manifest's bytes: equal means the same data set, byte for byte."""
    return sha256_hex(manifest.to_bytes())


def parse_manifest(data: bytes, *, name: str) -> Manifest:
    """Read a manifest's JSON.

    Args:
        data: Its bytes.
        name: Where it came from, for messages.

    Raises:
        VerificationError: Not a manifest, or of another schema version.
    """
    try:
        values = json.loads(data)
        version = values["schema_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise VerificationError(f"{name}: not a weave_data manifest ({error})") from error
    if version != SCHEMA_VERSION:
        raise VerificationError(
            f"{name}: schema version {version!r}, this version of weave_data reads {SCHEMA_VERSION}; "
            "build the recipe again or install the version that wrote it"
        )
    try:
        values["totals"] = tuple(StageCount.from_json(count) for count in values["totals"])
        values["shards"] = tuple(ShardEntry(**shard) for shard in values["shards"])
        return Manifest(**values)
    except (TypeError, KeyError) as error:
        raise VerificationError(f"{name}: the manifest is damaged ({error}); build again") from error


def first_difference(theirs: Any, ours: Any, *, path: str = "") -> Difference | None:
    """First setting, in sorted dotted order, on which two nested settings disagree.

    `1` and `1.0` are equal, `1` and `true` are not; a key that one side lacks counts as `None`.
    """
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        pairs = [(key, theirs.get(key), ours.get(key)) for key in sorted({*theirs, *ours})]
    elif _are_lists(theirs, ours) and len(theirs) == len(ours):
        pairs = [(str(index), *pair) for index, pair in enumerate(zip(theirs, ours, strict=True))]
    else:
        is_same = theirs == ours and isinstance(theirs, bool) == isinstance(ours, bool)
        return None if is_same else Difference(path, theirs, ours)
    for key, their_value, our_value in pairs:
        found = first_difference(their_value, our_value, path=f"{path}.{key}" if path else key)
        if found is not None:
            return found
    return None


def _are_lists(theirs: Any, ours: Any) -> bool:
    return isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple))
