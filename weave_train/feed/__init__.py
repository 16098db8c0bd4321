"""Rows of a rank's slots, in order, read ahead.

source      what has row groups: a woven recipe
groups      row groups in memory
row_feed    threads that read and encode ahead
"""

from weave_train.feed.row_feed import FeedLimits, RowFeed
from weave_train.feed.source import RowSource, WovenSource, open_source

__all__ = ["FeedLimits", "RowFeed", "RowSource", "WovenSource", "open_source"]
