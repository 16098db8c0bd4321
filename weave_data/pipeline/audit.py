"""The pairing audit: do captions belong to their clips? Asked of a text-image embedder, per build.

Up to 512 clips, the same for the same data, are embedded by their stored frames and by their captions.
The mean cosine of true pairs is compared with that of shuffled ones, of which mean and spread are
known exactly, so nothing is drawn at random:

    cosines c[i, j], d = c with row and column means taken off (and the mean added back)
    shuffled mean = mean(c);  deviation of a shuffled mean = sqrt(sum(d^2) / (n - 1)) / n
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config import EmbeddingConfig
from weave_data.embed import embedder_identity, has_text_tower, load_embedder, load_text_embedder
from weave_data.errors import DeviceError, VerificationError
from weave_data.execute import ActorPool, Executor, Step
from weave_data.keyed_hash import keyed_hashes
from weave_data.pipeline.address_rows import AddressRows
from weave_data.records import canonical_json, content_key
from weave_data.storage import Store, commit_first
from weave_data.tables import sha256_hex, table_bytes

__all__ = ["MAX_CLIPS", "PairingAudit", "audit_pairs", "compare_pairs"]

MAX_CLIPS = 512
MIN_CLIPS = 16
MIN_Z_SCORE = 4.0
"""Captions that say nothing of their clips pass it once in 30,000 data sets."""

_SEED = "pairing audit 0"
_THREADS = 16

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PairingAudit:
    """What was found; `detail` says why when it was not done, and what to do when pairs look swapped.

    Cosines are means; `z_score` is the true mean's distance from the shuffled one in standard
    deviations of shuffled means; `above_ratio` is the share of clips nearer to their caption than to
    the mean caption: 0.5 is chance.
    """

    verdict: Literal["paired", "swapped", "not done"]
    detail: str
    num_clips: int = 0
    true_cosine: float = 0.0
    shuffled_cosine: float = 0.0
    z_score: float = 0.0
    above_ratio: float = 0.0
    embedder: str = ""

    def line(self) -> str:
        """One line for the terminal and the card."""
        if self.verdict == "not done":
            return f"pairing audit not done: {self.detail}"
        return (
            f"pairing audit: {self.verdict}; cosine of {self.num_clips} true pairs {self.true_cosine:.3f}, "
            f"shuffled {self.shuffled_cosine:.3f} (z = {self.z_score:.1f}, {self.embedder})"
            + (f"; {self.detail}" if self.detail else "")
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the stored file and the card."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PairingAudit:
        """Inverse of `to_json`."""
        return cls(**values)


@dataclass(frozen=True)
class _Sample:
    """Clips to look at: their captions, and where some of their frames lie (tar, start, stop)."""

    captions: tuple[str, ...]
    places: tuple[tuple[tuple[str, int, int], ...], ...]
    frames: tuple[tuple[bytes, ...], ...] | None = field(default=None, repr=False)


def audit_pairs(
    config: EmbeddingConfig,
    store: Store,
    clips: pa.Table,
    addresses: pa.Table,
    executor: Executor,
    *,
    num_gpus: float = 0.0,
) -> PairingAudit:
    """Audit a build's clips, or read the audit that is committed (`audits/<key>.json`, first writer wins).

    Args:
        config: The embedder.
        store: The output.
        clips: clip_id, caption of the clips that are used, with the captions that are used.
        addresses: `ADDRESS_SCHEMA`; clips without frames are left out.
        executor: Where the model runs.
        num_gpus: What its actor holds of a GPU.

    Raises:
        VerificationError: The committed audit is not one.
    """
    if not has_text_tower(config):
        return PairingAudit("not done", f"embedding.model {config.model} has no text tower")
    chosen = _choose(clips, addresses)
    if len(chosen) < MIN_CLIPS:
        return PairingAudit("not done", f"{len(chosen)} clips with captions, {MIN_CLIPS} are needed")
    sample, sums = _locate(chosen, addresses, config.frames_per_clip)
    identity = embedder_identity(config)
    key = content_key("audit", embedder=identity, clips=sha256_hex(table_bytes(chosen)), frames=sums)
    path = f"audits/{key}.json"
    if store.head(path) is None:
        pool = ActorPool(_AuditActor(config), num_actors=1, num_gpus_per_actor=num_gpus)
        try:
            [found] = list(executor.run(Step("audit", [sample], _ReadFrames(store), pool)))
        except DeviceError as error:
            return PairingAudit("not done", str(error))
        commit_first(store, path, canonical_json(found.to_json()))
    try:
        return PairingAudit.from_json(json.loads(store.get(path)))
    except (ValueError, TypeError) as error:
        raise VerificationError(f"{store.uri}/{path}: not an audit ({error}); delete it") from error


def compare_pairs(images: Matrix, captions: Matrix, *, embedder: str = "") -> PairingAudit:
    """Compare true pairs with shuffled ones.

    Args:
        images: float32[n, dim], unit rows.
        captions: float32[n, dim], unit rows, in the same order.
        embedder: Its name, for the record.

    Source:
        Mean and variance over all permutations: Hoeffding, A combinatorial central limit theorem (1951).
    """
    cosines = images.astype(np.float64) @ captions.astype(np.float64).T
    num_clips = len(cosines)
    mean = float(cosines.mean())
    centred = cosines - cosines.mean(axis=0) - cosines.mean(axis=1, keepdims=True) + mean
    deviation = float(np.sqrt((centred**2).sum() / (num_clips - 1))) / num_clips
    true = np.diagonal(cosines)
    z_score = float((true.mean() - mean) / deviation) if deviation > 1e-12 else 0.0
    is_paired = z_score >= MIN_Z_SCORE
    detail = (
        ""
        if is_paired
        else "captions fit their own clips no better than others: check that ids, paths and captions belong "
        "together, or that this embedder knows their language"
    )
    return PairingAudit(
        verdict="paired" if is_paired else "swapped",
        detail=detail,
        num_clips=num_clips,
        true_cosine=round(float(true.mean()), 6),
        shuffled_cosine=round(mean, 6),
        z_score=round(z_score, 3),
        above_ratio=round(float((np.diagonal(centred) > 0).mean()), 4),
        embedder=embedder,
    )


def _choose(clips: pa.Table, addresses: pa.Table) -> pa.Table:
    """Clips with frames and captions, first by keyed hash of their id: the same for the same data."""
    table = clips.select(["clip_id", "caption"])
    has_frames = pc.is_in(table["clip_id"], value_set=addresses["clip_id"])
    has_caption = pc.not_equal(pc.utf8_trim_whitespace(table["caption"]), "")
    table = table.filter(pc.and_(has_frames, has_caption))
    order = np.argsort(keyed_hashes(table["clip_id"], key=_SEED), kind="stable")[:MAX_CLIPS]
    return table.take(pa.array(order)).combine_chunks()


def _locate(chosen: pa.Table, addresses: pa.Table, frames_per_clip: int) -> tuple[_Sample, str]:
    found = pc.index_in(chosen["clip_id"], value_set=addresses["clip_id"]).to_numpy()
    rows = AddressRows(addresses).take(found).to_pylist()
    places = []
    for row in rows:  # at most MAX_CLIPS
        stored = np.argsort(row["frame_index"], kind="stable")
        picked = stored[np.unique(np.linspace(0, len(stored) - 1, frames_per_clip).astype(int))]
        at = [(row["frame_tar"][i], row["frame_offset"][i], row["frame_bytes"][i]) for i in picked]
        places.append(tuple((tar, start, start + size) for tar, start, size in at))
    captions = tuple(chosen["caption"].to_pylist())
    return _Sample(captions, tuple(places)), sha256_hex(canonical_json(places))


@dataclass(frozen=True)
class _ReadFrames:
    """Fetches a sample's frames from their tars."""

    store: Store

    def __call__(self, sample: _Sample) -> _Sample:
        with ThreadPoolExecutor(_THREADS) as pool:
            flat = pool.map(
                lambda at: self.store.get_range(*at), [at for clip in sample.places for at in clip]
            )
            frames = tuple(tuple(next(flat) for _ in clip) for clip in sample.places)
        return _Sample(sample.captions, sample.places, frames)


@dataclass(frozen=True)
class _AuditActor:
    """Builds both towers in an actor's process; see `ActorPool.factory`."""

    config: EmbeddingConfig

    def __call__(self, device: str) -> Callable[[_Sample], PairingAudit]:
        def audit(sample: _Sample) -> PairingAudit:
            images = load_embedder(self.config, device=device).embed(sample.frames or ())
            texts = load_text_embedder(self.config, device)
            name = f"{self.config.model}, weights {texts.weights_sha256[:12]}"
            return compare_pairs(images, texts.embed_texts(sample.captions), embedder=name)

        return audit
