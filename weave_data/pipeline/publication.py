"""What a manifest says of a recipe that was just materialised."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from weave_data.embed import read_vectors
from weave_data.pipeline.audit import PairingAudit
from weave_data.pipeline.caption_similarity import CaptionSimilarity
from weave_data.pipeline.finished import PublishedRecipe
from weave_data.pipeline.frame_stage import StoredFrames
from weave_data.pipeline.grouping import EpochGroups
from weave_data.pipeline.weaving import WovenRecipe
from weave_data.records import StageCount
from weave_data.shard import Manifest, ShardEntry
from weave_data.storage import Store

__all__ = ["make_manifest"]


def make_manifest(  # noqa: PLR0913 - one call of the pipeline, all by name
    published: PublishedRecipe,
    *,
    inputs: Mapping[str, object],
    totals: Sequence[StageCount],
    shards: Sequence[ShardEntry],
    frames: StoredFrames,
    woven: WovenRecipe,
    audit: PairingAudit,
    similarity: CaptionSimilarity,
    store: Store,
) -> Manifest:
    """Assemble the manifest of a recipe; nothing in it says where or how the build ran.

    Versions and device of the float stages are read from the committed vectors: they say why two
    machines may group differently, and stay true when another version resumes the build.
    """
    recipe = published.recipe
    weights: dict[str, str] = {}
    float_stages: dict[str, object] = {}
    if recipe.needs_vectors and frames.vectors:
        _, _, metadata = read_vectors(store.get(frames.vectors[0].path))
        weights = {"embedding": metadata["weights_sha256"]}
        float_stages = {
            "embedding": {"device": metadata["device"], "packages": json.loads(metadata["packages"])},
            "groups": _group_notes(woven.epochs[0].groups),
        }
    leakage = woven.epochs[0].leakage
    if leakage is not None:
        float_stages["leakage"] = leakage.to_json()
    if audit.verdict != "not done":
        float_stages["audit"] = audit.to_json()
    if told := similarity.to_json():
        float_stages["caption_similarity"] = told
    return Manifest(
        recipe=recipe.name,
        configuration=published.settings,
        inputs=inputs,
        row_group_rows=recipe.row_group_rows,
        shard_rows=recipe.shard_rows,
        totals=tuple(totals),
        shards=tuple(shards),
        weights_sha256=weights,
        float_stages=float_stages,
    )


def _group_notes(groups: EpochGroups | None) -> dict[str, object]:
    """What was noted beside the first epoch's groups when they were made."""
    notes = {} if groups is None else groups.notes
    if "packages" not in notes:
        return {}
    return {
        "mean_pair_cosine": _number(notes["mean_pair_cosine"]),
        "random_pair_cosine": _number(notes["random_pair_cosine"]),
        "packages": json.loads(notes["packages"]),
        **({"drift": json.loads(notes["drift"])} if "drift" in notes else {}),
    }


def _number(text: str) -> float | None:
    return None if text == "nan" else float(text)
