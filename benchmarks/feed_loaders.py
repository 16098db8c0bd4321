"""One measurement of one reader in a process of its own, for `bench_feed.py`; prints a line of JSON.

    python benchmarks/feed_loaders.py SYSTEM ROOT STATE epoch     an epoch; leaves the state of its middle
    python benchmarks/feed_loaders.py SYSTEM ROOT STATE resume    to the first batch after that state

ROOT is a folder or s3://bucket/prefix. Every reader shuffles in its own way, has two workers and no row in
its caches, and gives batches of 16 rows with their frames as bytes. Imports are not counted.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from weave_data.torchvision_ops import install

BATCH_ROWS, NUM_WORKERS, SEED = 16, 2, 7

Batches = Iterator[list[dict[str, Any]]]
Opened = tuple[Batches, Callable[[int], Any]]
"""Batches from a state on, and the state after so many of them."""


def as_they_are(rows: list[Any]) -> list[Any]:
    """Collate nothing."""
    return rows


def unpacked(rows: list[Any]) -> list[Any]:
    """Frames as a list again; runs in the reader's workers."""
    return [{**row, "frames": pickle.loads(row["frames"])} for row in rows]


def open_weave(root: str, state: Any, scratch: str, pixels: str = "woven") -> Opened:  # noqa: ARG001
    from weave_train.feed import FeedLimits, RowFeed, open_source
    from weave_train.order import TrainingOrder

    source = open_source(f"{root}/{pixels}/l4", split="train")
    order = TrainingOrder.over(
        source.shard_rows, group_rows=source.group_rows, batch_rows=BATCH_ROWS, window_groups=4, seed=SEED
    )
    steps = order.num_steps(1)
    feed = RowFeed(
        [source],
        order,
        slots=range(BATCH_ROWS),
        encode=dict,
        stop_step=steps,
        limits=FeedLimits(num_workers=NUM_WORKERS),
    )
    return (feed.batch(step) for step in range(state or 0, steps)), lambda num_batches: num_batches


def open_mds(root: str, state: Any, scratch: str) -> Opened:
    import streaming

    where = {"remote": f"{root}/mds"} if root.startswith("s3://") else {}
    local = scratch if where else f"{root}/mds"
    dataset = streaming.StreamingDataset(
        **where, local=local, shuffle=True, shuffle_seed=SEED, batch_size=BATCH_ROWS, num_canonical_nodes=1
    )
    loader = streaming.StreamingDataLoader(
        dataset, batch_size=BATCH_ROWS, num_workers=NUM_WORKERS, collate_fn=unpacked
    )
    if state is not None:
        loader.load_state_dict(state)

    def state_after(num_batches: int) -> Any:
        return dataset.state_dict(num_batches * BATCH_ROWS, from_beginning=True)

    return iter(loader), state_after


def open_litdata(root: str, state: Any, scratch: str) -> Opened:
    import litdata

    dataset = litdata.StreamingDataset(f"{root}/litdata", cache_dir=scratch, shuffle=True, seed=SEED)
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=BATCH_ROWS, num_workers=NUM_WORKERS, collate_fn=unpacked
    )
    if state is not None:
        loader.load_state_dict(state)
    return iter(loader), lambda _: loader.state_dict()


def open_webdataset(root: str, state: Any, scratch: str) -> Opened:  # noqa: ARG001
    import torch.utils.data
    import webdataset

    shards = webdataset_urls(root)
    dataset = (
        webdataset.WebDataset(
            shards,
            shardshuffle=len(shards),
            seed=SEED,
            nodesplitter=webdataset.split_by_node,
            empty_check=False,
        )
        .shuffle(256)
        .map(whole_sample)
    )
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=BATCH_ROWS, num_workers=NUM_WORKERS, collate_fn=as_they_are
    )
    # it keeps no position: what was seen is read again
    return itertools.islice(loader, state or 0, None), lambda num_batches: num_batches


