"""Captions are embedded per part, once, and again only where one changed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from weave_data.catalog import build_catalog
from weave_data.config import BuildConfig, EmbeddingConfig, SourceConfig
from weave_data.embed import read_vectors
from weave_data.execute import InProcessExecutor
from weave_data.pipeline import caption_stage
from weave_data.pipeline.caption_stage import embed_all_captions
from weave_data.pipeline.vectors import read_clip_vectors
from weave_data.storage import open_store

NUM_CLIPS = 20


class LengthEmbedder:
    """The length of a text, as a vector."""

    name, dim, weights_sha256, device = "length", 2, "", "cpu"

    def __init__(self):
        self.texts = []

    def embed_texts(self, texts):
        self.texts += texts
        lengths = np.array([len(text) for text in texts], dtype=np.float32).reshape(-1, 1)
        return np.concatenate([np.cos(lengths / 100), np.sin(lengths / 100)], axis=1)


@pytest.fixture
def world(tmp_path, monkeypatch):
    embedder = LengthEmbedder()
    monkeypatch.setattr(caption_stage, "load_text_embedder", lambda config, device: embedder)
    for clip in range(NUM_CLIPS):
        for name, data in ((f"{clip:02d}.mp4", b"v"), (f"{clip:02d}.txt", b"x" * (clip + 1))):
            path = tmp_path / "in" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    config = BuildConfig(
        source=SourceConfig(kind="folder", videos=str(tmp_path / "in"), part_clips=6),
        embedding=EmbeddingConfig(),
        recipes=[{"name": "l1", "strategy": "single"}],
        output=str(tmp_path / "out"),
    )
    store = open_store(config.output)
    catalog = build_catalog(config.source, store)

    def run(config=config, **options):
        embedder.texts.clear()
        return embed_all_captions(config, store, catalog, InProcessExecutor(), lambda *_: None, **options)

    return config, store, run, embedder


def test_every_part_gets_vectors_of_its_captions_once(world):
    _, store, run, embedder = world
    receipts = run()
    assert [receipt.num_clips for receipt in receipts] == [6, 6, 6, 2]
    ids, vectors, _ = read_vectors(store.get(receipts[1].path))
    assert ids == [f"{clip:02d}" for clip in range(6, 12)]
    assert np.allclose(vectors[:, 0], np.cos(np.arange(7, 13) / 100), atol=1e-3)
    chosen = pa.array(["01", "07", "19"])
    found = read_clip_vectors(receipts, chosen, store)
    assert np.allclose(found[:, 1], np.sin(np.array([2, 8, 20]) / 100), atol=1e-3)
    again = run()
    assert embedder.texts == []
    assert all(receipt.is_reused for receipt in again)
    assert [receipt.sha256 for receipt in again] == [receipt.sha256 for receipt in receipts]


def test_replaced_captions_are_embedded_where_they_differ(world):
    _, _, run, embedder = world
    run()
    replaced = pa.table({"clip_id": ["07", "none"], "caption": ["new", "nobody"]})
    receipts = run(captions=replaced)
    assert [receipt.is_reused for receipt in receipts] == [True, False, True, True]
    assert embedder.texts == ["x" * 7, "new", *("x" * length for length in range(9, 13))]


def test_a_limit_embeds_only_the_clips_it_leaves(world):
    config, _, run, embedder = world
    limited = config.model_copy(update={"source": config.source.model_copy(update={"limit": 8})})
    assert [receipt.num_clips for receipt in run(limited)] == [6, 2]
    assert len(embedder.texts) == 8
