"""A CLIP of open_clip's shape, trained in seconds to tell coloured squares and where they are."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
from builders import COLOURS
from PIL import Image

from weave_data.config import EmbeddingConfig
from weave_data.torchvision_ops import install

PLACES = {"left": (2, 11), "right": (20, 11), "top": (11, 2), "bottom": (11, 20)}
LABELS = tuple(itertools.product(COLOURS, PLACES))
CAPTIONS = tuple(f"a {colour} square at the {place}" for colour, place in LABELS)
NAME = "tiny-clip-of-tests"
STEPS = 150

_SHAPE = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def picture(label: int, seed: int) -> bytes:
    """JPEG of one labelled square on noise."""
    colour, place = LABELS[label]
    pixels = np.random.default_rng(seed).integers(0, 60, (32, 32, 3))
    x, y = PLACES[place]
    pixels[y : y + 10, x : x + 10] = COLOURS[colour]
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue()


def random_tiny_clip(folder: Path) -> dict[str, object]:
    """Make open_clip know its shape; settings that embed with seeded random weights."""
    install()
    import open_clip

    (folder / f"{NAME}.json").write_text(json.dumps(_SHAPE))
    open_clip.add_model_config(folder / f"{NAME}.json")
    return {"model": NAME, "pretrained": "random", "precision": "fp32", "frames_per_clip": 2}


def train_tiny_clip(folder: Path) -> EmbeddingConfig:
    """Train it, save its weights below `folder`, make open_clip know it; how to embed with it."""
    install()
    import open_clip
    import torch

    (folder / f"{NAME}.json").write_text(json.dumps(_SHAPE))
    open_clip.add_model_config(folder / f"{NAME}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, _, transform = open_clip.create_model_and_transforms(NAME, pretrained=None)
        tokens = open_clip.get_tokenizer(NAME)(list(CAPTIONS))
        variants = torch.stack(
            [
                torch.stack(
                    [transform(Image.open(io.BytesIO(picture(label, seed)))) for label in range(len(LABELS))]
                )
                for seed in range(8)
            ]
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        target = torch.arange(len(LABELS))
        for step in range(STEPS):
            logits = (
                20
                * model.encode_image(variants[step % 8], normalize=True)
                @ model.encode_text(tokens, normalize=True).T
            )
            loss = torch.nn.functional.cross_entropy(logits, target)
            loss = loss + torch.nn.functional.cross_entropy(logits.T, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(model.state_dict(), folder / "tiny.pt")
    return EmbeddingConfig(
        model=NAME, pretrained=str(folder / "tiny.pt"), precision="fp32", frames_per_clip=2, batch_size=32
    )