def webdataset_urls(root: str) -> list[str]:
    """Local paths, or signed addresses that curl reads, as its documentation does for S3."""
    if not root.startswith("s3://"):
        return sorted(map(str, Path(root, "wds").glob("*.tar")))
    import boto3

    client = boto3.client("s3")
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/wds/")["Contents"]
    signed = [
        client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": found["Key"]})
        for found in listed
    ]
    return [f"pipe:curl -s -f '{url}'" for url in signed]


def whole_sample(parts: dict[str, Any]) -> dict[str, Any]:
    """Frames of a tar's members as one list."""
    frames = [parts[name] for name in sorted(parts) if name.endswith(".jpg")]
    return {"sample_id": parts["__key__"], "frames": frames, "conversations": parts["json"]}


def open_datasets(root: str, state: Any, scratch: str) -> Opened:  # noqa: ARG001
    import datasets
    import torch.utils.data

    files = f"{root}/woven/l4/bench/train/epoch=0/*.parquet"
    data: Any = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    data = data.select_columns(["sample_id", "frames", "conversations"]).shuffle(SEED, buffer_size=256)
    num_workers = NUM_WORKERS
    if state is not None:
        data.load_state_dict(state)
        num_workers = 0  # its state does not go through the workers of torch's own loader
    loader = torch.utils.data.DataLoader(
        data, batch_size=BATCH_ROWS, num_workers=num_workers, collate_fn=as_they_are
    )

    def state_after(num_batches: int) -> Any:
        for _ in itertools.islice(data, num_batches * BATCH_ROWS):
            pass
        return data.state_dict()

    return iter(loader), state_after


SYSTEMS: dict[str, Callable[[str, Any, str], Opened]] = {
    "videoweave": open_weave,
    "mosaicml-streaming": open_mds,
    "litdata": open_litdata,
    "webdataset": open_webdataset,
    "datasets": open_datasets,
}
IMPORTS = {
    "videoweave": ("weave_train.feed", "boto3"),
    "mosaicml-streaming": ("streaming",),
    "litdata": ("litdata",),
    "webdataset": ("webdataset", "torch.utils.data", "boto3"),
    "datasets": ("datasets", "torch.utils.data", "s3fs"),
}


def digest(batch: list[dict[str, Any]]) -> str:
    """Touch every byte of a batch, as whoever decodes it would."""
    sums = hashlib.blake2b(digest_size=8)
    for row in batch:
        for frame in row["frames"]:
            sums.update(frame[:64])
    return sums.hexdigest()


def measure(system: str, root: str, state_path: Path, task: str) -> dict[str, float]:
    """Seconds to the first batch, and rows a second after it."""
    for module in IMPORTS[system]:
        __import__(module)
    state = json.loads(state_path.read_text()) if task == "resume" else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        before = sum(os.times()[:4])
        begin = time.perf_counter()
        batches, state_after = SYSTEMS[system](root, state, scratch)
        num_batches, num_rows, ids, middle = 0, 0, set(), None
        for batch in batches:
            digest(batch)
            num_batches, num_rows = num_batches + 1, num_rows + len(batch)
            ids.update(row["sample_id"] for row in batch)
            if num_batches == 1:
                first_seconds = time.perf_counter() - begin
                if task == "resume":
                    break
            if num_batches == 16 and system != "datasets":
                middle = state_after(num_batches)
        seconds = time.perf_counter() - begin
        if task == "resume":
            return {"first_seconds": first_seconds}
        del batches  # its workers end, and their time is known
        used = sum(os.times()[:4]) - before
        assert len(ids) == num_rows, "a row came twice"
        state_path.write_text(json.dumps(middle if system != "datasets" else state_after(16)))
    rate = (num_rows - BATCH_ROWS) / (seconds - first_seconds)
    return {
        "first_seconds": first_seconds,
        "rows_per_second": rate,
        "epoch_seconds": seconds,
        "cpu_seconds": used,
        "rows": num_rows,
    }


if __name__ == "__main__":
    install()  # streaming imports torchvision
    print(json.dumps(measure(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4])))
