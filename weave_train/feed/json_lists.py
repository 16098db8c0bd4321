"""VideoWeave's and LLaVA's JSON lists as they are: no build, media read and decoded with each row.

    list (JSON array or lines) -> records, an Arrow table -> row: turns + media -> `WOVEN_SCHEMA`

A list is parsed once, when the run starts, and held in about as much memory as it has bytes. Each record
is a row group of its own: its files lie apart, so reading neighbours with it would only cost memory.
Rows come at the price of decoding: a build decodes each video once, this does so in every epoch.

Source:
    VideoWeave's `FinetuneDataset`. Differs: a file that can't be read or decoded ends the run and is
    named, VideoWeave trains on black frames under the true caption.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.conversation_rows import read_records
from weave_data.errors import ConfigError, StoreError, VerificationError
from weave_data.records import WOVEN_SCHEMA, canonical_json
from weave_data.storage.sources import SourceRoot, open_source
from weave_train.feed.json_list_media import Frame, FrameSampling, read_media
from weave_train.feed.words import lengths_table

__all__ = ["JsonList", "JsonListSource", "open_json_lists"]

_SHOWN_PROBLEMS = 3


@dataclass(frozen=True)
class JsonList:
    """One parsed list.

    Attributes:
        uri: Where it lies.
        sha256: Of its bytes.
        records: `record_id`, `sample_id`, `keys`, `num_videos`, `frames_per_video`, `conversations`.
    """

    uri: str
    sha256: str
    records: pa.Table


@dataclass(frozen=True)
class JsonListSource:
    """Rows of JSON lists, in row groups of one.

    Attributes:
        name: Of the data set.
        lists: One for each stored epoch.
        media: Where the records' files lie.
        sampling: Which frames of videos are taken.
    """

    name: str
    lists: tuple[JsonList, ...]
    media: SourceRoot
    sampling: FrameSampling
    split: str = "train"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sha256 over the lists' bytes and what decides pixels; media are not opened for it."""
        values = {"lists": [each.sha256 for each in self.lists], "sampling": self.sampling.to_json()}
        return hashlib.sha256(canonical_json(values)).hexdigest()

    @property
    def group_rows(self) -> int:
        """1."""
        return 1

    @property
    def shard_rows(self) -> tuple[tuple[int, ...], ...]:
        """One shard for each list."""
        return tuple((len(each.records),) for each in self.lists)

    def lengths(self, data_epoch: int) -> pa.Table:
        """`is_multimodal` bool and `length` int32, words of all turns, of each record of a list."""
        records = self.lists[data_epoch].records
        return lengths_table(records["conversations"], pc.list_value_length(records["keys"]))

    def read(
        self,
        data_epoch: int,
        shard_index: int,  # noqa: ARG002  a list is one shard
        group_index: int,
        *,
        epoch: int,
    ) -> pa.Table:
        """One record as a row of `records.WOVEN_SCHEMA`.

        Raises:
            StoreError: A file can't be read; names list, record and file.
            VerificationError: A file can't be decoded; names list, record and file.
        """
        origin = self.lists[data_epoch]
        record = origin.records.slice(group_index, 1).to_pylist()[0]
        sample_id = record["sample_id"]
        try:
            frames = read_media(
                record, root=self.media, sampling=self.sampling, sample_id=sample_id, epoch=epoch
            )
        except (StoreError, VerificationError) as error:
            name = f"{origin.uri}: record {group_index} ({record['record_id']})"
            raise type(error)(f"{name}: {error}; mend the file or take the record out of the list") from error
        return pa.Table.from_pylist([self._row(record, frames, data_epoch)], schema=WOVEN_SCHEMA)

    def describe(self) -> dict[str, Any]:
        """Lists with their sums, and how frames are sampled."""
        return {
            "uri": self.media.uri,
            "split": self.split,
            "recipe": self.name,
            "fingerprint": self.fingerprint,
            "configuration": {
                "frames": self.sampling.frames.model_dump(mode="json"),
                "recipe": {
                    "frame_policy": self.sampling.policy,
                    "frames_per_sample": self.sampling.frames_per_sample,
                },
            },
            "inputs": {each.uri: each.sha256 for each in self.lists},
        }

    def _row(self, record: Mapping[str, Any], frames: Sequence[Frame], data_epoch: int) -> dict[str, Any]:
        counts = np.bincount([frame.medium_index for frame in frames], minlength=len(record["keys"])).tolist()
        clips = [
            {"clip_id": key, "key": key, "caption": "", "cluster_id": -1, "num_frames": count}
            for key, count in zip(record["keys"], counts, strict=True)
        ]
        return {
            "sample_id": record["sample_id"],
            "frames": [frame.data for frame in frames],
            "frame_clip": [frame.medium_index for frame in frames],
            "frame_index": [frame.frame_index for frame in frames],
            "frame_seconds": [frame.seconds for frame in frames],
            "clips": clips,
            "conversations": record["conversations"],
            "recipe": self.name,
            "strategy": "as-listed",
            "split": self.split,
            "epoch": data_epoch,
            "num_frames": len(frames),
            "width": frames[0].width if frames else 0,
            "height": frames[0].height if frames else 0,
            "text_bytes": sum(len(turn["value"].encode()) for turn in record["conversations"]),
        }


