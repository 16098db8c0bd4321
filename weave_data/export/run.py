"""Export a recipe shard by shard, each noted when it is whole; the file that names all of them comes last."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from weave_data.errors import ConfigError
from weave_data.export.captions import CaptionsWriter
from weave_data.export.record_ids import RecordIds
from weave_data.export.sharegpt import ShareGptWriter, dataset_info
from weave_data.export.target import claim, commit_array, to_json
from weave_data.export.videoweave import VideoWeaveWriter
from weave_data.export.webdataset import WebDatasetWriter
from weave_data.records import WovenSample
from weave_data.shard import (
    Manifest,
    ShardEntry,
    WovenDataset,
    manifest_sha256,
    num_row_groups,
    read_row_group,
)
from weave_data.storage import Store, commit_exact

__all__ = ["EXPORT_FORMATS", "ExportFormat", "ExportReport", "export_recipe"]

ExportFormat = Literal["videoweave", "webdataset", "sharegpt", "captions"]
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)

_UNFINISHED = "unfinished"


class _Writer(Protocol):
    def write(self, name: str, samples: Iterable[WovenSample], /) -> list[dict[str, Any]]: ...

    def resume(self, records: Sequence[Mapping[str, Any]]) -> None: ...


_WRITERS: Mapping[str, Callable[[Store], _Writer]] = {
    "videoweave": VideoWeaveWriter,
    "webdataset": WebDatasetWriter,
    "sharegpt": ShareGptWriter,
    "captions": CaptionsWriter,
}


@dataclass(frozen=True)
class ExportReport:
    """What lies in the target now.

    Attributes:
        manifest_sha256: Of the data set exported.
        files: (annotation or index file, samples), one for each split and epoch.
        shards_written: Shards this call exported; the others were there.
    """

    uri: str
    format: str
    recipe: str
    manifest_sha256: str
    files: tuple[tuple[str, int], ...]
    shards_written: int

    def lines(self) -> list[str]:
        """What the command line prints."""
        head = f"{self.recipe} as {self.format} in {self.uri}, manifest sha256 {self.manifest_sha256}"
        return [head, *(f"  {name}: {samples:,} samples" for name, samples in self.files)]


def export_recipe(
    dataset: WovenDataset,
    target: Store,
    export_format: str,
    *,
    on_progress: Callable[[str, int, int, str], None] | None = None,
) -> ExportReport:
    """Write a published recipe in another tool's form, or what is missing of it.

    Args:
        dataset: The recipe (`shard.open_dataset`), inline or reference.
        target: An empty folder or prefix, or one that holds the same export, whole or in part.
        export_format: One of `EXPORT_FORMATS`.
        on_progress: Called with (stage, done, total, unit) after every shard.

    Raises:
        ConfigError: No such format; something else lies in the target; a sample can't be told in the form.
        CommitError: A file of this export is there with other content.
        VerificationError: A shard or frame of the data set can't be read.
        StoreError: A store can't be reached.
    """
    if export_format not in _WRITERS:
        raise ConfigError(f"format {export_format!r}: no such export; one of {', '.join(EXPORT_FORMATS)}")
    manifest = dataset.manifest
    claim(target, manifest, export_format)
    groups = list(dict.fromkeys((shard.split, shard.epoch) for shard in manifest.shards))
    if export_format == "sharegpt":
        files = {f"{manifest.recipe}-{_part(*group)}": f"{_stem(manifest, *group)}.json" for group in groups}
        commit_exact(target, "dataset_info.json", to_json(dataset_info(files)))
    record_ids = RecordIds(dataset.store, manifest)
    writer = _WRITERS[export_format](target)
    progress = _Progress(len(manifest.shards), on_progress)
    described, written = [], 0
    for split, epoch in groups:
        shards = manifest.select(split=split, epoch=epoch)
        file = f"{_stem(manifest, split, epoch)}.json"
        parts = [f"{_UNFINISHED}/{_stem(manifest, split, epoch)}-{n:05d}.json" for n in range(len(shards))]
        if target.head(file) is not None:
            writer.resume(json.loads(target.get(file)))
            progress.advance(len(shards))
        else:
            samples = {
                part: _samples(dataset, shard, record_ids) for part, shard in zip(parts, shards, strict=True)
            }
            written += _export_group(target, writer, samples, progress)
            commit_array(target, file, (row for part in parts for row in json.loads(target.get(part))))
        _forget(target, frozenset(parts))
        described.append((file, sum(shard.rows for shard in shards)))
    return ExportReport(
        uri=target.uri,
        format=export_format,
        recipe=manifest.recipe,
        manifest_sha256=manifest_sha256(manifest),
        files=tuple(described),
        shards_written=written,
    )


def _stem(manifest: Manifest, split: str, epoch: int) -> str:
    return f"{manifest.recipe}-{manifest_sha256(manifest)[:12]}-{_part(split, epoch)}"


def _part(split: str, epoch: int) -> str:
    return f"{split}-epoch{epoch}" if epoch else split


class _Progress:
    def __init__(self, total: int, show: Callable[[str, int, int, str], None] | None) -> None:
        self._total = total
        self._show = show
        self._done = 0

    def advance(self, count: int) -> None:
        self._done += count
        if self._show is not None:
            self._show("export", self._done, self._total, "shards")


def _export_group(
    target: Store, writer: _Writer, shards: Mapping[str, Iterable[WovenSample]], progress: _Progress
) -> int:
    """Export the shards of one split and epoch, each noted under its key; returns how many were not there."""
    written = 0
    for part, samples in shards.items():
        if target.head(part) is not None:
            writer.resume(json.loads(target.get(part)))
        else:
            name = part.removeprefix(f"{_UNFINISHED}/").removesuffix(".json")
            commit_exact(target, part, to_json(writer.write(name, samples)))
            written += 1
        progress.advance(1)
    return written


def _forget(target: Store, parts: frozenset[str]) -> None:
    """Remove the notes of finished shards, also those that an interrupted call left."""
    for info in list(target.list(f"{_UNFINISHED}/")):
        if info.key in parts:
            target.delete(info.key)


def _samples(
    dataset: WovenDataset, shard: ShardEntry, record_ids: Callable[[Sequence[str]], list[str | None]]
) -> Iterator[WovenSample]:
    for index in range(num_row_groups(shard.rows, dataset.manifest.row_group_rows)):
        rows = read_row_group(dataset.store, shard, index).to_pylist()
        own_ids = record_ids([row["sample_id"] for row in rows])
        for row, own_id in zip(rows, own_ids, strict=True):
            yield WovenSample.from_row({**row, "record_id": own_id})
