"""A batch is answered as its rows would be alone, and as transformers would go on with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from talkative import ARCHITECTURES, talkative_model
from tiny_rows import jpeg

from weave_data.errors import ConfigError, VerificationError
from weave_train.config import ModelSettings
from weave_train.models.asking import ask, begin_alone, embed_asked
from weave_train.models.decoding import AnswerOptions
from weave_train.models.generate import generate_texts
from weave_train.models.model import VideoLanguageModel

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 220)]
VIDEO = [jpeg(colour) for colour in COLOURS]
IMAGES = [VIDEO, None, VIDEO[0], VIDEO[2:]]
PROMPTS = [
    "In: What happens?\nOut:",
    "In: Nothing is shown here, or is there something after all?\nOut:",
    "In: Why\nOut:",
    "In: What is left?\nOut:",
]
NUM_NEW = 20


@pytest.fixture(scope="module", params=ARCHITECTURES)
def speaker(request: pytest.FixtureRequest, settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    return talkative_model(request.param, settings, tokenizer)


@pytest.fixture(scope="module")
def llama(settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    return talkative_model("llama", settings, tokenizer)


def continued_by_transformers(vlm: VideoLanguageModel, row: int, stop: int) -> str:
    asked = ask(vlm, IMAGES[row : row + 1], PROMPTS[row : row + 1])
    begin_alone(vlm)
    model: Any = vlm.core.language_model
    model.generation_config.eos_token_id = stop
    new = model.generate(
        inputs_embeds=embed_asked(vlm, asked),
        attention_mask=asked.attention_mask,
        max_new_tokens=NUM_NEW,
        do_sample=False,
        use_cache=True,
        suppress_tokens=list(range(len(vlm.tokenizer), model.config.vocab_size)) or None,
    )
    said = [token for token in new[0].tolist() if token != stop]
    return str(vlm.tokenizer.decode(said, skip_special_tokens=True)).strip()


def stop_at(vlm: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch) -> int:
    """Make a token that row 0 soon says the one that ends answers."""
    said: list[list[int]] = []
    monkeypatch.setattr(
        "weave_train.models.answer_text.AnswerText.whole", lambda self: said.append(self._ids) or ""
    )
    generate_texts(vlm, IMAGES, PROMPTS, [AnswerOptions(max_new_tokens=NUM_NEW)] * 4)
    monkeypatch.undo()
    stop = next(token for token in said[0][3:] if any(token not in other for other in said[1:]))
    monkeypatch.setattr("weave_train.models.decoding.stop_token_ids", lambda _: frozenset({stop}))
    return stop


def test_a_batch_says_what_each_row_says_alone_and_transformers_says(
    speaker: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = stop_at(speaker, monkeypatch)
    batch = speaker.generate_batch(IMAGES, PROMPTS, max_new_tokens=NUM_NEW)
    alone = [
        speaker.generate(image, prompt, max_new_tokens=NUM_NEW)
        for image, prompt in zip(IMAGES, PROMPTS, strict=True)
    ]
    assert batch == alone
    assert batch == [continued_by_transformers(speaker, row, stop) for row in range(4)]
    assert len({text[:8] for text in alone}) == 4
    assert len(alone[0]) < max(map(len, alone))  # it ended first, and the others went on


def test_the_tower_is_called_once_for_a_batch(llama: VideoLanguageModel, monkeypatch: Any) -> None:
    calls: list[int] = []
    encode = llama.encode
    monkeypatch.setattr(llama, "encode", lambda pixels: calls.append(len(pixels)) or encode(pixels))
    llama.generate_batch(IMAGES, PROMPTS, max_new_tokens=3)
    assert calls == [7]


def test_a_row_draws_the_same_whatever_batch_it_is_in(llama: VideoLanguageModel) -> None:
    options = {"do_sample": True, "temperature": 2.0, "top_k": 50, "top_p": 0.9, "seed": 4}
    batch = llama.generate_batch(IMAGES, PROMPTS, max_new_tokens=8, **options)
    assert batch[2] == llama.generate(IMAGES[2], PROMPTS[2], max_new_tokens=8, **options)
    assert batch[2] != llama.generate(IMAGES[2], PROMPTS[2], max_new_tokens=8, **{**options, "seed": 5})
    # one token to choose from is the likeliest
    likeliest = llama.generate(IMAGES[2], PROMPTS[2], max_new_tokens=8)
    assert llama.generate(IMAGES[2], PROMPTS[2], max_new_tokens=8, **{**options, "top_k": 1}) == likeliest


def test_rows_have_options_of_their_own(llama: VideoLanguageModel) -> None:
    options = [AnswerOptions(max_new_tokens=n) for n in (2, 9, 4, 7)]
    batch = generate_texts(llama, IMAGES, PROMPTS, options)
    for row, text in enumerate(batch):
        assert text == generate_texts(llama, [IMAGES[row]], [PROMPTS[row]], [options[row]])[0]


@pytest.mark.parametrize("name", ["min_new_tokens", "min_length"])
def test_an_answer_does_not_end_before_its_least_length(
    llama: VideoLanguageModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stop_at(llama, monkeypatch)
    short = llama.generate(IMAGES[0], PROMPTS[0], max_new_tokens=NUM_NEW)
    num_text = 0 if name == "min_new_tokens" else len(ask(llama, [None], PROMPTS[:1]).input_ids[0])
    longer = llama.generate(IMAGES[0], PROMPTS[0], max_new_tokens=NUM_NEW, **{name: num_text + 15})
    assert len(longer) > len(short)
    assert longer.startswith(short)
    assert llama.generate(IMAGES[0], PROMPTS[0], max_new_tokens=NUM_NEW, min_length=1) == short


def test_an_answer_ends_before_a_stop_string(llama: VideoLanguageModel) -> None:
    whole = llama.generate(IMAGES[0], PROMPTS[0], max_new_tokens=NUM_NEW)
    stop = whole[len(whole) // 2 :][:3]
    expected = whole[: whole.index(stop)].strip()
    options = {"max_new_tokens": NUM_NEW, "stop_strings": ("not said", stop)}
    assert llama.generate(IMAGES[0], PROMPTS[0], **options) == expected
    assert "".join(llama.stream(IMAGES[0], PROMPTS[0], **options)) == expected


def test_a_stream_put_together_is_the_answer(llama: VideoLanguageModel) -> None:
    llama.core.train()
    pieces = llama.stream(IMAGES[0], PROMPTS[0], max_new_tokens=NUM_NEW)
    first = next(pieces)
    assert not llama.core.training
    assert first + "".join(pieces) == llama.generate(IMAGES[0], PROMPTS[0], max_new_tokens=NUM_NEW)
    assert llama.core.training
    llama.core.eval()


def test_a_stream_that_is_left_gives_the_mode_back(llama: VideoLanguageModel) -> None:
    llama.core.train()
    pieces = llama.stream(IMAGES[0], PROMPTS[0], max_new_tokens=NUM_NEW)
    next(pieces)
    pieces.close()
    assert llama.core.training
    llama.core.eval()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("clip.mp4", "str is no image.*read a video with frames_from_video"),
        ([3], "int is no image"),
        (torch.zeros(3, 8, 8), r"Tensor torch.float32\[3, 8, 8\] is no image"),
        ([[VIDEO[0]]], "list is no image"),
    ],
)
def test_what_is_no_image_is_refused(llama: VideoLanguageModel, image: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        llama.generate(image, PROMPTS[0])


def test_bad_calls_say_what_is_wrong(llama: VideoLanguageModel) -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'max_token' \(did you mean 'max_new_tokens'"):
        llama.generate(None, PROMPTS[0], max_token=3)
    with pytest.raises(ConfigError, match="4 entries of frames and 1 prompts"):
        llama.generate_batch(IMAGES, PROMPTS[0])
    with pytest.raises(ConfigError, match="prompt: int is neither"):
        llama.generate(None, 3)
    with pytest.raises(VerificationError, match="row 1 of 2: frame 0 of 1"):
        llama.generate_batch([None, b"no image"], PROMPTS[:2])
    for options, message in [
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_k": 0}, "top_k 0"),
        ({"stop_strings": ("",)}, "an empty text would end"),
    ]:
        with pytest.raises(ConfigError, match=message):
            llama.generate(None, PROMPTS[0], **options)
