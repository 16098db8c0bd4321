"""Quality column `caption_similarity`: cosine of each caption and its clip's mean frame vector.

Captions are embedded once (caption_stage); then every part's cosines follow from two committed files:

    embeddings/<images>/<xx>/<part>-*.parquet    +
    embeddings/<captions>/<xx>/<part>-*.parquet  = similarities/<key>/<part>-<both sums>.parquet

The key holds both embedding keys and each name the sums of the two files, so another threshold reads
what is there, and a grown catalog compares its new parts only.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog import Catalog
from weave_data.config import BuildConfig
from weave_data.embed import EmbedReceipt, caption_embed_key, embedder_identity, has_text_tower, read_vectors
from weave_data.errors import DeviceError
from weave_data.execute import Executor, Step
from weave_data.pipeline.caption_stage import embed_all_captions
from weave_data.pipeline.frame_stage import StoredFrames
from weave_data.pipeline.progress import OnProgress
from weave_data.quality import SIMILARITY_SCHEMA, caption_cosines
from weave_data.records import Part, content_key
from weave_data.storage import Store, commit_exact
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes

__all__ = ["CaptionSimilarity", "compare_captions"]


@dataclass(frozen=True)
class CaptionSimilarity:
    """What was measured, or why nothing was.

    Attributes:
        table: SIMILARITY_SCHEMA of the embedded clips, in catalog order.
        key: Below `similarities/`; empty when nothing was measured.
        sha256: Stands for all of the files.
        missing: Why nothing was measured; empty when it was.
        files_written: Files that this run committed.
        files_reused: Files that were there.
    """

    table: pa.Table
    key: str = ""
    sha256: str = ""
    missing: str = ""
    files_written: int = 0
    files_reused: int = 0

    def added_to(self, quality: pa.Table) -> pa.Table:
        """`quality` with the column `caption_similarity`: null for a clip without a caption."""
        rows = pc.index_in(quality["clip_id"], value_set=self.table["clip_id"].combine_chunks())
        return quality.append_column("caption_similarity", self.table["caption_similarity"].take(rows))

    def to_json(self) -> dict[str, object]:
        """For a manifest's float stages; empty when nothing was embedded at all."""
        if self.missing:
            return {"missing": self.missing}
        values = self.table["caption_similarity"].drop_null().to_pylist()
        if not self.key or not values:
            return {}
        return {"key": self.key, "clips": len(values), "median": round(statistics.median(values), 6)}


@dataclass(frozen=True)
class _Item:
    part: Part
    images: EmbedReceipt
    captions: EmbedReceipt


@dataclass(frozen=True)
class _Compared:
    part: str
    sha256: str
    table: pa.Table
    is_new: bool


@dataclass(frozen=True)
class _Compare:
    """One part: its committed cosines, made now when they are not there."""

    store: Store
    catalog: Catalog
    key: str

    def __call__(self, item: _Item) -> _Compared:
        sums = sha256_hex(f"{item.images.sha256}\n{item.captions.sha256}".encode())
        path = f"similarities/{self.key}/{item.part.name}-{sums[:12]}.parquet"
        is_there = self.store.head(path) is not None
        data = self.store.get(path) if is_there else table_bytes(self._cosines(item))
        is_new = not is_there and commit_exact(self.store, path, data).is_ours
        return _Compared(
            item.part.name, sha256_hex(data), read_table_bytes(data, schema=SIMILARITY_SCHEMA), is_new
        )

    def _cosines(self, item: _Item) -> pa.Table:
        ids, images, _ = read_vectors(self.store.get(item.images.path))
        known, captions, _ = read_vectors(self.store.get(item.captions.path))
        names = pa.array(ids, pa.string())
        rows = pc.index_in(names, value_set=pa.array(known, pa.string())).to_numpy()
        values = caption_cosines(images, captions[rows])
        clips = self.catalog.read_part(self.store, item.part)
        texts = clips["caption"].take(pc.index_in(names, value_set=clips["clip_id"].combine_chunks()))
        is_blank = pc.equal(pc.utf8_trim_whitespace(texts), "").to_numpy()
        column = pa.array(values, pa.float32(), mask=is_blank | np.isnan(values))
        return pa.table([names, column], schema=SIMILARITY_SCHEMA)


def compare_captions(
    config: BuildConfig,
    store: Store,
    catalog: Catalog,
    frames: StoredFrames,
    executor: Executor,
    on_progress: OnProgress,
) -> CaptionSimilarity:
    """Compare the source's captions with their clips, where the build embeds with a text tower.

    Args:
        config: Its embedding, filters, limit and execution.
        store: The output.
        catalog: Whose captions; a recipe's replacements are not looked at.
        frames: With the clips' vectors.
        executor: Where it runs.
        on_progress: Called as parts are done.

    Raises:
        DeviceError: A threshold asks for the cosines, and the text tower or its tokenizer is not there.
    """
    nothing = SIMILARITY_SCHEMA.empty_table()
    if frames.embed_key is None or not frames.vectors:
        return CaptionSimilarity(nothing)
    if not has_text_tower(config.embedding):
        return CaptionSimilarity(
            nothing, missing=f"embedding.model {config.embedding.model} has no text tower"
        )
    try:
        captions = embed_all_captions(config, store, catalog, executor, on_progress)
    except DeviceError as error:
        if config.filters.caption_similarity.is_bounded:
            raise
        return CaptionSimilarity(nothing, missing=str(error))
    captions_key = caption_embed_key(embedder_identity(config.embedding))
    key = content_key("caption_similarity", images=frames.embed_key, captions=captions_key)
    items = _items(catalog, frames.vectors, captions)
    found: dict[str, _Compared] = {}
    for compared in executor.run(Step("caption similarity", items, _Compare(store, catalog, key))):
        found[compared.part] = compared
        on_progress("compare captions", len(found), len(items), "parts")
    ordered = [found[item.part.name] for item in items]
    num_new = sum(part.is_new for part in ordered) + sum(not receipt.is_reused for receipt in captions)
    return CaptionSimilarity(
        pa.concat_tables([nothing, *(part.table for part in ordered)]),
        key,
        sha256_hex("\n".join(part.sha256 for part in ordered).encode()),
        files_written=num_new,
        files_reused=len(ordered) + len(captions) - num_new,
    )


def _items(catalog: Catalog, images: Sequence[EmbedReceipt], captions: Sequence[EmbedReceipt]) -> list[_Item]:
    by_part = {receipt.part: receipt for receipt in images}
    texts = {receipt.part: receipt for receipt in captions}
    return [
        _Item(part, by_part[part.name], texts[part.name]) for part in catalog.parts if part.name in by_part
    ]
