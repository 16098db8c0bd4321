"""Rows of a rank's slots, in order, read ahead.

source        what has row groups: a woven recipe
shard_reader  one row group from store or disk cache, within a deadline
disk_cache    row groups on local disk
groups        row groups in memory
threads       daemon threads
row_feed      all of it: threads that read and encode ahead
limits        threads, memory, deadlines
stats         what it cost
stored_size   no upscaling by accident
"""

from weave_train.feed.limits import FeedLimits, feed_limits
from weave_train.feed.row_feed import RowFeed
from weave_train.feed.source import RowSource, WovenSource, open_source
from weave_train.feed.stats import FeedStats
from weave_train.feed.stored_size import check_stored_size

__all__ = [
    "FeedLimits",
    "FeedStats",
    "RowFeed",
    "RowSource",
    "WovenSource",
    "check_stored_size",
    "feed_limits",
    "open_source",
]
