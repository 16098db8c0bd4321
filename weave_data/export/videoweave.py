"""The JSON and the tree of PNGs that VideoWeave's and Prismatic's loaders read.

    <recipe>-<sha>-train.json       [{"id": "a, b,", "frames": ["a/0000.png", ...], "conversations": [...]}]
    frames/a/0000.png               root of the paths in `frames`

Loaders ignore the other keys of a record, which say where it came from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from weave_data.export.files import FolderNames, to_png
from weave_data.records import WovenSample
from weave_data.storage import Store, commit_exact

__all__ = ["FRAMES_ROOT", "VideoWeaveWriter", "woven_id"]

FRAMES_ROOT = "frames"
_THREADS = min(8, os.cpu_count() or 1)


def woven_id(sample: WovenSample) -> str:
    """The record's own id; else ids of the clips joined by `", "`, a comma at the end, of one clip its id.

    Source:
        VideoWeave strips the blank of `"a, b, "` and keeps the comma. Text alone has the sample's id.
    """
    if sample.record_id is not None:
        return sample.record_id
    ids = [clip.clip_id for clip in sample.clips]
    if not ids:
        return sample.sample_id
    return ids[0] if len(ids) == 1 else ", ".join(ids) + ","


class VideoWeaveWriter:
    """Writes the frames of samples and tells their records.

    Args:
        target: Where the export goes.
    """

    def __init__(self, target: Store) -> None:
        self._target = target
        self._folders = FolderNames()

    def write(self, _: str, samples: Iterable[WovenSample]) -> list[dict[str, Any]]:
        """Commit the frames of some samples; returns their records."""
        records = []
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="export") as pool:
            for sample in samples:
                names, new = self._names(sample)
                list(pool.map(self._commit, *zip(*new, strict=True)) if new else ())
                records.append(_record(sample, names))
        return records

    def resume(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Remember what an earlier run has written."""
        for record in records:
            start = 0
            for clip in record["clips"]:
                stop = start + clip["num_frames"]
                self._folders.add(clip["clip_id"], record["frame_index"][start:stop])
                start = stop

    def _names(self, sample: WovenSample) -> tuple[list[str], list[tuple[str, bytes]]]:
        names: list[str] = []
        new: list[tuple[str, bytes]] = []
        for clip in sample.clips:
            start = len(names)
            places = range(start, start + clip.num_frames)
            folder, is_new = self._folders.add(
                clip.clip_id, sample.frame_index[start : start + clip.num_frames]
            )
            names += [f"{folder}/{position:04d}.png" for position in range(clip.num_frames)]
            if is_new:
                new += [(names[place], sample.frames[place]) for place in places]
        return names, new

    def _commit(self, name: str, data: bytes) -> None:
        commit_exact(self._target, f"{FRAMES_ROOT}/{name}", to_png(data, name=name))


def _record(sample: WovenSample, names: list[str]) -> dict[str, Any]:
    return {
        "id": woven_id(sample),
        **({"frames": names} if names else {}),
        "conversations": [{"from": turn.speaker, "value": turn.value} for turn in sample.conversations],
        "sample_id": sample.sample_id,
        "clips": [
            {"clip_id": clip.clip_id, "caption": clip.caption, "num_frames": clip.num_frames}
            for clip in sample.clips
        ],
        "frame_index": list(sample.frame_index),
        "frame_seconds": list(sample.frame_seconds),
    }
