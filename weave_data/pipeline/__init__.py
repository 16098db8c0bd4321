"""Which stages, in which order: the only place that knows it.

catalog -> (decode -> embed) per part -> groups -> plan -> shards -> manifest, card

build       the whole run: preflight, stages, publication
frames      decode and embed of one part, as an executor runs them
weaving     one recipe: eligible clips -> groups -> plan
shards      plan rows and frame addresses -> shard items, as an executor runs them
finished    is this build there already? with which settings?
accounting  what went in must come out somewhere; the limit on rejects
runs        `runs/<id>/`: where and how a build ran; nothing reads it back
"""

from weave_data.pipeline.build import BuildOptions, BuildResult, RecipeResult, build

__all__ = ["BuildOptions", "BuildResult", "RecipeResult", "build"]
