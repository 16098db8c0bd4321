"""Plan -> woven Parquet shards + manifest, and back.

    plan ----------> slices ---+
    frame addresses -----------+-> addresses -> gather -> writer -> shard     committed once
    frame tars ----------------+                            |
                                                         manifest -> publish  manifest.json
    trainers <- reader (one GET per row group) <------------+
    `weave-data verify` <- verify

Shards load without this package too: any Parquet reader sees the columns of `records.WOVEN_SCHEMA`.
"""

from weave_data.shard.addresses import ADDRESS_SCHEMA, locate_frames
from weave_data.shard.find import find_sample
from weave_data.shard.footers import read_footer
from weave_data.shard.images import image_format, load_image
from weave_data.shard.manifest import (
    Difference,
    Manifest,
    ShardEntry,
    first_difference,
    make_fingerprint,
    manifest_sha256,
    parse_manifest,
)
from weave_data.shard.publish import check_settings, list_recipes, publish, read_manifest
from weave_data.shard.reader import (
    WovenDataset,
    iter_rows,
    load_manifest,
    open_dataset,
    read_row_group,
)
from weave_data.shard.slices import (
    ShardSlice,
    count_rows,
    num_row_groups,
    row_group_span,
    shard_path,
    shard_slices,
)
from weave_data.shard.verify import RecipeReport, VerifyReport, verify_output
from weave_data.shard.writer import ShardReceipt, ShardRequest, write_shard

__all__ = [
    "ADDRESS_SCHEMA",
    "Difference",
    "Manifest",
    "RecipeReport",
    "ShardEntry",
    "ShardReceipt",
    "ShardRequest",
    "ShardSlice",
    "VerifyReport",
    "WovenDataset",
    "check_settings",
    "count_rows",
    "find_sample",
    "first_difference",
    "image_format",
    "iter_rows",
    "list_recipes",
    "load_image",
    "load_manifest",
    "locate_frames",
    "make_fingerprint",
    "manifest_sha256",
    "num_row_groups",
    "open_dataset",
    "parse_manifest",
    "publish",
    "read_footer",
    "read_manifest",
    "read_row_group",
    "row_group_span",
    "shard_path",
    "shard_slices",
    "verify_output",
    "write_shard",
]
