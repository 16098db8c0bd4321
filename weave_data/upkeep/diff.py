"""`weave-data diff A B`: what differs between two outputs, or two builds of one recipe, and why.

Samples are compared by `sample_id`, which is a hash of all a sample says. One that is in A only and one
that is in B only, with the same clips in the same order and the same epoch, are one *changed* sample.
Plans are streamed; 48 bytes a sample are kept, whatever is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from weave_data.errors import ConfigError
from weave_data.report.card import flatten_settings
from weave_data.shard import Manifest, open_dataset
from weave_data.storage import Store, open_store
from weave_data.upkeep.outputs import current_manifests
from weave_data.upkeep.sample_keys import SampleKeys, clip_fates, read_sample_keys

__all__ = ["OutputDiff", "RecipeDiff", "diff_manifests", "diff_outputs"]

_MAX_EXAMPLES = 5
Pairs = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class RecipeDiff:
    """What differs between two builds of a recipe.

    Attributes:
        recipe: Name; `A / B` where the two names differ.
        settings: Dotted setting to (A's value, B's value); None where a side lacks it.
        inputs: The same of the inputs: catalog, frames, groups, plan.
        rows: (split, epoch) to (A's samples, B's samples), of all splits.
        same: Samples in both.
        changed: What differs (`text`, `frames`, `split`) to samples with the same clips.
        removed: Why to samples in A only.
        added: Why to samples in B only.
        examples: A few sample ids, `removed 0123...`.
    """

    recipe: str
    settings: Pairs
    inputs: Pairs
    rows: dict[str, tuple[int, int]]
    same: int
    changed: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """True when nothing differs."""
        return not (self.settings or self.inputs or self.changed or self.removed or self.added)

    def lines(self) -> list[str]:
        """What the command line prints."""
        if self.is_equal:
            return [f"{self.recipe}: equal, {self.same:,} samples"]
        found = [f"{self.recipe}:"]
        for prefix, pairs in (("", self.settings), ("inputs.", self.inputs)):
            found += [f"  {prefix}{name}: {theirs} -> {ours}" for name, (theirs, ours) in pairs.items()]
        found += [f"  {name}: {a:,} -> {b:,} samples" for name, (a, b) in self.rows.items()]
        found.append(f"  {self.same:,} samples in both")
        for verb, reasons in (("changed", self.changed), ("removed", self.removed), ("added", self.added)):
            total = sum(reasons.values())
            if total:
                why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items()))
                found.append(f"  {total:,} {verb}: {why}")
        return [*found, *(f"    {example}" for example in self.examples)]


@dataclass(frozen=True)
class OutputDiff:
    """What differs between two outputs; `only_a` and `only_b` are recipes that one side lacks."""

    recipes: tuple[RecipeDiff, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """True when both hold the same recipes and nothing in them differs."""
        return not self.only_a and not self.only_b and all(recipe.is_equal for recipe in self.recipes)

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict."""
        return {"equal": self.is_equal, **asdict(self)}

    def lines(self) -> list[str]:
        """What the command line prints."""
        found = [line for recipe in self.recipes for line in recipe.lines()]
        found += [f"{name}: only in A" for name in self.only_a]
        return [*found, *(f"{name}: only in B" for name in self.only_b)]


def diff_manifests(store_a: Store, a: Manifest, store_b: Store, b: Manifest) -> RecipeDiff:
    """Compare two builds of a recipe.

    Args:
        store_a: The output A lies in.
        a: A's manifest.
        store_b: The output B lies in; may be the same.
        b: B's manifest.

    Raises:
        VerificationError: A plan and the shards it stands for are both gone or damaged.
    """
    recipe = a.recipe if a.recipe == b.recipe else f"{a.recipe} / {b.recipe}"
    settings = _differing(flatten_settings(a.configuration), flatten_settings(b.configuration))
    inputs = _differing(a.inputs, b.inputs)
    rows = {key: (_rows(a).get(key, 0), _rows(b).get(key, 0)) for key in sorted({**_rows(a), **_rows(b)})}
    if [shard.sha256 for shard in a.shards] == [shard.sha256 for shard in b.shards]:
        return RecipeDiff(recipe, settings, inputs, rows, a.num_rows)
    keys_a, keys_b = read_sample_keys(store_a, a), read_sample_keys(store_b, b)
    only_a, only_b = _unmatched(keys_a, keys_b), _unmatched(keys_b, keys_a)
    pairs_a, pairs_b = _pair(keys_a, only_a, keys_b, only_b)
    changed = _changes(keys_a, pairs_a, keys_b, pairs_b)
    same = len(keys_a) - len(only_a)
    if same and inputs.get("frames"):  # the same rows over other frames: no id says so
        changed, same = {**changed, "pixels": same}, 0
    removed, added = np.setdiff1d(only_a, pairs_a), np.setdiff1d(only_b, pairs_b)
    return RecipeDiff(
        recipe=recipe,
        settings=settings,
        inputs=inputs,
        rows=rows,
        same=same,
        changed=changed,
        removed=clip_fates(store_b, b, keys_a, removed, store=store_a, manifest=a),
        added=clip_fates(store_a, a, keys_b, added, store=store_b, manifest=b),
        examples=_examples(keys_a, removed, keys_b, added, pairs_a, pairs_b),
    )


