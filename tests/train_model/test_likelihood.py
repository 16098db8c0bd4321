"""Scores of given answers are what transformers' logits give by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from talkative import ARCHITECTURES, talkative_model
from test_generate_batch import IMAGES, PROMPTS, VIDEO

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.models.likelihood import score_answers, string_probabilities
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.pixels import to_pixels
from weave_train.rows.prompt import VISUAL_TOKEN_ID

STRINGS = ["A", "B", "C", "D", "E", "F", "True", "False", "Yes", "No", "a red circle"]


# `dynamic` gives other logits with a cache than without: what it says next is not what one pass gives
@pytest.fixture(scope="module", params=[kind for kind in ARCHITECTURES if kind != "dynamic"])
def speaker(request: pytest.FixtureRequest, settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    return talkative_model(request.param, settings, tokenizer)


def logits_by_hand(vlm: VideoLanguageModel, image: Any, prompt: str, answer: list[int]) -> torch.Tensor:
    """One row, no padding, no cache: log-probabilities [len(answer), V] of what follows the prompt."""
    frames = [] if image is None else [image] if isinstance(image, bytes) else image
    ids = vlm.prompts.encode_prompt(prompt)
    ids = torch.cat([ids[:1], torch.full((4 * len(frames),), VISUAL_TOKEN_ID), ids[1:], torch.tensor(answer)])
    pixels = to_pixels(frames or VIDEO[:1], vlm.settings)
    with torch.no_grad():
        embeds = vlm.core.embed(vlm.encode(pixels), ids.unsqueeze(0))
        logits = vlm.core.language_model(inputs_embeds=embeds, use_cache=False).logits[0].float()
    return logits.log_softmax(-1)[-len(answer) - 1 : -1]


def ids_of(vlm: VideoLanguageModel, text: str) -> list[int]:
    return list(vlm.tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("with_end", [False, True])
def test_scores_of_answers_are_sums_of_log_probabilities(speaker: VideoLanguageModel, with_end: bool) -> None:
    answers = [["A red circle moves left.", "No"], ["Yes"], ["B", "a green square", "No."], ["F"]]
    scores = score_answers(speaker, IMAGES, PROMPTS, answers, with_end=with_end)
    assert [len(row) for row in scores] == [2, 1, 3, 1]
    for image, prompt, texts, row in zip(IMAGES, PROMPTS, answers, scores, strict=True):
        for text, score in zip(texts, row, strict=True):
            ids = [*ids_of(speaker, text), *([speaker.tokenizer.eos_token_id] if with_end else [])]
            log_probs = logits_by_hand(speaker, image, prompt, ids)
            by_hand = sum(float(log_probs[i, token]) for i, token in enumerate(ids))
            assert score.log_prob == pytest.approx(by_hand, abs=2e-3)
            assert score.num_tokens == len(ids)
            assert score.is_greedy == (log_probs.argmax(-1).tolist() == ids)
            assert score.mean_log_prob == pytest.approx(by_hand / len(ids), abs=2e-3)


def test_string_probabilities_are_normalised_over_the_strings(speaker: VideoLanguageModel) -> None:
    found = speaker.generate_batch(IMAGES, PROMPTS, return_string_probabilities=STRINGS)
    for image, prompt, row in zip(IMAGES, PROMPTS, found, strict=True):
        weights = []
        for text in STRINGS:
            ids = ids_of(speaker, text)
            log_probs = logits_by_hand(speaker, image, prompt, ids)
            weights.append(math.exp(sum(float(log_probs[i, token]) for i, token in enumerate(ids))))
        assert row == pytest.approx([weight / sum(weights) for weight in weights], abs=2e-4)


def test_scores_do_not_depend_on_the_rows_and_answers_beside(settings: ModelSettings, tokenizer: Any) -> None:
    vlm = talkative_model("dynamic", settings, tokenizer)
    answers = [["A red circle moves left.", "a blue one"], ["Yes, it is."], ["No", "a green square"], ["F"]]
    together = score_answers(vlm, IMAGES, PROMPTS, answers)
    for row, texts in enumerate(answers):
        for index, text in enumerate(texts):
            alone = score_answers(vlm, IMAGES[row : row + 1], PROMPTS[row : row + 1], [[text]])
            assert together[row][index] == alone[0][0]


def test_strings_of_one_token_are_read_off_one_distribution(settings: ModelSettings, tokenizer: Any) -> None:
    vlm = talkative_model("llama", settings, tokenizer)
    (row,) = string_probabilities(vlm, [VIDEO], PROMPTS[:1], ["A", "B", "C", "D"])
    log_probs = logits_by_hand(vlm, VIDEO, PROMPTS[0], [0])[0]
    chosen = log_probs[[ids_of(vlm, letter)[0] for letter in "ABCD"]]
    assert row == pytest.approx(torch.softmax(chosen, -1).tolist(), abs=1e-5)


def test_bad_answers_are_refused(settings: ModelSettings, tokenizer: Any) -> None:
    vlm = talkative_model("llama", settings, tokenizer)
    one = ([None], PROMPTS[:1])
    for strings, message in [
        ("Yes", "give a list of texts"),
        ([], "give a list of texts"),
        (["Yes", " Yes "], "' Yes ' and 'Yes' are the same tokens"),
        (["Yes", " "], "has no token to score"),
        (["Yes", 3], "int is no text"),
    ]:
        with pytest.raises(ConfigError, match=message):
            string_probabilities(vlm, *one, strings)
    with pytest.raises(ConfigError, match="1 prompts and 2 lists of answers"):
        score_answers(vlm, *one, [["A"], ["B"]])
    with pytest.raises(ConfigError, match="more than llm_max_length 256"):
        score_answers(vlm, *one, [["a b c " * 200]])
