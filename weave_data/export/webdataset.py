"""WebDataset tars: `<sample_id>.json`, then `<sample_id>.00.jpg`, `.01.jpg`, ... for its frames.

    <recipe>-<sha>-train-00000.tar   one for every shard; a second, `-00000-1.tar`, where it would pass 1 GiB
    <recipe>-<sha>-train.json        index: tars, samples, bytes, sha256

Frames keep their stored bytes. The JSON holds every other column of the woven row, and `record_id` where the
source's record had an id.
"""

from __future__ import annotations

import dataclasses
import io
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from weave_data.export.files import suffix_of
from weave_data.records import WovenSample, canonical_json
from weave_data.storage import MAX_OBJECT_BYTES, Store, commit_exact

__all__ = ["WebDatasetWriter"]

_BLOCK_BYTES = 512
_END_BYTES = 2 * tarfile.RECORDSIZE  # what closing an archive may add


class WebDatasetWriter:
    """Writes samples into tars and tells which tars there are.

    Args:
        target: Where the export goes.
        max_tar_bytes: No tar is larger.
    """

    def __init__(self, target: Store, *, max_tar_bytes: int = MAX_OBJECT_BYTES) -> None:
        self._target = target
        self._max_tar_bytes = max_tar_bytes

    def write(self, name: str, samples: Iterable[WovenSample]) -> list[dict[str, Any]]:
        """Commit the tars of one shard; returns their entries of the index."""
        entries: list[dict[str, Any]] = []
        waiting = ((sample.sample_id, _members(sample)) for sample in samples)
        following = next(waiting, None)
        while following is not None:
            key = f"{name}-{len(entries)}.tar" if entries else f"{name}.tar"
            with tempfile.TemporaryDirectory(prefix="export-") as scratch:
                path, count = Path(scratch) / "samples.tar", 0
                with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                    room = self._max_tar_bytes - _END_BYTES
                    while following is not None and (not count or _size(following[1]) <= room):
                        room -= _size(following[1])
                        _add(tar, following[1])
                        count += 1
                        following = next(waiting, None)
                committed = commit_exact(self._target, key, path)
            entries.append(
                {"tar": key, "samples": count, "bytes": committed.size_bytes, "sha256": committed.sha256}
            )
        return entries

    def resume(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Names depend on nothing that was written before."""


def _members(sample: WovenSample) -> list[tuple[str, bytes]]:
    described = {
        field.name: getattr(sample, field.name)
        for field in dataclasses.fields(sample)
        if field.name != "frames" and not (field.name == "record_id" and sample.record_id is None)
    }
    described["clips"] = [dataclasses.asdict(clip) for clip in sample.clips]
    described["conversations"] = [
        {"from": turn.speaker, "value": turn.value} for turn in sample.conversations
    ]
    members = [(f"{sample.sample_id}.json", canonical_json(described))]
    width = max(2, len(str(len(sample.frames) - 1)))
    for position, data in enumerate(sample.frames):
        suffix = suffix_of(data, name=f"sample {sample.sample_id}: frame {position}")
        members.append((f"{sample.sample_id}.{position:0{width}d}.{suffix}", data))
    return members


def _size(members: list[tuple[str, bytes]]) -> int:
    return sum(_BLOCK_BYTES + len(data) + -len(data) % _BLOCK_BYTES for _, data in members)


def _add(tar: tarfile.TarFile, members: list[tuple[str, bytes]]) -> None:
    for name, data in members:
        entry = tarfile.TarInfo(name)  # no owner, no time: the same samples are the same bytes
        entry.size = len(data)
        entry.mode = 0o644
        tar.addfile(entry, io.BytesIO(data))
