"""`weave-data status`: how far a build is, from the store alone, whether it lives, ended or died.

    runs/        which run, when it was last seen, what it says of its stages
    catalog/     parts there are, rows refused
    frames/      parts decoded (a complete layer), clips refused and why
    embeddings/  parts with vectors
    plans/, <recipe>/   shards planned, shards written

Rates come from the times the store gives its objects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from weave_data.config import BuildConfig, load_config
from weave_data.decode import frames_key
from weave_data.embed import caption_embed_key, embed_key, embedder_identity
from weave_data.errors import ConfigError, DeviceError
from weave_data.shard import list_recipes, read_manifest
from weave_data.storage import Store
from weave_data.upkeep.binding import Binding, find_binding
from weave_data.upkeep.inventory import Inventory, decode_rejects, planned_shards, take_inventory
from weave_data.upkeep.outputs import catalog_entries
from weave_data.upkeep.run_records import RunRecord, read_runs

__all__ = ["OutputStatus", "StageStatus", "read_status"]

_WINDOW_SECONDS = 1800  # of the rate; long enough for parts that take minutes


@dataclass(frozen=True)
class StageStatus:
    """One stage: `done` of `total` files; `total` is None while it is not known.

    `per_minute` and `eta_seconds` are None where too little was done to say.
    """

    stage: str
    done: int
    total: int | None
    unit: str
    per_minute: float | None = None
    eta_seconds: float | None = None

    @property
    def is_done(self) -> bool:
        """True when nothing is left."""
        return self.total is not None and self.done >= self.total


@dataclass(frozen=True)
class OutputStatus:
    """What the store says of a build.

    Attributes:
        output: Its address.
        state: `running`, `dead`, `finished`, or `none` when no run has left a trace.
        run_id: Of the latest run.
        outcome: Of a finished run: `done` or the name of an error.
        message: Of that error.
        seen_seconds_ago: Since the run's last sign of life.
        stages: In flow order.
        rejects: Stage to reason to clips.
        unused: Conversations of the source's records beyond their first, which nothing uses.
        published: Recipes that are published, with their samples.
        binding: What a running build waits for; None when nothing can be said.
    """

    output: str
    state: str
    run_id: str = ""
    outcome: str = ""
    message: str = ""
    seen_seconds_ago: float = 0.0
    stages: tuple[StageStatus, ...] = ()
    rejects: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    published: Mapping[str, int] = field(default_factory=dict)
    unused: int = 0
    binding: Binding | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict."""
        return asdict(self)

    def headline(self) -> str:
        """One sentence."""
        match self.state:
            case "none":
                return f"{self.output}: no build has run here"
            case "running":
                return f"{self.output}: run {self.run_id} is alive, seen {self.seen_seconds_ago:.0f} s ago"
            case "dead":
                return (
                    f"{self.output}: run {self.run_id} is dead, last seen {self.seen_seconds_ago:.0f} s ago; "
                    "the same build command resumes it"
                )
        said = f" ({self.message})" if self.message else ""
        return f"{self.output}: run {self.run_id} ended: {self.outcome}{said}"


def read_status(store: Store, *, now: float) -> OutputStatus:
    """Look at an output.

    Args:
        store: The output.
        now: Seconds since 1970.

    Raises:
        StoreError: The store can't be reached.
        VerificationError: A catalog or manifest can't be read.
    """
    runs = read_runs(store)
    run = runs[-1] if runs else None
    config = _configuration(run)
    inventory = take_inventory(store)
    catalog = inventory.catalog_key(run)
    frames = frames_key(config.frames) if config is not None else inventory.newest("frames")
    parts = {entry.part for entry in catalog_entries(store, catalog)} if catalog else set()
    stages = _stages(store, inventory, parts, frames, config=config, run=run, now=now)
    state = run.state(now) if run else "none"
    end = (run.end if run else None) or {}
    return OutputStatus(
        output=store.uri,
        state=state,
        run_id=run.run_id if run else "",
        outcome=str(end.get("outcome", "")),
        message=str(end.get("message", "")),
        seen_seconds_ago=max(0.0, now - run.last_seen) if run else 0.0,
        stages=stages,
        rejects=_rejects(store, inventory, catalog, frames, parts),
        published={name: read_manifest(store, name).num_rows for name in list_recipes(store)},
        unused=_catalog_values(store, catalog).get("num_unused", 0),
        binding=find_binding(run, stages, now=now) if run and state == "running" else None,
    )


