"""What materialising the paper's grid costs at the object store, counted at the server."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import PROMPT
from PIL import Image
from s3server.faults import FaultProxy
from servers import S3Server

from weave_data.decode.frame_tar import member_name
from weave_data.decode.selection import wanted_indices
from weave_data.frame_policy import FrameAsk
from weave_data.records import PLAN_SCHEMA
from weave_data.shard import ADDRESS_SCHEMA, ShardRequest, num_row_groups, read_row_group, write_shard
from weave_data.storage import Store, open_store

GRID = (1, 2, 4, 8, 16)
FRAMES = 16
NUM_CLIPS = 32
EMBEDDING_FRAMES = 4
TAR = "frames/0123456789abcdef/00/part-00000/0123456789ab.tar"


@dataclass(frozen=True)
class Clip:
    clip_id: str
    source_frames: int
    address: dict[str, Any]


def jpegs(count: int) -> list[bytes]:
    """Noise of the weight that real 336 px frames have: 14 to 40 KB."""
    rng, found = np.random.default_rng(5), []
    for number in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (21 + 3 * number, 37 + 5 * number, 3), dtype=np.uint8))
        sink = io.BytesIO()
        noise.resize((596, 336), Image.Resampling.BICUBIC).save(sink, "JPEG", quality=85)
        found.append(sink.getvalue())
    return found


def store_clips(store: Store) -> list[Clip]:
    """One tar as decoding lays it out when all of the grid is asked for at once."""
    pictures, rng = jpegs(5), np.random.default_rng(3)
    asks = [
        FrameAsk("linspace", count) for count in {*(FRAMES // length for length in GRID), EMBEDDING_FRAMES}
    ]
    sink, clips = io.BytesIO(), []
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(NUM_CLIPS):
            clip_id, length = f"{1000 + number}", int(rng.integers(40, 500))
            stored = wanted_indices(length, length / 25, asks)
            offsets, sizes = [], []
            for index in stored:
                data = pictures[int(rng.integers(len(pictures)))]
                entry = tarfile.TarInfo(member_name(clip_id, index))
                entry.size = len(data)
                offsets.append(tar.offset + 512)
                sizes.append(len(data))
                tar.addfile(entry, io.BytesIO(data))
            address = {
                "clip_id": clip_id,
                "source_frames": length,
                "source_seconds": length / 25,
                "width": 596,
                "height": 336,
                "frame_index": stored,
                "frame_seconds": [index / 25 for index in stored],
                "frame_offset": offsets,
                "frame_bytes": sizes,
                "frame_tar": [TAR] * len(stored),
            }
            clips.append(Clip(clip_id, length, address))
    store.put_new(TAR, sink.getvalue())
    return clips


def plan_of(clips: list[Clip], length: int) -> pa.Table:
    count = FRAMES // length
    order = np.random.default_rng(length).permutation(len(clips))
    rows = []
    for start in range(0, len(clips), length):
        members = [clips[position] for position in order[start : start + length]]
        indices = [FrameAsk("linspace", count).indices(clip.source_frames, 0.0).tolist() for clip in members]
        rows.append(
            {
                "sample_id": f"{length:02d}{start:030d}",
                "frame_clip": [slot for slot in range(length) for _ in range(count)],
                "frame_index": [index for found in indices for index in found],
                "clips": [
                    {
                        "clip_id": c.clip_id,
                        "key": c.clip_id,
                        "caption": "",
                        "cluster_id": -1,
                        "num_frames": count,
                    }
                    for c in members
                ],
                "conversations": [{"from": "human", "value": PROMPT}, {"from": "gpt", "value": "It."}],
                "recipe": f"l{length}",
                "strategy": "random",
                "split": "train",
                "epoch": 0,
                "num_frames": FRAMES,
                "text_bytes": 1,
            }
        )
    return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA)


def ranges(proxy: FaultProxy, fragment: str) -> list[int]:
    """Lengths of the ranged GETs of objects whose path holds a fragment."""
    found = [span for method, path, span in proxy.requests if method == "GET" and fragment in path]
    assert all(found), "a whole object was read"
    spans = [span.removeprefix("bytes=").split("-") for span in found if span]
    return [int(stop) - int(start) + 1 for start, stop in spans]


@pytest.mark.server
def test_the_grid_costs_one_request_a_clip_and_a_tenth_more_bytes_than_it_needs(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.new_bucket()
    with FaultProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = open_store(f"s3://{bucket}/out")
        clips = store_clips(store)
        addresses = pa.Table.from_pylist([clip.address for clip in clips], schema=ADDRESS_SCHEMA)
        figures = {}
        for length in GRID:
            plan = plan_of(clips, length)
            entries = {}
            for pixels in ("inline", "reference"):
                proxy.requests.clear()
                request = ShardRequest(f"l{length}/{pixels}/shard-00000.parquet", "train", 0, 16, pixels)
                entries[pixels] = write_shard(request, plan, addresses, store).entry
                if pixels == "reference":
                    assert ranges(proxy, "/frames/") == []
                else:
                    read = ranges(proxy, "/frames/")
            needed = 0
            groups = num_row_groups(plan.num_rows, 16)
            read_row_group(store, entries["inline"], 0, columns=["sample_id"])  # footers are kept
            read_row_group(store, entries["reference"], 0, columns=["sample_id"])
            proxy.requests.clear()
            for index in range(groups):
                table = read_row_group(store, entries["inline"], index)
                needed += sum(len(frame) for row in table["frames"].to_pylist() for frame in row)
            assert len(proxy.requests) == len(ranges(proxy, "/inline/")) == groups
            figures[length] = (len(read) / len(clips), sum(read) / needed)
            proxy.requests.clear()
            for index in range(groups):
                read_row_group(store, entries["reference"], index)
            assert len(ranges(proxy, "/reference/")) == groups
            assert sorted(ranges(proxy, "/frames/")) == sorted(read)  # the code that materialises
    shown = "; ".join(
        f"L={k}: {gets:.2f} GETs a clip, {ratio:.3f} x the bytes" for k, (gets, ratio) in figures.items()
    )
    for length, (gets, ratio) in figures.items():
        assert gets <= (2 if length == 2 else 1.1), shown
        assert ratio <= 1.1, shown
