"""`card.md`: what an output holds, for people; a function of its manifests and catalogs alone."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from ruamel.yaml import YAML

from weave_data.foreign_text import visible
from weave_data.records import StageCount
from weave_data.report.epochs import merge_epochs
from weave_data.report.publishing import publish_text
from weave_data.report.stored import Licences, read_licences, read_num_unused
from weave_data.shard import Manifest, list_recipes, manifest_sha256, read_manifest
from weave_data.storage import Store

__all__ = [
    "CARD_KEY",
    "count_reasons",
    "flatten_settings",
    "publish_card",
    "rebuild_yaml",
    "render_card",
    "show_value",
    "split_rows",
]

CARD_KEY = "card.md"

_NOT_SEMANTIC = (
    "**Groups are not semantic**: {why}. "
    "Set `embedding.model` and `embedding.pretrained` to trained weights to group by content."
)


@dataclass(frozen=True)
class _SplitRow:
    split: str
    epoch: int
    rows: int
    shards: int
    bytes: int


@dataclass(frozen=True)
class _Reason:
    stage: str
    why: str
    reason: str
    clips: int


@dataclass(frozen=True)
class _Card:
    recipe: str
    clips_per_sample: Any
    frames_per_sample: Any
    num_rows: int
    num_bytes: int
    num_shards: int
    sentences: list[str]
    splits: list[_SplitRow]
    totals: tuple[StageCount, ...]
    reasons: list[_Reason]
    fingerprint: str
    manifest_sha256: str
    identity: list[tuple[str, str]]
    settings: list[tuple[str, str]]


def render_card(
    manifests: Sequence[Manifest], licences: Licences | None = None, *, num_unused: int = 0
) -> str:
    """Markdown of one or more recipes of an output.

    Args:
        manifests: Published recipes; the card lists them by name.
        licences: Of the clips they were built from.
        num_unused: Conversations of the source's records beyond their first, which nothing uses.
    """
    ordered = sorted(manifests, key=lambda manifest: manifest.recipe)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("weave_data.report", "."),
        autoescape=False,  # noqa: S701 - Markdown, not HTML; `cell` keeps tables whole
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters.update(thousands=_thousands, cell=_cell, prose=_prose, fence=_fence)
    return environment.get_template("card.md.j2").render(
        cards=[_card(manifest) for manifest in ordered],
        first=ordered[0].recipe if ordered else "RECIPE",
        rebuild=rebuild_yaml(ordered),
        licences=licences or Licences({}),
        num_unused=num_unused,
        first_directory=ordered[0].fingerprint[:12] if ordered else "FINGERPRINT",
    )


def publish_card(store: Store) -> str:
    """Write `card.md` for every recipe published in an output; its text.

    Two builds that finish together both find their recipe in it: who loses the swap looks again.
    """

    def render() -> str:
        manifests = [read_manifest(store, recipe) for recipe in list_recipes(store)]
        num_unused = read_num_unused(store, manifests)
        return render_card(manifests, read_licences(store, manifests), num_unused=num_unused)

    return publish_text(store, CARD_KEY, render)


def _card(manifest: Manifest) -> _Card:
    recipe = manifest.configuration.get("recipe", {})
    weights = [
        (f"weights of {role}, sha256", value) for role, value in sorted(manifest.weights_sha256.items())
    ]
    stages = [
        (f"ran with {name}", show_value(value))
        for name, value in flatten_settings(manifest.float_stages).items()
    ]
    inputs = [(f"{name}", show_value(value)) for name, value in sorted(manifest.inputs.items())]
    return _Card(
        recipe=manifest.recipe,
        clips_per_sample=recipe.get("clips_per_sample", "?"),
        frames_per_sample=recipe.get("frames_per_sample", "?"),
        num_rows=manifest.num_rows,
        num_bytes=manifest.num_bytes,
        num_shards=len(manifest.shards),
        sentences=_sentences(manifest),
        splits=split_rows(manifest),
        totals=merge_epochs(manifest.totals),
        reasons=count_reasons(manifest.totals),
        fingerprint=manifest.fingerprint,
        manifest_sha256=manifest_sha256(manifest),
        identity=weights + stages + inputs,
        settings=[
            (name, show_value(value)) for name, value in flatten_settings(manifest.configuration).items()
        ],
    )


def _sentences(manifest: Manifest) -> list[str]:
    found = []
    limit = manifest.configuration.get("source", {}).get("limit")
    if limit is not None:
        found.append(f"**A preview**: only the first {limit:,} clips of the catalog (`source.limit`).")
    embedding = manifest.configuration.get("embedding")
    if embedding is not None:
        if embedding.get("model") == "none":
            found.append(
                _NOT_SEMANTIC.format(
                    why="`embedding.model` is `none`, so clips of one sample are alike in colour layout only"
                )
            )
        elif embedding.get("pretrained") == "random":
            found.append(
                _NOT_SEMANTIC.format(why="the embedding model has random weights, so likeness means little")
            )
    if manifest.configuration.get("recipe", {}).get("remainder") == "keep":
        found.append("Leftover clips make shorter samples of fewer clips (`remainder: keep`).")
    recipe = manifest.configuration.get("recipe", {})
    if recipe.get("match"):
        match = recipe["match"]
        if match["by"] == "videos" and recipe.get("strategy") != "given":
            found.append(f"Each epoch weaves the same {match['count']:,} train clips (`match`).")
        else:
            found.append(f"Each epoch's train plan ends at {match['count']:,} {match['by']} (`match`).")
    filters = flatten_settings(manifest.configuration.get("filters", {}))
    if filters:
        named = ", ".join(f"`{name}: {show_value(value)}`" for name, value in filters.items())
        found.append(f"Clips were filtered: {named}.")
    found += _similarity_sentence(manifest.float_stages.get("caption_similarity", {}))
    groups = manifest.float_stages.get("groups", {})
    if groups.get("mean_pair_cosine") is not None:
        found.append(
            f"Mean cosine of clip pairs within a sample: {groups['mean_pair_cosine']:.4f} "
            f"(clips put together at random: {groups['random_pair_cosine']:.4f})."
        )
    return found


def _similarity_sentence(told: Mapping[str, Any]) -> list[str]:
    if "missing" in told:
        return [f"`caption_similarity` was not measured: {told['missing']}."]
    if not told:
        return []
    about = f"Median cosine of {told['clips']:,} captions and their clips (`caption_similarity`)"
    return [f"{about}: {told['median']:.4f}."]


def split_rows(manifest: Manifest) -> list[_SplitRow]:
    """Rows, shards and bytes by split and epoch."""
    groups = dict.fromkeys((shard.split, shard.epoch) for shard in manifest.shards)
    rows = []
    for split, epoch in groups:
        shards = manifest.select(split=split, epoch=epoch)
        rows.append(
            _SplitRow(split, epoch, sum(s.rows for s in shards), len(shards), sum(s.bytes for s in shards))
        )
    return rows


def count_reasons(totals: Sequence[StageCount]) -> list[_Reason]:
    """Why clips went, by stage, filtered ones before rejected ones."""
    return [
        _Reason(count.stage, why, str(reason), clips)
        for count in totals
        for why, counts in (("filtered", count.filtered), ("rejected", count.rejected))
        for reason, clips in sorted(counts.items())
        if clips
    ]


def flatten_settings(settings: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted path, sorted."""
    flat: dict[str, Any] = {}
    for name, value in sorted(settings.items()):
        path = f"{prefix}.{name}" if prefix else name
        flat.update(flatten_settings(value, prefix=path) if isinstance(value, Mapping) else {path: value})
    return flat


