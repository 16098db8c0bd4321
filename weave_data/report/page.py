"""`report.html`: an output for the eye, in one file that asks for nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from weave_data.foreign_text import visible
from weave_data.records import StageCount, WovenSample
from weave_data.report.card import count_reasons, flatten_settings, rebuild_yaml, show_value, split_rows
from weave_data.report.epochs import merge_epochs
from weave_data.report.histograms import HEIGHT, WIDTH, overlaid, quality_histograms
from weave_data.report.inputs import ReportInputs, read_inputs
from weave_data.report.publishing import publish_text
from weave_data.report.thumbnails import Thumbnails
from weave_data.shard import Manifest, manifest_sha256
from weave_data.storage import Store

__all__ = ["REPORT_KEY", "publish_report", "render_report"]

REPORT_KEY = "report.html"

_PICTURES_BYTES = 4_800_000
_SHEET_FRAMES = 420  # over all recipes
_FRAMES_PER_CLIP = 16
_CAPTION_CHARS = 280


@dataclass(frozen=True)
class _Frame:
    picture: str
    seconds: float


@dataclass(frozen=True)
class _Clip:
    caption: str
    num_frames: int
    frames: list[_Frame]


@dataclass(frozen=True)
class _Sample:
    id: str
    about: str
    clips: list[_Clip]
    turns: list[tuple[str, str]]


def publish_report(store: Store) -> str:
    """Write `report.html` for every recipe published in an output; its text."""
    return publish_text(store, REPORT_KEY, lambda: render_report(read_inputs(store)))


def render_report(inputs: ReportInputs) -> str:
    """The page: HTML with every picture inside and every foreign text escaped.

    Args:
        inputs: What to show; at most about 6 MB come out.
    """
    chosen = {name: _shown_samples(samples, len(inputs.samples)) for name, samples in inputs.samples.items()}
    pictures = Thumbnails(_count_pictures(inputs, chosen), _PICTURES_BYTES)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("weave_data.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(thousands=lambda value: f"{value:,}", text=_cut, picture=pictures)
    filters = inputs.manifests[0].configuration.get("filters", {}) if inputs.manifests else {}
    page = environment.get_template("report.html.j2").render(
        inputs=inputs,
        counts=_counts(inputs.manifests),
        recipes=[_recipe(m, chosen.get(m.recipe, []), pictures) for m in inputs.manifests],
        collages=[
            (name, c, overlaid("", c.cosines, c.shuffled_cosines)) for name, c in inputs.collages.items()
        ],
        histograms=quality_histograms(inputs.stored.clips, inputs.stored.quality, filters),
        filters=sorted(flatten_settings(filters).items()),
        unmeasured=_unmeasured(inputs.manifests),
        models=_models(inputs.manifests),
        rebuild=rebuild_yaml(inputs.manifests),
        chart_size=(WIDTH, HEIGHT),
    )
    return visible(page)  # whoever prints the file


def _shown_samples(samples: Sequence[WovenSample], num_recipes: int) -> list[WovenSample]:
    """At most four samples whose frames fit the recipe's share of the sheet."""
    left = _SHEET_FRAMES // max(1, num_recipes)
    shown: list[WovenSample] = []
    for sample in samples:
        size = sum(min(clip.num_frames, _FRAMES_PER_CLIP) for clip in sample.clips)
        if shown and (len(shown) == 4 or size > left):
            break
        shown.append(sample)
        left -= size
    return shown


def _count_pictures(inputs: ReportInputs, chosen: Mapping[str, Sequence[WovenSample]]) -> int:
    sheets = sum(len(sample.frames) for samples in chosen.values() for sample in samples)
    groups = sum(
        len(group.clips)
        for collage in inputs.collages.values()
        for group in (*collage.tightest, *collage.loosest, *collage.shuffled)
    )
    return sheets + groups + sum(len(examples) for examples in inputs.refused.values())


def _recipe(manifest: Manifest, samples: Sequence[WovenSample], pictures: Thumbnails) -> dict[str, Any]:
    settings = manifest.configuration.get("recipe", {})
    facts = [("strategy", settings.get("strategy")), ("clips a sample", settings.get("clips_per_sample"))]
    facts += [("frames a sample", settings.get("frames_per_sample"))]
    facts += [(name, settings.get(name)) for name in ("frame_policy", "epochs", "match", "seed")]
    return {
        "name": manifest.recipe,
        "manifest": manifest,
        "sha256": manifest_sha256(manifest),
        "facts": [(name, show_value(value)) for name, value in facts if value is not None],
        "splits": split_rows(manifest),
        "samples": [_sample(sample, pictures) for sample in samples],
        "settings": [(n, show_value(v)) for n, v in flatten_settings(manifest.configuration).items()],
    }


def _sample(sample: WovenSample, pictures: Thumbnails) -> _Sample:
    clips = []
    for slot, clip in enumerate(sample.clips):
        places = [i for i, owner in enumerate(sample.frame_clip) if owner == slot]
        shown = min(len(places), _FRAMES_PER_CLIP)
        places = [places[i * len(places) // shown] for i in range(shown)]
        frames = [_Frame(pictures(sample.frames[i]), sample.frame_seconds[i]) for i in places]
        clips.append(_Clip(clip.caption, clip.num_frames, frames))
    names = {"human": "asked", "gpt": "answer"}
    turns = [
        (names.get(t.speaker, t.speaker), t.value.replace("<image>", "").strip())
        for t in sample.conversations
    ]
    about = f"{sample.strategy}, {sample.split}, epoch {sample.epoch}, {sample.num_frames} frames"
    return _Sample(sample.sample_id, about, clips, turns)


def _counts(manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    """Accounting by stage; a stage that several recipes count alike is one row."""
    found: dict[str, tuple[StageCount, list[str]]] = {}
    for manifest in manifests:
        for count in merge_epochs(manifest.totals):
            found.setdefault(repr(count.to_json()), (count, []))[1].append(manifest.recipe)
    order = {count.stage: place for place, (count, _) in enumerate(found.values())}
    rows = sorted(found.values(), key=lambda row: order[row[0].stage])
    return [
        {
            "count": count,
            "recipes": "all recipes" if len(names) == len(manifests) > 1 else ", ".join(names),
            "reasons": count_reasons([count]),
        }
        for count, names in rows
    ]


def _unmeasured(manifests: Sequence[Manifest]) -> str:
    """Why captions were not compared with their clips; empty when they were, or nobody said."""
    told = [manifest.float_stages.get("caption_similarity", {}) for manifest in manifests]
    return next((str(values["missing"]) for values in told if "missing" in values), "")


def _models(manifests: Sequence[Manifest]) -> list[tuple[str, str]]:
    """Weights, devices and versions of everything that computed with floats."""
    facts: dict[tuple[str, str], None] = {}
    for manifest in manifests:
        embedding = manifest.configuration.get("embedding", {})
        facts.update({(f"embedding.{n}", show_value(v)): None for n, v in sorted(embedding.items())})
        for role, value in sorted(manifest.weights_sha256.items()):
            facts[f"weights of {role}, sha256", value] = None
        for name, value in flatten_settings(manifest.float_stages).items():
            if "cosine" not in name:
                facts[name, show_value(value)] = None
        facts["schema version", str(manifest.schema_version)] = None
    return list(facts)


def _cut(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= _CAPTION_CHARS else f"{text[:_CAPTION_CHARS]}\N{HORIZONTAL ELLIPSIS}"
