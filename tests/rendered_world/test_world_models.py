from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from experiments.rendered_world import tower as tower_module
from experiments.rendered_world.attributes import COLOURS, HELD_OUT_THINGS, SHAPES
from experiments.rendered_world.language import write_language
from experiments.rendered_world.tower import single_frames, train_tower
from experiments.rendered_world.words import caption
from weave_train.config import ModelSettings
from weave_train.models.tokenizer import load_tokenizer
from weave_train.models.vision import build_tower, tower_sha256

QUIET = Console(quiet=True)


def test_single_frames_show_what_they_are_said_to_and_nothing_held_out() -> None:
    frames = single_frames(300, seed=4, side_px=32)
    assert frames.pixels.shape == (300, 3, 32, 32)
    pairs = {(list(COLOURS)[c], SHAPES[frames.shapes[f, c]]) for f, c in frames.there.nonzero().tolist()}
    assert len(pairs) == len(COLOURS) * len(SHAPES) - len(HELD_OUT_THINGS)
    assert not pairs & HELD_OUT_THINGS
    red = list(COLOURS).index("red")
    alone = frames.there[:, red] & (frames.there.sum(1) == 1) & (frames.sizes[:, red] == 1)
    for frame in alone.nonzero()[:, 0].tolist():
        redness = frames.pixels[frame, 0].int() - frames.pixels[frame, 1:].int().amax(0)
        rows, columns = (redness > 80).nonzero(as_tuple=True)
        x, y = frames.places[frame, red].tolist()
        if 0.2 < x < 0.8 and 0.2 < y < 0.8:
            assert abs((columns.min() + columns.max() + 1) / 64 - x) < 0.06
            assert abs((rows.min() + rows.max() + 1) / 64 - y) < 0.06
    again = single_frames(3, seed=4, side_px=32)
    assert torch.equal(again.pixels, frames.pixels[:3])


def test_a_tower_is_trained_once_and_read_as_vision_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tower_module, "_NUM_CHECKED", 40)
    probes = train_tower(tmp_path, seed=4, num_steps=3, console=QUIET, num_frames=160)
    assert {probe.name for probe in probes} >= {"shape of a thing", "size of a thing", "background"}
    assert all(0.0 <= probe.score <= 1.0 for probe in probes)
    path = tmp_path / "tower.safetensors"
    read = build_tower(ModelSettings(vision_weights=str(path)))
    assert tower_sha256(read) != tower_sha256(build_tower(ModelSettings(seed=4)))
    before = path.read_bytes()
    assert train_tower(tmp_path, seed=4, num_steps=3, console=QUIET) == probes
    assert path.read_bytes() == before


def test_the_language_model_reads_every_text_of_the_world_and_has_three_million_parameters(
    tmp_path: Path, monkeypatch
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from experiments.rendered_world import language
    from experiments.rendered_world.clips import clip_film

    monkeypatch.setattr(language, "_NUM_TEXTS", 60)
    num_tokens = write_language(tmp_path, seed=4)
    tokenizer = load_tokenizer(tmp_path)
    text = caption(clip_film(9, 1).scenes[0])
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    config = AutoConfig.from_pretrained(tmp_path)
    assert num_tokens <= config.vocab_size
    model = AutoModelForCausalLM.from_config(config)
    assert 2.5e6 < sum(weight.numel() for weight in model.parameters()) < 3.2e6
