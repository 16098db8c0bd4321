"""The text tower: unit vectors of the joint space, whatever the batching."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from weave_data.config import EmbeddingConfig
from weave_data.embed import (
    caption_embed_key,
    caption_vectors_path,
    embed_captions,
    embedder_identity,
    has_text_tower,
    load_text_embedder,
    read_vectors,
)
from weave_data.errors import ConfigError
from weave_data.storage import open_store

CONFIG = EmbeddingConfig(model="ViT-S-32-alt", pretrained="random", precision="fp32", batch_size=3)
TEXTS = ["a dog runs", "rain over 雨の町", "", "a dog runs", "word " * 500]


@pytest.mark.slow
def test_texts_get_unit_vectors_as_the_models_own_text_tower_gives_them(tmp_path) -> None:
    embedder = load_text_embedder(CONFIG)
    vectors = embedder.embed_texts(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, embedder.dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[3], atol=1e-6)
    assert embedder.embed_texts([]).shape == (0, embedder.dim)

    import open_clip
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(CONFIG.model, pretrained=None).eval()
    with torch.inference_mode():
        expected = model.encode_text(open_clip.get_tokenizer(CONFIG.model)(TEXTS), normalize=True).numpy()
    assert np.allclose(vectors, expected, atol=1e-5)

    store = open_store(str(tmp_path))
    captions = pa.table({"clip_id": list("abcde"), "caption": TEXTS})
    path = caption_vectors_path(caption_embed_key(embedder_identity(CONFIG)), "part-0", captions)
    first = embed_captions("part-0", captions, path=path, embedder=embedder, store=store)
    again = embed_captions("part-0", captions, path=path, embedder=embedder, store=store)
    assert (first.is_reused, again.is_reused) == (False, True)
    assert first.sha256 == again.sha256
    ids, stored, notes = read_vectors(store.get(path))
    assert ids == list("abcde")
    assert np.allclose(stored, vectors, atol=1e-3)
    assert notes["embedder"] == "ViT-S-32-alt/random text"


def test_one_changed_caption_is_another_file() -> None:
    key = caption_embed_key(embedder_identity(CONFIG))
    paths = {
        caption_vectors_path(key, "p", pa.table({"clip_id": ["a"], "caption": [text]})) for text in ("x", "y")
    }
    assert len(paths) == 2
    assert all(path.startswith(f"embeddings/{key}/") for path in paths)


@pytest.mark.parametrize("model", ["none", "efficientnet-lite0"])
def test_an_embedder_of_pictures_only_says_so(model: str) -> None:
    config = EmbeddingConfig(model=model)
    assert not has_text_tower(config)
    assert has_text_tower(CONFIG)
    with pytest.raises(ConfigError, match=f"{model} looks at pictures only"):
        load_text_embedder(config)
