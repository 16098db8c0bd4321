"""The pairing audit tells captions of their clips from captions of others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from tiny_clip import CAPTIONS, picture, train_tiny_clip

from weave_data.config import EmbeddingConfig
from weave_data.errors import VerificationError
from weave_data.execute import InProcessExecutor
from weave_data.pipeline.audit import MAX_CLIPS, MIN_CLIPS, PairingAudit, audit_pairs, compare_pairs
from weave_data.shard import ADDRESS_SCHEMA
from weave_data.storage import open_store

NUM_CLIPS = 48


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def noise(num_clips, seed, dim=16):
    return unit(np.random.default_rng(seed).normal(size=(num_clips, dim)))


def test_mean_and_spread_are_those_of_all_permutations():
    images, texts = noise(40, 1), noise(40, 2)
    found = compare_pairs(images, texts)
    cosines = images @ texts.T
    rng = np.random.default_rng(3)
    drawn = [cosines[np.arange(40), rng.permutation(40)].mean() for _ in range(20_000)]
    expected = (np.diagonal(cosines).mean() - np.mean(drawn)) / np.std(drawn)
    assert found.shuffled_cosine == pytest.approx(np.mean(drawn), abs=1e-3)
    assert found.z_score == pytest.approx(expected, rel=0.05, abs=0.05)


@pytest.mark.parametrize("shift", [0, 1])
def test_weakly_related_pairs_are_noticed_and_shifted_ones_are_not_paired(shift):
    images = noise(300, 4)
    texts = unit(0.3 * images + noise(300, 5))
    found = compare_pairs(images, np.roll(texts, shift, axis=0))
    assert found.verdict == ("swapped" if shift else "paired")
    assert (found.z_score > 4) == (shift == 0)
    assert ("check that ids" in found.line()) == (shift == 1)
    assert PairingAudit.from_json(found.to_json()) == found


def test_captions_that_are_all_alike_are_not_called_paired():
    found = compare_pairs(noise(50, 6), np.repeat(noise(1, 7), 50, axis=0))
    assert (found.verdict, found.z_score) == ("swapped", 0.0)


def stored_clips(store, num_clips=NUM_CLIPS):
    """Clips of three pictures each, in one tar: (clip_id, caption), addresses."""
    tar, rows = b"", []
    for clip in range(num_clips):
        row = {
            name: [] for name in ("frame_index", "frame_seconds", "frame_offset", "frame_bytes", "frame_tar")
        }
        for index in range(3):
            jpeg = picture(clip % len(CAPTIONS), seed=1000 + 3 * clip + index)
            values = (index, float(index), len(tar), len(jpeg), "frames/t.tar")
            for name, value in zip(row, values, strict=True):
                row[name].append(value)
            tar += jpeg
        size = {"source_frames": 3, "source_seconds": 1.0, "width": 32, "height": 32}
        rows.append({"clip_id": f"c{clip:02d}", **size, **row})
    store.put_new("frames/t.tar", tar)
    captions = [CAPTIONS[clip % len(CAPTIONS)] for clip in range(num_clips)]
    clips = pa.table({"clip_id": [row["clip_id"] for row in rows], "caption": captions})
    return clips, pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA)


@pytest.mark.parametrize("model", ["none", "efficientnet-lite0"])
def test_an_embedder_without_text_tower_audits_nothing(tmp_path, model):
    store = open_store(str(tmp_path))
    found = audit_pairs(EmbeddingConfig(model=model), store, *stored_clips(store), InProcessExecutor())
    assert found.line() == f"pairing audit not done: embedding.model {model} has no text tower"
    assert list(store.list("audits/")) == []


def test_too_few_clips_say_nothing(tmp_path):
    store = open_store(str(tmp_path))
    few = stored_clips(store, MIN_CLIPS - 1)
    found = audit_pairs(EmbeddingConfig(), store, *few, InProcessExecutor())
    assert found.verdict == "not done"
    assert "15 clips" in found.detail


@pytest.mark.slow
def test_swapped_captions_are_noticed_by_a_model_that_understands_them(tmp_path):
    config = train_tiny_clip(tmp_path)
    store = open_store(str(tmp_path / "output"))
    clips, addresses = stored_clips(store)
    run = InProcessExecutor()
    good = audit_pairs(config, store, clips, addresses, run)
    assert good.verdict == "paired", good.line()
    assert good.num_clips == NUM_CLIPS <= MAX_CLIPS
    assert good.true_cosine > good.shuffled_cosine + 0.2
    swapped = clips.set_column(1, "caption", pa.array(np.roll(clips["caption"].to_pylist(), 1)))
    bad = audit_pairs(config, store, swapped, addresses, run)
    assert bad.verdict == "swapped", bad.line()
    assert len(list(store.list("audits/"))) == 2
    # what is committed is read, not computed again
    assert audit_pairs(config, store, clips, addresses, None) == good
    path = next(tmp_path.glob("output/audits/*.json"))
    path.write_bytes(b"{}x")
    with pytest.raises(VerificationError, match="not an audit"):
        [audit_pairs(config, store, table, addresses, None) for table in (clips, swapped)]
