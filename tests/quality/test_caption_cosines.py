"""Cosines of captions and clips: the same bits whatever adds them up."""

from __future__ import annotations

import math

import numpy as np

from weave_data.quality import caption_cosines


def halves(num_rows: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(num_rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def test_they_are_those_of_exact_arithmetic_and_do_not_depend_on_the_order_of_adding() -> None:
    images, captions = halves(40, 512, 1), halves(40, 512, 2)
    found = caption_cosines(images, captions)
    for row, (image, caption) in enumerate(zip(images.tolist(), captions.tolist(), strict=True)):
        product = math.fsum(a * b for a, b in zip(image, caption, strict=True))
        lengths = math.sqrt(math.fsum(a * a for a in image)) * math.sqrt(math.fsum(b * b for b in caption))
        assert found[row] == np.float32(product / lengths)
    order = np.random.default_rng(3).permutation(512)
    shuffled = caption_cosines(images[:, order], captions[:, order])
    assert shuffled.tobytes() == found.tobytes()
    assert found.dtype == np.float32


def test_equal_vectors_have_cosine_one_and_no_vector_has_none() -> None:
    images = np.stack([halves(1, 8, 4)[0], np.zeros(8, np.float16), -halves(1, 8, 4)[0]])
    captions = np.repeat(halves(1, 8, 4), 3, axis=0)
    found = caption_cosines(images, captions)
    assert found[[0, 2]].tolist() == [1.0, -1.0]
    assert np.isnan(found[1])
