"""Listing and cutting a large source: time and peak memory, in a process of its own per step.

    python benchmarks/bench_listing.py [--keys 1000000]

A made-up source yields keys as a store's pages do; nothing is read from disk or network. `list` is LIST
pages to a table, `cut` is a WebVid table of as many rows joined with it, `folder` captions by name.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weave_data.catalog.folder_captions import captions_of_names
from weave_data.catalog.listing import list_videos
from weave_data.catalog.media import ids_of_keys
from weave_data.catalog.parts import cut_catalog
from weave_data.storage import ObjectInfo

STEPS = ("nothing", "list", "cut", "folder")


@dataclass(frozen=True)
class MadeUpSource:
    """Keys as WebVid's: `000001_000050/1234567890.mp4`."""

    num_keys: int
    uri: str = "made-up"

    def check(self) -> None:
        """Always there."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:  # noqa: ARG002
        """Keys, ascending."""
        for index in range(self.num_keys):
            yield ObjectInfo(f"{index // 50:06d}/{index:010d}.mp4", 2_000_000 + index % 1000, etag="0" * 32)


def run(step: str, num_keys: int) -> None:
    """Do one step and print its time and this process' peak memory."""
    started = time.monotonic()
    if step != "nothing":
        listing = list_videos(MadeUpSource(num_keys))  # type: ignore[arg-type]
        if step == "cut":
            ids = pa.array(np.char.mod("%010d", np.arange(num_keys)))
            captions = pa.array([f"a caption of some forty letters, {index}" for index in range(num_keys)])
            rows = pa.table({"clip_id": ids, "key": listing["key"], "caption": captions})
            assert cut_catalog([("clips.csv", rows)], listing, part_clips="auto").count.num_out == num_keys
        if step == "folder":
            rows = captions_of_names(listing).append_column("clip_id", ids_of_keys(listing["key"]))
            assert len(rows) == num_keys
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{step:8s} {num_keys:>9,} keys  {time.monotonic() - started:6.1f} s  peak {peak_mib:6.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Run every step at a tenth of the keys and at all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    keys = parser.parse_args().keys
    context = multiprocessing.get_context("spawn")
    for num_keys in (keys // 10, keys):
        for step in STEPS:
            process = context.Process(target=run, args=(step, num_keys))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{step} failed")


if __name__ == "__main__":
    main()
