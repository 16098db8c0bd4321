"""One part of the captions' vectors: committed once like the images', the first writer wins."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from weave_data.embed.stage import EmbedReceipt, embedding_path, vector_table
from weave_data.embed.text import TextEmbedder
from weave_data.records import content_key
from weave_data.storage import Store, commit_first
from weave_data.tables import sha256_hex, table_bytes

__all__ = ["caption_embed_key", "caption_vectors_path", "embed_captions"]


def caption_embed_key(identity: dict[str, Any]) -> str:
    """Stage key of captions' vectors: of the embedder alone, captions name the files below it."""
    return content_key("embed-captions", embedder=identity)


def caption_vectors_path(key: str, part: str, captions: pa.Table) -> str:
    """Place of a part's caption vectors below OUTPUT.

    Args:
        key: See `caption_embed_key`.
        part: Its name.
        captions: clip_id, caption in order; both are part of the name.
    """
    content = table_bytes(captions.select(["clip_id", "caption"]))
    return embedding_path(key, part, sha256_hex(content))


def embed_captions(
    part: str, captions: pa.Table, *, path: str, embedder: TextEmbedder, store: Store
) -> EmbedReceipt:
    """Embed a part's captions and commit their vectors; another run's win if they came first.

    Args:
        part: Its name.
        captions: clip_id, caption: string[n].
        path: See `caption_vectors_path`.
        embedder: Loaded.
        store: The output.
    """
    vectors = embedder.embed_texts(captions["caption"].to_pylist())
    table = vector_table(captions["clip_id"].to_pylist(), vectors, embedder)
    committed = commit_first(store, path, table_bytes(table))
    return EmbedReceipt(
        part=part,
        path=path,
        sha256=committed.sha256,
        num_clips=len(captions),
        is_reused=not committed.is_ours,
        weights_sha256=embedder.weights_sha256,
        device=embedder.device,
    )
