"""`weave-data retry`: take back the refusal of some clips, so that the next build tries them again.

    retries/<n>.json   {"reason": ..., "stage": ..., "clip_ids": [...]}, numbered from 1, never changed

Every retry has the source listed afresh (the number of retries enters the catalog's key), as a mended
file has another size; a decode reason also makes the build decode these clips into a new layer. What is
retried is an input of the data set (`retry_identity`): where it changes nothing the samples are the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from weave_data.errors import ConfigError
from weave_data.records import REJECT_SCHEMA, canonical_json
from weave_data.storage import Store
from weave_data.tables import read_table_bytes, sha256_hex
from weave_data.upkeep.outputs import current_manifests

__all__ = ["Retry", "catalog_round", "retry_clips", "retry_identity", "retry_rounds", "rewrite_retries"]

_NOT_RETRIED = {
    "too_short": "is decided by a recipe: ask for fewer frames in frames_per_sample",
    "empty_caption": "is in the source's captions: correct them, a changed file is a new catalog by itself",
}


@dataclass(frozen=True)
class Retry:
    """What was written: which object, how many clips, of which stages."""

    key: str
    reason: str
    stages: tuple[str, ...]
    num_clips: int

    def lines(self) -> list[str]:
        """What the command line prints."""
        listed = "; the source is listed again" if "catalog" in self.stages else ""
        return [
            f"{self.num_clips} clips refused as {self.reason} will be tried again ({self.key}){listed}",
            "next: weave-data build CONFIG.yaml --replace   (the same configuration)",
        ]


def retry_clips(store: Store, *, reason: str) -> Retry:
    """Write down that the clips refused for a reason shall be tried again.

    Args:
        store: The output.
        reason: As in the rejects list, for instance `corrupt`.

    Raises:
        ConfigError: No clip is refused for it, or trying again can't change it.
        VerificationError: Nothing is published.
    """
    if reason in _NOT_RETRIED:
        raise ConfigError(f"--reason {reason}: {_NOT_RETRIED[reason]}")
    found: dict[str, str] = {}
    known: Counter[str] = Counter()
    for manifest in current_manifests(store):
        name = f"rejects/{manifest.fingerprint}.parquet"
        if store.head(name) is None:
            continue
        table = read_table_bytes(store.get(name), schema=REJECT_SCHEMA)
        known.update(table["reason"].to_pylist())
        ours = table.filter(pc.equal(table["reason"], reason))
        found.update(zip(ours["clip_id"].to_pylist(), ours["stage"].to_pylist(), strict=True))
    if not found:
        listed = ", ".join(sorted(set(known) - set(_NOT_RETRIED))) or "none"
        raise ConfigError(f"{store.uri}: no clip is refused as {reason!r}; reasons to retry: {listed}")
    asked = set(found.values())
    if "decode" in asked:
        asked.add("catalog")  # a mended file has another size, and the catalog holds the old one
    stages = tuple(sorted(asked))
    key = _put_next(store, {"reason": reason, "stages": stages, "clip_ids": sorted(found)})
    return Retry(key, reason, stages, len(found))


def rewrite_retries(store: Store, clip_ids: frozenset[str]) -> None:
    """Write retries anew without some clips, under new numbers; rounds are counted, so they stay."""
    for number, values in list(_retries(store)):
        if clip_ids.intersection(values["clip_ids"]):
            kept = [name for name in values["clip_ids"] if name not in clip_ids]
            if kept or "catalog" in values["stages"]:
                _put_next(store, {**values, "clip_ids": kept})
            store.delete(f"retries/{number}.json")


def _put_next(store: Store, values: dict[str, Any]) -> str:
    number = max((number for number, _ in _retries(store)), default=0) + 1
    while not store.put_new(f"retries/{number}.json", canonical_json(values)).is_ours:
        number += 1  # somebody else retries at this moment
    return f"retries/{number}.json"


def _retries(store: Store) -> Iterator[tuple[int, dict[str, Any]]]:
    for info in store.list("retries/"):
        number = info.key.removeprefix("retries/").removesuffix(".json")
        if number.isdigit():
            yield int(number), json.loads(store.get(info.key))


def retry_rounds(store: Store) -> dict[str, int]:
    """How often each clip that decoding refused was taken back: what `DecodeRequest.retries` wants."""
    rounds: Counter[str] = Counter()
    for _, values in _retries(store):
        if set(values["stages"]) - {"catalog"}:
            rounds.update(values["clip_ids"])
    return dict(rounds)


def catalog_round(store: Store) -> int:
    """How often the source's listing was taken back; part of the catalog's key when it is not 0."""
    return sum("catalog" in values["stages"] for _, values in _retries(store))


def retry_identity(store: Store) -> str | None:
    """sha256 over all that is retried, for a manifest's inputs; None when nothing is."""
    rounds, listings = retry_rounds(store), catalog_round(store)
    if not rounds and not listings:
        return None
    return sha256_hex(canonical_json({"clips": rounds, "listings": listings}))
