"""Vectors become groups of exactly L clips that will share a woven sample.

    splits      which clips are held out: by hash of the clip id alone
    cosines     unit vectors as integers, so that every cosine is exact on any machine
    centroids   k-means on a seeded sample, and the centroids nearest to each vector
    partition   rows split into buckets of at most 2048 neighbours
    bisection   a first grouping of one bucket
    swaps       exchanges along the nearest-neighbour graph until none helps
    separation  clips of one label in different groups, and as many groups as that allows
    buckets     one bucket from cosines to groups and leftovers (a task of its own)
    task        the rows, the rules, and what makes an epoch's groups differ
    similar     all rows: buckets, leftovers of all buckets, what labels still allow
    groups      the strategies: single, random, clustered, diverse
    duplicates  clips that look alike
    apart       labels from duplicates and source pages
    drift       how well frozen centroids fit new clips
    quality     mean pair cosine of groups, and what chance would give

Every clip is in one group at most, and the groups depend on clip ids, vectors and seed only: rows
are sorted by clip id first and ties break by clip id. Within a group the clips lie in keyed-hash
order, not by similarity: the position of a clip in a sample must not tell how typical it is of the
group. (VideoWeave kept file order; a catalog's order is not content here.)
"""

from weave_data.cluster.apart import apart_labels
from weave_data.cluster.buckets import group_bucket
from weave_data.cluster.centroids import fit_centroids
from weave_data.cluster.drift import CentroidDistances, Drift, drift, measure_distances
from weave_data.cluster.duplicates import near_duplicates
from weave_data.cluster.groups import Grouping, group_splits
from weave_data.cluster.quality import mean_pair_cosine, random_pair_cosine
from weave_data.cluster.splits import split_of

__all__ = [
    "CentroidDistances",
    "Drift",
    "Grouping",
    "apart_labels",
    "drift",
    "fit_centroids",
    "group_bucket",
    "group_splits",
    "mean_pair_cosine",
    "measure_distances",
    "near_duplicates",
    "random_pair_cosine",
    "split_of",
]
