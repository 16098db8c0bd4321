"""Feeds rows until it is stopped, one printed line a step: `step id id ...`.

python feed_child.py MANIFEST CACHE START_STEP
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from weave_train.feed import FeedLimits, RowFeed, open_source
from weave_train.order import TrainingOrder

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

uri, cache, start = sys.argv[1:]
source = open_source(uri, split="train")
order = TrainingOrder.over(
    source.shard_rows, group_rows=source.group_rows, batch_rows=4, window_groups=2, seed=3
)
limits = FeedLimits(num_workers=2, cache_dir=cache, cache_gib=30_000 / 2**30)
feed = RowFeed(
    [source], order, slots=range(4), encode=lambda row: row["sample_id"], stop_step=10**9, limits=limits
)
for step in range(int(start), 10**9):
    sys.stdout.write(" ".join([str(step), *feed.batch(step)]) + "\n")
    sys.stdout.flush()
