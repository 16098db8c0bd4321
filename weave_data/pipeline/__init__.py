"""Which stages, in which order: the only place that knows it.

catalog -> (decode -> embed) per part -> filters -> (captions embedded) -> groups -> plan, per epoch
        -> shards -> pairing audit -> manifest, card, report

build          the whole run: preflight, stages, publication
frame_stage    decode and embed over all parts
selecting      thresholds and duplicates, before any recipe
caption_stage  vectors of captions, for strategy `caption`
weaving        one recipe, epoch by epoch: eligible clips -> groups -> plan
grouping       groups of one epoch; frozen: centroids that a grown catalog keeps; vectors: read by clip
recipe_stage   all recipes: plans, shards, manifests; shard_cutter: a plan in shards
audit          do captions belong to their clips?
publication    what a manifest says
enrichment     `weave-data enrich`
finished       is this build there already? with which settings?
estimate       `--dry-run`; probe: a few clips decoded for it
accounting     what went in must come out somewhere; the limit on rejects
runs           `runs/<id>/`: where and how a build ran; no data depends on it
"""

from weave_data.pipeline.build import BuildOptions, BuildResult, RecipeResult, build

__all__ = ["BuildOptions", "BuildResult", "RecipeResult", "build"]
