"""Rows of a rank's slots, in order, read ahead.

data_sets     what a configuration names, opened
source        what has row groups: a woven recipe
json_lists    VideoWeave's JSON lists as they are; also json_list_media and json_list_sets
texts         rows without their pixels
words         lengths of rows in words
token_index   lengths of rows in tokens; stored_index: where they are kept
shard_reader  one row group from store or disk cache, within a deadline
disk_cache    row groups on local disk
groups        row groups in memory
threads       daemon threads
row_feed      all of it: threads that read and encode ahead
limits        threads, memory, deadlines
stats         what it cost
stored_size   no upscaling by accident
"""

from weave_train.feed.data_sets import open_sources
from weave_train.feed.json_list_media import FrameSampling
from weave_train.feed.json_list_sets import list_components
from weave_train.feed.json_lists import JsonListSource, open_json_lists
from weave_train.feed.limits import FeedLimits, feed_limits
from weave_train.feed.row_feed import RowFeed
from weave_train.feed.source import RowSource, WovenSource, open_source
from weave_train.feed.stats import FeedStats
from weave_train.feed.stored_index import index_key, index_place, read_index, write_index
from weave_train.feed.stored_size import check_stored_size
from weave_train.feed.token_index import (
    TokenSummary,
    count_tokens,
    heaviest_row,
    spread_groups,
    summarize,
)
from weave_train.feed.words import row_lengths

__all__ = [
    "FeedLimits",
    "FeedStats",
    "FrameSampling",
    "JsonListSource",
    "RowFeed",
    "RowSource",
    "TokenSummary",
    "WovenSource",
    "check_stored_size",
    "count_tokens",
    "feed_limits",
    "heaviest_row",
    "index_key",
    "index_place",
    "list_components",
    "open_json_lists",
    "open_source",
    "open_sources",
    "read_index",
    "row_lengths",
    "spread_groups",
    "summarize",
    "write_index",
]