def diff_outputs(uri_a: str, uri_b: str, *, recipe: str | None = None) -> OutputDiff:
    """Compare two outputs recipe by recipe, or two manifests.

    Args:
        uri_a: An output, `OUTPUT/<recipe>`, or a manifest's address.
        uri_b: The same of the other side.
        recipe: Only this recipe of the outputs.

    Raises:
        ConfigError: A side has no such recipe.
        VerificationError: A side holds nothing published.
    """
    store_a, manifests_a = _side(uri_a, recipe)
    store_b, manifests_b = _side(uri_b, recipe)
    if len(manifests_a) == len(manifests_b) == 1:
        pairs = [(*manifests_a.values(), *manifests_b.values())]
        return OutputDiff(tuple(diff_manifests(store_a, a, store_b, b) for a, b in pairs))
    both = [name for name in manifests_a if name in manifests_b]
    return OutputDiff(
        tuple(diff_manifests(store_a, manifests_a[name], store_b, manifests_b[name]) for name in both),
        tuple(name for name in manifests_a if name not in manifests_b),
        tuple(name for name in manifests_b if name not in manifests_a),
    )


def _side(uri: str, recipe: str | None) -> tuple[Store, dict[str, Manifest]]:
    """The store of one side and its manifests by recipe."""
    store = open_store(uri, readonly=True)
    if not uri.endswith(".json") and store.head("manifest.json") is None:
        store.check()
        return store, {manifest.recipe: manifest for manifest in current_manifests(store, recipe)}
    dataset = open_dataset(uri)
    if recipe not in (None, dataset.manifest.recipe):
        raise ConfigError(f"{uri}: is of recipe {dataset.manifest.recipe}, --recipe asks for {recipe}")
    return dataset.store, {dataset.manifest.recipe: dataset.manifest}


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Pairs:
    names = sorted({*theirs, *ours})
    pairs = {name: (theirs.get(name), ours.get(name)) for name in names}
    return {
        name: (x, y) for name, (x, y) in pairs.items() if x != y or isinstance(x, bool) != isinstance(y, bool)
    }


def _rows(manifest: Manifest) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for shard in manifest.shards:
        counts[f"{shard.split}, epoch {shard.epoch}"] += shard.rows
    return dict(counts)


def _unmatched(ours: SampleKeys, theirs: SampleKeys) -> Any:
    """int64: rows of ours whose id theirs lack."""
    return np.flatnonzero(~np.isin(ours.sample_id, theirs.sample_id))


def _pair(a: SampleKeys, only_a: Any, b: SampleKeys, only_b: Any) -> tuple[Any, Any]:
    """Rows of both sides, of one length: the same clips in the same order and epoch, each once."""
    _, first_a, first_b = np.intersect1d(a.clips[only_a], b.clips[only_b], return_indices=True)
    return only_a[first_a], only_b[first_b]


def _changes(a: SampleKeys, rows_a: Any, b: SampleKeys, rows_b: Any) -> dict[str, int]:
    """What differs within pairs: `text`, `frames`, `split`, joined where several do."""
    differs = {
        name: getattr(a, name)[rows_a] != getattr(b, name)[rows_b] for name in ("text", "frames", "split")
    }
    codes = sum((mask.astype(np.int8) << bit for bit, mask in enumerate(differs.values())), np.int8(0))
    names = list(differs)
    found = {}
    for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
        parts = [name for bit, name in enumerate(names) if int(code) >> bit & 1]
        if count and len(rows_a):
            found[" and ".join(parts) or "grouping or name"] = int(count)
    return found


def _examples(
    a: SampleKeys, removed: Any, b: SampleKeys, added: Any, pairs_a: Any, pairs_b: Any
) -> tuple[str, ...]:
    found: Sequence[str] = [f"removed {a.id_of(row)}" for row in removed[:_MAX_EXAMPLES]]
    found = [*found, *(f"added {b.id_of(row)}" for row in added[:_MAX_EXAMPLES])]
    for old, new in zip(pairs_a[:_MAX_EXAMPLES], pairs_b[:_MAX_EXAMPLES], strict=True):
        found = [*found, f"changed {a.id_of(old)} -> {b.id_of(new)}"]
    return tuple(found)