def _configuration(run: RunRecord | None) -> BuildConfig | None:
    """What the run was asked for; None where another version wrote it in another form."""
    if run is None or not run.start:
        return None
    try:
        return load_config(BuildConfig, run.start["configuration"], origin=f"runs/{run.run_id}/start.json")
    except (ConfigError, KeyError):
        return None


def _stages(
    store: Store,
    inventory: Inventory,
    parts: set[str],
    frames: str,
    *,
    config: BuildConfig | None,
    run: RunRecord | None,
    now: float,
) -> tuple[StageStatus, ...]:
    stop = now if run is None or run.state(now) == "running" else run.last_seen
    found = []
    decoded = {part: when for part, when in inventory.decoded.get(frames, {}).items() if part in parts}
    limited = config is not None and config.source.limit is not None
    total = len(parts) if parts and not limited else None
    found.append(_stage("decode", list(decoded.values()), total, "parts", run, stop))
    for stage, key in _embeddings(inventory, config, frames):
        vectors = {part: when for part, when in inventory.embedded.get(key, {}).items() if part in parts}
        found.append(_stage(stage, list(vectors.values()), total, "parts", run, stop))
    planned = planned_shards(store, inventory, config)
    for recipe in sorted({*planned, *inventory.shards} & ({*planned} | {*list_recipes(store)})):
        times = inventory.newest_shards(recipe)
        found.append(_stage(f"shards of {recipe}", times, planned.get(recipe), "shards", run, stop))
    return tuple(found)


def _embeddings(inventory: Inventory, config: BuildConfig | None, frames: str) -> Iterator[tuple[str, str]]:
    """Stages that write vectors, each with its key; the newest key where the configuration can't tell."""
    try:
        identity = None if config is None else embedder_identity(config.embedding)
    except DeviceError:  # its weight file lies elsewhere
        identity = None
    if config is None or identity is None:
        if inventory.embedded or (config is not None and config.needs_embeddings):
            yield "embed", inventory.newest("embeddings")
        return
    if config.needs_embeddings:
        yield "embed", embed_key(identity, frames_key=frames, policy="linspace")
    if config.needs_captions or (config.needs_embeddings and config.embedding.has_text_tower):
        yield "embed captions", caption_embed_key(identity)


def _stage(
    stage: str, times: list[float], total: int | None, unit: str, run: RunRecord | None, stop: float
) -> StageStatus:
    start = max(stop - _WINDOW_SECONDS, run.started) if run is not None else stop
    recent = sum(start < when <= stop for when in times)
    rate = recent / (stop - start) if recent and stop > start else None
    left = None if total is None else max(0, total - len(times))
    eta = left / rate if rate and left else None
    return StageStatus(stage, len(times), total, unit, rate * 60 if rate else None, eta)


def _catalog_values(store: Store, catalog: str) -> dict[str, Any]:
    """`catalog.json`; empty when it is not there."""
    name = f"catalog/{catalog}/catalog.json"
    there = catalog and store.head(name) is not None
    return dict(json.loads(store.get(name))) if there else {}


def _rejects(
    store: Store, inventory: Inventory, catalog: str, frames: str, parts: set[str]
) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    found["catalog"] = dict(_catalog_values(store, catalog).get("count", {}).get("rejected", {}))
    table = decode_rejects(store, inventory.rejects.get(frames, {}), parts)
    found["decode"] = dict(Counter(table["reason"].to_pylist()))
    for recipe in list_recipes(store):
        for count in read_manifest(store, recipe).totals:
            if count.stage not in ("catalog", "decode") and count.rejected:
                found[f"{count.stage} of {recipe}"] = dict(count.rejected)
    return {stage: dict(sorted(reasons.items())) for stage, reasons in found.items() if reasons}
