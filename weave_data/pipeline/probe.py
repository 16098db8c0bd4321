"""A few clips of a catalog decoded as a build would, on local scratch: what one costs, with an interval."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weave_data.catalog import Catalog
from weave_data.config import BuildConfig
from weave_data.decode import DecodeSettings
from weave_data.decode.isolation import LostClipError
from weave_data.decode.job import ClipJob
from weave_data.decode.layer_builder import ClipTask
from weave_data.errors import DecodeError, StoreError
from weave_data.frame_policy import FrameAsk
from weave_data.keyed_hash import keyed_ranks
from weave_data.pipeline.frame_stage import part_items
from weave_data.storage import SourceRoot, Store
from weave_data.weave import frame_asks

__all__ = ["PROBE_CLIPS", "Interval", "Probe", "probe_clips"]

PROBE_CLIPS = 16
_PROBE_PARTS = 4
_TASK_COLUMNS = ("clip_id", "key", "size_bytes", "offset", "media")
_TAR_MEMBER_BYTES = 768  # header, and on average half a block of padding


@dataclass(frozen=True)
class Interval:
    """A mean with the 95 % interval that Student's t gives it."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Of measurements; one alone has no interval, so its mean is all three."""
        mean = float(np.mean(values))
        if len(values) < 2:
            return cls(mean, mean, mean)
        from scipy.stats import t

        half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
        return cls(mean, max(0.0, mean - half), mean + half)

    def times(self, factor: float) -> Interval:
        """The interval of a multiple."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor)

    def plus(self, amount: float) -> Interval:
        """The interval moved by an amount that is known."""
        return Interval(self.mean + amount, self.low + amount, self.high + amount)


@dataclass(frozen=True)
class Probe:
    """What a few clips cost.

    Attributes:
        num_clips: Decoded.
        refused: Clips that were not, with the reason.
        seconds: Of one core, a clip.
        stored_bytes: In the frame store, a clip.
        frame_bytes: A stored frame.
        fetch_seconds: To read a clip from the source, on average.
    """

    num_clips: int
    refused: tuple[tuple[str, str], ...]
    seconds: Interval
    stored_bytes: Interval
    frame_bytes: Interval
    fetch_seconds: float


def probe_clips(
    config: BuildConfig, catalog: Catalog, store: Store, source: SourceRoot, *, num_clips: int = PROBE_CLIPS
) -> Probe | None:
    """Decode a few clips, chosen by hash; nothing is written.

    Args:
        config: Which frames the recipes want, how they are stored, limits of the decoder.
        catalog: Where the clips are named.
        store: Where the catalog lies.
        source: Where the clips lie.
        num_clips: How many.

    Returns:
        None when no clip could be decoded.
    """
    embedded = [FrameAsk("linspace", config.embedding.frames_per_clip)] if config.needs_embeddings else []
    asks = (*frame_asks(config.recipes), *embedded)
    execution = config.execution
    settings = DecodeSettings(
        frames=config.frames,
        clip_timeout_seconds=execution.clip_timeout_seconds,
        clip_memory_bytes=execution.clip_memory_bytes,
    )
    seconds: list[float] = []
    stored: list[float] = []
    frames: list[float] = []
    fetching: list[float] = []
    refused: list[tuple[str, str]] = []
    with settings.isolated_decoder() as decoder:
        for clip in _choose(config, catalog, store, num_clips).to_pylist():
            task = ClipTask(**{name: clip[name] for name in _TASK_COLUMNS})
            job = ClipJob(asks, (), clip["media"], measure=True)
            try:
                began = time.perf_counter()
                data = task.read(source)
                fetching.append(time.perf_counter() - began)
                if not seconds:
                    decoder.decode(data, job)  # once unmeasured: the process starts
                began = time.perf_counter()
                found = decoder.decode(data, job)
                seconds.append(time.perf_counter() - began)
            except DecodeError as error:
                refused.append((clip["clip_id"], error.reason))
                continue
            except (LostClipError, StoreError) as error:
                refused.append((clip["clip_id"], " ".join(str(error).split())))
                continue
            sizes = [len(image) for _, _, image in found.frames]
            frames.append(sum(sizes) / len(sizes))
            stored.append(float(sum(sizes) + _TAR_MEMBER_BYTES * len(sizes)))
    if not seconds:
        return None
    return Probe(
        num_clips=len(seconds),
        refused=tuple(refused),
        seconds=Interval.of(seconds),
        stored_bytes=Interval.of(stored),
        frame_bytes=Interval.of(frames),
        fetch_seconds=float(np.mean(fetching)),
    )


def _choose(config: BuildConfig, catalog: Catalog, store: Store, num_clips: int) -> pa.Table:
    """Clips by hash out of a few parts that lie evenly over the catalog."""
    items = part_items(catalog, config.source.limit)
    places = np.unique(np.linspace(0, len(items) - 1, min(_PROBE_PARTS, len(items))).astype(int))
    tables = [
        catalog.read_part(store, items[place].part).slice(0, items[place].num_clips) for place in places
    ]
    clips = pa.concat_tables(tables).sort_by("clip_id")
    ranks = keyed_ranks(clips["clip_id"].combine_chunks(), key="probe")
    return clips.take(pa.array(np.argsort(ranks)[:num_clips]))
