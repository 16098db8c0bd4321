"""Generation follows the model's own next-token choices, and needs nothing it was not trained with."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_rows import CAPTIONS, jpeg

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.rows.prompt import VISUAL_TOKEN_ID

FRAMES = [jpeg((200, 30, 30)), jpeg((30, 30, 200))]


@pytest.fixture
def talkative(settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    """Random weights large enough that every next token is a clear choice."""
    vlm = build_model(settings, tokenizer)
    with torch.no_grad():
        for value in vlm.core.language_model.parameters():
            value.mul_(8.0 if value.ndim > 1 else 1.0)
    return vlm


def question(vlm: VideoLanguageModel) -> str:
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", "<image>\nWhat happens?")
    return builder.get_prompt()


def test_generation_equals_teacher_forcing(talkative: VideoLanguageModel, monkeypatch: Any) -> None:
    said: list[list[int]] = []
    decode = talkative.tokenizer.decode
    monkeypatch.setattr(
        talkative.tokenizer, "decode", lambda ids, **options: said.append(list(ids)) or decode(ids, **options)
    )
    talkative.generate(FRAMES, question(talkative), max_new_tokens=24)
    (new_ids,) = said
    assert len(set(new_ids)) > 3
    prompt = talkative.prompts.encode_prompt(question(talkative))
    ids = torch.cat([prompt[:1], torch.full((8,), VISUAL_TOKEN_ID), prompt[1:], torch.tensor(new_ids)])
    from weave_train.rows.pixels import to_pixels

    features = talkative.encode(to_pixels(FRAMES, talkative.settings))
    with torch.no_grad():
        embeds = talkative.core.embed(features, ids.unsqueeze(0))
        logits = talkative.core.language_model(inputs_embeds=embeds).logits[0]
    choices = logits[:, : len(talkative.tokenizer)].argmax(-1).tolist()
    assert choices[len(ids) - len(new_ids) - 1 : -1] == new_ids


def test_frames_change_the_answer_and_their_form_does_not(talkative: VideoLanguageModel) -> None:
    images = [Image.open(io.BytesIO(data)) for data in FRAMES]
    arrays = np.stack([np.asarray(image) for image in images])
    answers = [
        talkative.generate(f, question(talkative), max_new_tokens=16) for f in (FRAMES, images, arrays)
    ]
    assert len(set(answers)) == 1
    assert talkative.generate(FRAMES[:1], question(talkative), max_new_tokens=16) != answers[0]
    assert talkative.generate([], question(talkative), max_new_tokens=16) != answers[0]


def test_sampling_is_seeded_and_leaves_the_random_stream_alone(talkative: VideoLanguageModel) -> None:
    def sample(seed: int) -> str:
        return talkative.generate(
            FRAMES, question(talkative), do_sample=True, temperature=3.0, max_new_tokens=16, seed=seed
        )

    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    assert sample(1) == sample(1) != sample(2)
    assert torch.equal(torch.rand(2), expected)


def test_generation_leaves_the_training_mode_as_it_was(vlm: VideoLanguageModel) -> None:
    vlm.core.train()
    vlm.generate(FRAMES, question(vlm), max_new_tokens=2)
    assert vlm.core.training


def test_the_answer_ends_at_eos_and_holds_no_control_token(vlm: VideoLanguageModel) -> None:
    with torch.no_grad():
        head = vlm.core.language_model.lm_head.weight
        head.zero_()
    # all logits equal: the first id is BOS, which is skipped in text
    assert vlm.generate(FRAMES, question(vlm), max_new_tokens=5) == ""


def test_a_prompt_that_does_not_fit_says_so(vlm: VideoLanguageModel) -> None:
    with pytest.raises(ConfigError, match="256 visual tokens of 64 frames"):
        vlm.generate(FRAMES * 32, question(vlm))
    with pytest.raises(ConfigError, match="leave no room"):
        vlm.generate(FRAMES, " ".join(CAPTIONS * 5))
    with pytest.raises(ConfigError, match="temperature 0"):
        vlm.generate(FRAMES, question(vlm), do_sample=True, temperature=0)