def open_json_lists(
    uris: Sequence[str], media_uri: str, *, name: str, sampling: FrameSampling, split: str = "train"
) -> JsonListSource:
    """Parse the lists of a data set; no media are touched.

    Args:
        uris: A list for each stored epoch: local paths or anything fsspec reads.
        media_uri: Directory that the records' files are below.
        name: Of the data set.
        sampling: Which frames of videos are taken.
        split: What the run calls this part of the data.

    Raises:
        ConfigError: A list holds no record, or records that can't be trained on; names the first.
        SourceError: A list can't be read or is not JSON.
    """
    if not uris:
        raise ConfigError(f"dataset {name}: no JSON list is named; give at least one")
    lists = tuple(_read_list(uri) for uri in uris)
    return JsonListSource(name, lists, open_source(media_uri), sampling, split)


def _read_list(uri: str) -> JsonList:
    with _open(uri) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        records = read_records(file, name=uri)
    if not len(records):
        raise ConfigError(f"{uri}: holds no record; give another list")
    _refuse_broken(records, uri)
    ids = _unique_ids(records["record_id"])
    kept = ["record_id", "keys", "num_videos", "frames_per_video", "conversations"]
    return JsonList(uri, digest, records.select(kept).append_column("sample_id", ids))


def _open(uri: str) -> io.BufferedReader | io.BytesIO:
    root_uri, _, key = uri.rpartition("/")
    root = open_source(root_uri or ("/" if uri.startswith("/") else "."))
    if root.scheme != "file":
        return io.BytesIO(root.read(key))
    try:
        return (Path(root.prefix) / key).open("rb")
    except OSError as error:
        raise StoreError(f"{uri}: can't be read: {error.strerror}; correct dataset_root_dir") from error


def _refuse_broken(records: pa.Table, uri: str) -> None:
    broken = records.filter(pc.is_valid(records["reason"]))
    if not len(broken):
        return
    shown = [
        f"record {row['row']} ({row['record_id']}): {row['detail']}"
        for row in broken.slice(0, _SHOWN_PROBLEMS).to_pylist()
    ]
    rule = "mend or remove them, or build the list into shards, which drops and counts them"
    count = f"{len(broken)} of {len(records)} records can't be trained on; {rule}"
    raise ConfigError([count, *shown], origin=uri)


def _unique_ids(record_ids: pa.ChunkedArray) -> pa.Array:
    """Ids of samples: the records' own; one that came before gets its row: [a, b, a] -> [a, b, a#2]."""
    codes = record_ids.combine_chunks().dictionary_encode().indices.to_numpy()
    repeated = np.ones(len(codes), dtype=bool)
    repeated[np.unique(codes, return_index=True)[1]] = False
    rows = pa.array(np.arange(len(codes))).cast(pa.string())
    marked = pc.binary_join_element_wise(record_ids, rows, "#")
    return pc.if_else(pa.array(repeated), marked, record_ids)
