"""`decode_part`: one part's clips become stored frames; only what is not stored yet is decoded.

read the part's layers -> which (clip, frame) are missing -> fetch ahead, decode isolated, spool
a tar -> commit tar, rejects, index -> one merged index over all layers
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from weave_data.config import FramesConfig
from weave_data.decode.isolation import IsolatedDecoder
from weave_data.decode.job import PictureFormat
from weave_data.decode.layer_builder import BuiltLayer, ClipTask, LayerBuilder, decode_tasks
from weave_data.decode.layers import (
    Layer,
    LayerRequest,
    StoredClip,
    commit_layer,
    frame_tar_key,
    frames_key,
    read_layers,
    source_id,
    stored_clips,
)
from weave_data.decode.receipt import INDEX_SCHEMA, DecodeReceipt, index_table, quality_table
from weave_data.errors import AccountingError
from weave_data.frame_policy import FrameAsk
from weave_data.records import QUALITY_SCHEMA, StageCount, rejects_table
from weave_data.storage import MAX_OBJECT_BYTES, SourceRoot, Store, scratch_folder

__all__ = ["DecodeReceipt", "DecodeRequest", "DecodeSettings", "decode_part"]

_QUARANTINED = "quarantined"


@dataclass(frozen=True)
class DecodeRequest:
    """Which frames of which clips.

    Attributes:
        part: Name of the part.
        clips: Table of CLIP_SCHEMA in catalog order; clip ids are distinct.
        asks: Which frames the recipes want of a clip.
        embedding_frames: m, or None when nothing is embedded.
        quarantine: Clip ids to leave out; counted as filtered.
        retries: Clip ids that were given another chance, and how often: a reject of an earlier round no
            longer counts.
    """

    part: str
    clips: pa.Table
    asks: tuple[FrameAsk, ...]
    embedding_frames: int | None = None
    quarantine: frozenset[str] = frozenset()
    retries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DecodeSettings:
    """How to decode. Only `frames` reaches a key or a byte.

    Attributes:
        frames: Size, format, quality and decoder.
        work_dir: Folder for the spooled tar; the system's temporary folder by default.
        clip_timeout_seconds: Deadline of one clip; a retry has four times as long.
        clip_memory_bytes: Memory of one decoder process; a retry has four times as much.
        recycle_clips: Clips after which a decoder process is replaced.
        prefetch_clips: Clips fetched ahead of the decoder.
        max_tar_bytes: A layer whose tar passes this is cut into several.
    """

    frames: FramesConfig = field(default_factory=FramesConfig)
    work_dir: str | Path | None = None
    clip_timeout_seconds: float = 60.0
    clip_memory_bytes: int = 4 << 30
    recycle_clips: int = 1000
    prefetch_clips: int = 4
    max_tar_bytes: int = MAX_OBJECT_BYTES // 2

    def isolated_decoder(self) -> IsolatedDecoder:
        """Decoder processes with these limits; the first starts at the first clip."""
        return IsolatedDecoder(
            decoder=self.frames.decoder,
            picture=PictureFormat(self.frames.short_side_px, self.frames.format, self.frames.quality),
            timeout_seconds=self.clip_timeout_seconds,
            memory_bytes=self.clip_memory_bytes,
            recycle_clips=self.recycle_clips,
        )


def decode_part(
    request: DecodeRequest, *, store: Store, source: SourceRoot, settings: DecodeSettings
) -> DecodeReceipt:
    """Store the frames a build needs of one part, and say where they lie.

    A second call with the same request decodes nothing. A clip with fewer frames than asked keeps all
    of them; whether a recipe takes it is decided when its clips are chosen.

    Raises:
        AccountingError: Clips in are not clips out, filtered or rejected.
        CommitError: Other bytes are committed under a layer's name.
        DeviceError: The decoder's package is not there.
        IncompleteError: Local scratch is full or broken; nothing of the part is committed.
        SourceError: No scratch folder can be made.
        StoreError: The output can't be read or written (a source that can't be read opens the part).
    """
    key = frames_key(settings.frames)
    kept = [row for row in request.clips.to_pylist() if row["clip_id"] not in request.quarantine]
    sources = {row["clip_id"]: source_id(row) for row in kept}
    wanted = LayerRequest.of(request.asks, request.embedding_frames, sources, request.retries)
    layers = read_layers(store, key, request.part)
    tasks = _missing(kept, wanted, stored_clips(layers, wanted))
    if not tasks:
        return _receipt(request, key, kept, stored_clips(layers, wanted), wanted, layers)
    with (
        scratch_folder(settings.work_dir, prefix="weave-decode-") as folder,
        settings.isolated_decoder() as decoder,
    ):
        builder = LayerBuilder(request.part, wanted, tasks, folder, settings.max_tar_bytes)
        open_clips = decode_tasks(
            tasks, builder, source=source, decoder=decoder, prefetch_clips=settings.prefetch_clips
        )
        if open_clips:
            return _open_receipt(request, key, open_clips)
        built = builder.finish()
        committed = [
            item for new in built for item in commit_layer(store, key, request.part, new.layer, new.tar_path)
        ]
        written = sum(item.is_ours for item in committed)
        merged = stored_clips([*layers, *(new.layer for new in built)], wanted)
        receipt = _receipt(request, key, kept, merged, wanted, layers)
        return replace(
            receipt,
            files_written=written,
            files_reused=receipt.files_reused + len(committed) - written,
            embedding_jpegs=_spooled_jpegs(receipt, built),
        )


def _missing(
    kept: Sequence[Mapping[str, Any]], wanted: LayerRequest, there: Mapping[str, StoredClip]
) -> list[ClipTask]:
    """Clips of which a frame of this request is not stored and whose fate is not known."""
    tasks = []
    for row in kept:
        clip = there.get(row["clip_id"], StoredClip())
        if clip.reject is not None:
            continue
        known = clip.source_frames
        if known is None or not clip.frames.keys() >= set(wanted.wanted(known, clip.source_seconds)):
            place = (row["clip_id"], row["key"], row["size_bytes"], row["offset"], row["media"])
            known_bytes = None if clip.quality is None else clip.quality["sha256"]
            stored = tuple(sorted(clip.frames))
            tasks.append(ClipTask(*place, stored, measure=clip.quality is None, sha256=known_bytes))
    return tasks


def _receipt(
    request: DecodeRequest,
    key: str,
    kept: Sequence[Mapping[str, Any]],
    merged: Mapping[str, StoredClip],
    wanted: LayerRequest,
    old_layers: Sequence[Layer],
) -> DecodeReceipt:
    """Merge what all layers hold for this request, and balance the books."""
    clips = {row["clip_id"]: merged[row["clip_id"]] for row in kept}
    rejects = [clip.reject for clip in clips.values() if clip.reject is not None]
    index = index_table(
        {
            clip_id: (clip, wanted.wanted(clip.source_frames, clip.source_seconds))
            for clip_id, clip in clips.items()
            if clip.reject is None and clip.source_frames is not None
        }
    )
    decoded = index["clip_id"].to_pylist()
    num_quarantined = request.clips.num_rows - len(kept)
    count = StageCount(
        stage="decode",
        num_in=request.clips.num_rows,
        num_out=index.num_rows,
        filtered={_QUARANTINED: num_quarantined} if num_quarantined else {},
        rejected=dict(sorted(Counter(row["reason"] for row in rejects).items())),
    )
    if not count.is_balanced:
        raise AccountingError(
            f"part {request.part}: {count.to_json()} does not balance; clip ids of a part must be distinct, "
            "rebuild the catalog"
        )
    used = {name for clip in clips.values() for name in clip.layers}
    reused = [layer for layer in old_layers if layer.name in used]
    return DecodeReceipt(
        part=request.part,
        frames_key=key,
        index=index,
        quality=quality_table({clip_id: clips[clip_id] for clip_id in decoded}),
        rejects=rejects_table(rejects),
        count=count,
        embedding_frames=request.embedding_frames,
        reused_layers=len(reused),
        files_reused=sum(layer.num_files for layer in reused),
    )


def _open_receipt(request: DecodeRequest, key: str, open_clips: Sequence[tuple[str, str]]) -> DecodeReceipt:
    """Nothing was committed and nothing is counted; the same call tries again."""
    return DecodeReceipt(
        part=request.part,
        frames_key=key,
        index=INDEX_SCHEMA.empty_table(),
        quality=QUALITY_SCHEMA.empty_table(),
        rejects=rejects_table([]),
        count=StageCount("decode", 0, 0),
        open_clips=tuple(open_clips),
        embedding_frames=request.embedding_frames,
    )


def _spooled_jpegs(receipt: DecodeReceipt, built: Sequence[BuiltLayer]) -> list[list[bytes]] | None:
    """The embedding's JPEGs from the tars still on disk; None when older layers hold some of them."""
    if receipt.embedding_frames is None or receipt.reused_layers:
        return None
    folder = {frame_tar_key(receipt.frames_key, receipt.part, new.layer.name): new.tar_path for new in built}

    def read(key: str, start: int, stop: int) -> bytes:
        with folder[key].open("rb") as tar:
            tar.seek(start)
            return tar.read(stop - start)

    return receipt.read_embedding_jpegs(read)