def rebuild_yaml(manifests: Sequence[Manifest]) -> str:
    """Configuration that builds these recipes again, places left to fill in.

    Recipes that were built with other sources or frames than the first one are not part of it.
    """
    if not manifests:
        return ""
    first = dict(manifests[0].configuration)
    shared = {name: first[name] for name in ("source", "frames") if name in first}
    same = [m for m in manifests if all(m.configuration.get(n) == v for n, v in shared.items())]
    values: dict[str, Any] = {}
    for manifest in same:
        values.update({name: value for name, value in manifest.configuration.items() if name != "recipe"})
    values["recipes"] = [manifest.configuration.get("recipe", {}) for manifest in same]
    values["output"] = "OUTPUT"
    writer, sink = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style = False
    writer.dump(json.loads(json.dumps(values)), sink)
    return visible(sink.getvalue())


def show_value(value: Any) -> str:
    """A setting as one line of text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _thousands(value: int) -> str:
    return f"{value:,}"


def _cell(value: Any) -> str:
    """Text of a table cell: pipes, backticks and line breaks would end it."""
    text = visible(str(value)).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return " ".join(text.split())


def _prose(value: Any) -> str:
    """The same where no backticks stand around it: Markdown lets HTML through, and links."""
    text = _cell(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("[", "\\[").replace("]", "\\]")


def _fence(text: str) -> str:
    """Backticks for a block that no line of a text ends."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)
