"""The same woven samples in the formats of five readers, for `bench_feed.py`.

    python benchmarks/feed_formats.py FOLDER [--rows 512]

`woven` is ours, and what Hugging Face `datasets` reads; `wds`, `mds` and `litdata` hold the same. Frames
are random bytes between a JPEG's first and last: nothing is decoded, and nothing compresses.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weave_data.records import WOVEN_SCHEMA
from weave_data.shard import Manifest, ShardEntry, publish
from weave_data.shard.layout import FOOTER_TAIL_BYTES, footer_span, open_writer
from weave_data.storage import open_store, sha256_of
from weave_data.torchvision_ops import install

NUM_FRAMES, FRAME_BYTES = 16, 20_000
SHARD_ROWS, GROUP_ROWS = 128, 16


def make_row(index: int) -> dict[str, Any]:
    """One woven sample of about 320 kB."""
    rng = np.random.default_rng(index)
    frames = [b"\xff\xd8\xff" + rng.bytes(FRAME_BYTES) + b"\xff\xd9" for _ in range(NUM_FRAMES)]
    caption = f"sample {index} of a benchmark, whose caption is about as long as a caption of WebVid is"
    clips = [
        {"clip_id": f"{index}-{k}", "key": f"{index}/{k}.mp4", "caption": caption, "cluster_id": 0}
        | {"num_frames": NUM_FRAMES // 4}
        for k in range(4)
    ]
    return {
        "sample_id": f"{index:032x}",
        "frames": frames,
        "frame_clip": [frame // 4 for frame in range(NUM_FRAMES)],
        "frame_index": list(range(NUM_FRAMES)),
        "frame_seconds": [float(frame) for frame in range(NUM_FRAMES)],
        "clips": clips,
        "conversations": [{"from": "human", "value": "What happens?"}, {"from": "gpt", "value": caption * 4}],
        "recipe": "l4",
        "strategy": "clustered",
        "split": "train",
        "epoch": 0,
        "num_frames": NUM_FRAMES,
        "width": 336,
        "height": 336,
        "text_bytes": len(caption) * 4,
    }


def small_row(index: int) -> dict[str, Any]:
    """What a trainer uses of it: id, frames, conversations as JSON."""
    row = make_row(index)
    return {
        "sample_id": row["sample_id"],
        "frames": row["frames"],
        "conversations": json.dumps(row["conversations"]),
    }


def write_woven(folder: Path, num_rows: int) -> None:
    """Inline shards and their manifest, with the writer's own options."""
    store, entries = open_store(str(folder)), []
    for shard_index, first in enumerate(range(0, num_rows, SHARD_ROWS)):
        key = f"l4/bench/train/epoch=0/shard-{shard_index:05d}.parquet"
        path = folder / "unfinished"
        path.parent.mkdir(parents=True, exist_ok=True)
        last = min(first + SHARD_ROWS, num_rows)
        with open_writer(path) as writer:
            for start in range(first, last, GROUP_ROWS):
                rows = [make_row(index) for index in range(start, min(start + GROUP_ROWS, last))]
                writer.write_table(pa.Table.from_pylist(rows, schema=WOVEN_SCHEMA))
        data = path.read_bytes()
        begin, stop = footer_span(data[-FOOTER_TAIL_BYTES:], len(data), name=key)
        committed = store.put_new(key, path)
        path.unlink()
        entries.append(
            ShardEntry(key, "train", 0, last - first, len(data), committed.sha256, begin, stop - begin)
        )
    publish(store, Manifest("l4", {}, {}, GROUP_ROWS, SHARD_ROWS, (), tuple(entries)))
    assert sha256_of((folder / entries[0].path).read_bytes()) == entries[0].sha256


def write_webdataset(folder: Path, num_rows: int) -> None:
    """Tars of SHARD_ROWS samples: one member a frame, one for the text."""
    folder.mkdir(parents=True)
    for shard_index, first in enumerate(range(0, num_rows, SHARD_ROWS)):
        with tarfile.open(folder / f"shard-{shard_index:05d}.tar", "w") as tar:
            for index in range(first, min(first + SHARD_ROWS, num_rows)):
                row = small_row(index)
                members = {f"{frame:02d}.jpg": data for frame, data in enumerate(row["frames"])}
                for suffix, data in {**members, "json": row["conversations"].encode()}.items():
                    entry = tarfile.TarInfo(f"{row['sample_id']}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))


def packed_row(index: int) -> dict[str, Any]:
    """`small_row` for formats without lists of bytes: frames are one pickled value."""
    row = small_row(index)
    return {**row, "frames": pickle.dumps(row["frames"])}


def write_mds(folder: Path, num_rows: int) -> None:
    """MosaicML's shards, of its default size."""
    from streaming import MDSWriter

    columns = {"sample_id": "str", "conversations": "str", "frames": "bytes"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for index in range(num_rows):
            writer.write(packed_row(index))


def write_litdata(folder: Path, num_rows: int) -> None:
    """Lightning's chunks, of the size its documentation uses."""
    import litdata

    litdata.optimize(
        fn=packed_row, inputs=list(range(num_rows)), output_dir=str(folder), chunk_bytes="64MB", num_workers=1
    )


def main() -> None:
    """Write every format that is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=512)
    arguments = parser.parse_args()
    install()  # streaming imports torchvision
    writers = {"woven": write_woven, "wds": write_webdataset, "mds": write_mds, "litdata": write_litdata}
    for name, write in writers.items():
        if not (arguments.folder / name).exists():
            write(arguments.folder / name, arguments.rows)


if __name__ == "__main__":
    main()
