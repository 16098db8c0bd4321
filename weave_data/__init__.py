"""A dataset compiler for video-language training.

    object store                                                                    object store
    clips + text -> catalog -> decode -> embed -> cluster -> weave -> shard -> manifest + Parquet
                    (clips)   (frames)  (vectors) (groups)   (plan)  (samples)

The plan is the data set: which clips, frames, captions and prompt make which sample, in which order,
is a pure, seeded function; materialising bytes is a separate, dumb step. Every file is a pure
function of its inputs, committed once, so any worker may compute any file and resuming is "do the
rest". Every clip that went in is accounted for.

Rooms, in flow order; stages are siblings and only `pipeline` knows their order:

    errors, records, tables, frame_policy   what everything shares
    config                                  strict settings from YAML and dotted overrides
    storage                                 five verbs and one compare-and-swap on disk and S3
    catalog, decode, embed, quality, cluster, caption, weave, shard    the stages
    execute                                 runs a stage's items on Ray Data or in process
    pipeline                                the build
    doctor                                  what a build needs, looked at before it on every node
    trainers                                the contract a trainer plugs in with
    enrich, download, mixtures              captions by language models; fetching and merging others' data
    report, export, upkeep                  cards and pages; other tools' forms; living with a data set
    starter, commands, cli                  first configuration, the command line

Importing this package loads neither torch nor ray.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
