"""Embedders give unit vectors that mean something, whatever the batching."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weave_data.config import EmbeddingConfig
from weave_data.embed import check_embedder, embedder_identity, load_embedder
from weave_data.errors import ConfigError, DeviceError


def jpeg(rgb: tuple[int, int, int], *, noise_seed: int = 0) -> bytes:
    noise = np.random.default_rng(noise_seed).integers(-12, 12, (48, 64, 3))
    pixels = np.clip(np.array(rgb) + noise, 0, 255).astype(np.uint8)
    pixels[12:36, 16:48] = 255 - pixels[12:36, 16:48]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


CLIPS = [
    [jpeg((200, 40, 40), noise_seed=1), jpeg((200, 40, 40), noise_seed=2)],
    [jpeg((200, 40, 40), noise_seed=3)],
    [jpeg((30, 60, 210), noise_seed=4), jpeg((30, 60, 210), noise_seed=5)],
]
CONFIGS = {
    "none": EmbeddingConfig(model="none"),
    "efficientnet-lite0": EmbeddingConfig(model="efficientnet-lite0", precision="fp32"),
    "open_clip": EmbeddingConfig(model="ViT-S-32-alt", pretrained="random", precision="fp32"),
}


@pytest.fixture(params=["none", "efficientnet-lite0", "open_clip"], scope="module")
def config(request: pytest.FixtureRequest) -> EmbeddingConfig:
    return CONFIGS[request.param]


def test_embedder_gives_one_unit_vector_per_clip_whatever_the_batch_size(config: EmbeddingConfig) -> None:
    embedder = load_embedder(config)
    vectors = embedder.embed(CLIPS)
    assert vectors.shape == (3, embedder.dim)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    one_by_one = load_embedder(config.model_copy(update={"batch_size": 1})).embed(CLIPS)
    assert np.allclose(one_by_one, vectors, atol=1e-5)


@pytest.mark.parametrize("name", ["none", "efficientnet-lite0"])
def test_clips_that_look_alike_are_nearer_than_clips_that_do_not(name: str) -> None:
    red, red_again, blue = load_embedder(CONFIGS[name]).embed(CLIPS)
    assert red @ red_again > red @ blue + 0.05


def test_photos_of_food_are_nearer_to_each_other_than_to_a_beach(assets: Path) -> None:
    photos = ["000000062554", "000000160012", "000000214753"]  # plates of food, a pizza, riders on a beach
    jpegs = [[(assets / "images" / f"{name}.jpg").read_bytes()] for name in photos]
    food, pizza, beach = load_embedder(CONFIGS["efficientnet-lite0"]).embed(jpegs)
    assert food @ pizza > food @ beach


def test_random_weights_are_the_same_in_every_process_and_leave_the_global_generator_alone() -> None:
    import torch

    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = load_embedder(CONFIGS["open_clip"])
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert load_embedder(CONFIGS["open_clip"]).weights_sha256 == first.weights_sha256


def test_identity_names_a_weight_file_by_content_not_by_place(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights.pt").write_bytes(b"the same bytes")
    here, there = (
        embedder_identity(EmbeddingConfig(pretrained=str(tmp_path / folder / "weights.pt")))
        for folder in "ab"
    )
    assert here == there
    assert str(tmp_path) not in str(here)
    assert here["pretrained"].startswith("sha256:")


def test_identity_does_not_depend_on_how_the_work_is_batched() -> None:
    one = embedder_identity(EmbeddingConfig(model="ViT-B-32", pretrained="openai", batch_size=1))
    many = embedder_identity(EmbeddingConfig(model="ViT-B-32", pretrained="openai", batch_size=512))
    assert one == many


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        (EmbeddingConfig(model="ViT-B-23"), ConfigError, "not an open_clip architecture"),
        (EmbeddingConfig(pretrained="opnai"), ConfigError, "its tags are openai"),
        (EmbeddingConfig(pretrained="/nowhere/weights.pt"), DeviceError, "no weight file"),
        (EmbeddingConfig(pretrained="openai"), DeviceError, "give the file's path"),
    ],
)
def test_an_embedder_that_can_not_be_had_is_said_before_any_work(
    config: EmbeddingConfig, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        check_embedder(config)


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="torch sees no GPU"):
        load_embedder(CONFIGS["open_clip"], device="cuda")
