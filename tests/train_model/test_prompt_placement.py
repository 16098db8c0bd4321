"""Where frames stand: after BOS, in place of the tag, or clip by clip; the same in training and asking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from real_tokenizers import real_tokenizer
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_data.errors import ConfigError, VerificationError
from weave_train.config import ModelSettings
from weave_train.models.model import build_model
from weave_train.rows.batch import collate, make_row
from weave_train.rows.placement import clip_frames, shuffled_frames
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID, Encoded, PromptFormat, prompt_format

PLACEMENTS = ("after-bos", "in-place", "per-clip")


def conversation(texts: list[str]) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def speak(tokenizer: Any, placement: str, **more: Any) -> PromptFormat:
    return prompt_format(ModelSettings(visual_placement=placement, **more), tokenizer)


def shown(tokenizer: Any, encoded: Encoded) -> str:
    """Ids as text; a run of n visual tokens as {n}, what is learnt in [[ ]]."""
    text, visual, was_learnt = "", 0, False
    pieces: list[int] = []

    def flush() -> str:
        nonlocal pieces, visual
        done = f"{{{visual}}}" if visual else tokenizer.decode(pieces)
        pieces, visual = [], 0
        return done

    for token, label in zip(encoded.input_ids.tolist(), encoded.labels.tolist(), strict=True):
        is_visual, is_learnt = token == VISUAL_TOKEN_ID, label != IGNORE_INDEX
        if is_visual != bool(visual) or is_learnt != was_learnt:
            text += flush()
        if is_learnt != was_learnt:
            text += "[[" if is_learnt else "]]"
            was_learnt = is_learnt
        visual += is_visual
        pieces += [] if is_visual else [token]
    return text + flush() + ("]]" if was_learnt else "")


def written(tokenizer: Any, placement: str, turns: list[str], clip_tokens: list[int]) -> str:
    encoded = speak(tokenizer, placement).encode_conversation(conversation(turns), clip_tokens)
    return shown(tokenizer, encoded)


@pytest.mark.parametrize(
    ("placement", "question", "clips", "expected"),
    [
        ("after-bos", "<image>\nWhat?", [2, 3], "<s>{5}In: What?\nOut:[[Yes.</s>]]"),
        ("in-place", "<image>\nWhat?", [2, 3], "<s>In:{5}\nWhat?\nOut:[[Yes.</s>]]"),
        ("in-place", "<video>\nWhat?", [5], "<s>In:{5}\nWhat?\nOut:[[Yes.</s>]]"),
        ("in-place", "In <image> what?", [5], "<s>In: In{5} what?\nOut:[[Yes.</s>]]"),
        ("in-place", "Is <image> in <image>?", [5], "<s>In: Is{5} in ?\nOut:[[Yes.</s>]]"),
        ("in-place", "What?", [5], "<s>In:{5}\nWhat?\nOut:[[Yes.</s>]]"),
        ("in-place", "<image>\nWhat?", [], "<s>In: What?\nOut:[[Yes.</s>]]"),
        (
            "per-clip",
            "<image>\nWhat?",
            [2, 3, 1],
            "<s>In: Clip 1:{2}\nClip 2:{3}\nClip 3:{1}\nWhat?\nOut:[[Yes.</s>]]",
        ),
        ("per-clip", "What?", [2, 3], "<s>In: Clip 1:{2}\nClip 2:{3}\nWhat?\nOut:[[Yes.</s>]]"),
        ("per-clip", "<image>\nWhat?", [4], "<s>In:{4}\nWhat?\nOut:[[Yes.</s>]]"),
        ("per-clip", "<image>\nWhat?", [], "<s>In: What?\nOut:[[Yes.</s>]]"),
    ],
)
def test_frames_stand_where_they_should(tokenizer, placement, question, clips, expected) -> None:
    assert written(tokenizer, placement, [question, "Yes."], clips) == expected


def test_only_the_first_human_turn_has_the_place(tokenizer: Any) -> None:
    turns = ["Hello.", "Hi <image>.", "<image>\nAnd now?", "Yes."]
    for placement, start in (
        ("in-place", "In:{4}\nHello."),
        ("per-clip", "In: Clip 1:{2}\nClip 2:{2}\nHello."),
    ):
        assert written(tokenizer, placement, turns, [2, 2]) == (
            f"<s>{start}\nOut:[[Hi .</s>]]In: And now?\nOut:[[Yes.</s>]]"
        )


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("prompt_format_name", ["legacy", "native"])
@pytest.mark.parametrize(
    ("language_id", "name"),
    [
        ("llama2-7b-chat", "llama2"),
        ("llama3-8b-instruct", "llama3"),
        ("mistral-v0.2-7b-instruct", "mistral-v3"),
        ("phi-3-instruct-4b", "phi-3"),
        ("gemma-2b-instruct", "gemma-3"),
        ("hf:any", "gemma-3"),
    ],
)
def test_asking_gives_the_ids_of_training_wherever_frames_stand(
    language_id, name, prompt_format_name, placement
) -> None:
    tokenizer = real_tokenizer(name)
    prompts = speak(tokenizer, placement, llm_backbone_id=language_id, prompt_format=prompt_format_name)
    turns = conversation(["Look: <image>\nWhat?", "A dot.", "Where?", "There."])
    taught = prompts.encode_conversation(turns, [3, 4])
    assert int((taught.input_ids == VISUAL_TOKEN_ID).sum()) == 7
    assert bool((taught.labels[taught.input_ids == VISUAL_TOKEN_ID] == IGNORE_INDEX).all())
    for asked_turns in (1, 3):
        builder = prompts.builder()
        for turn in turns[:asked_turns]:
            builder.add_turn(turn["from"], turn["value"])
        for prompt in (builder, builder.get_prompt()):
            asked = prompts.encode_prompt(prompt, [3, 4]).tolist()
            assert asked == taught.input_ids[: len(asked)].tolist()
            assert taught.labels[len(asked)] != IGNORE_INDEX
    # without frames: as if no tag had been written
    plain = conversation(["Look: \nWhat?", "A dot."])
    tagged = conversation(["Look: <image>\nWhat?", "A dot."])
    assert torch.equal(
        prompts.encode_conversation(tagged).input_ids, prompts.encode_conversation(plain).input_ids
    )


def test_a_prompt_written_by_hand_has_its_place_too(tokenizer: Any) -> None:
    by_hand = speak(tokenizer, "in-place").encode_prompt("In: <image>\nWhat?\nOut: ", [3])
    assert shown(tokenizer, Encoded(by_hand, torch.full_like(by_hand, IGNORE_INDEX))) == (
        "<s>In:{3}\nWhat?\nOut:"
    )
    again = speak(tokenizer, "after-bos").encode_prompt("<s>In: What?\nOut: ", [3])
    assert shown(tokenizer, Encoded(again, torch.full_like(again, IGNORE_INDEX))) == "<s>{3}In: What?\nOut:"


def mixed(settings: ModelSettings, tokenizer: Any) -> list[Any]:
    """Two clips of two frames and one, text only, an image, one clip of two frames."""
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    rows = [
        {**woven_row("clips", [jpeg(c) for c in colours], CAPTIONS[0]), "frame_clip": [0, 0, 1]},
        {**woven_row("text", [], "Nothing was shown."), "frame_clip": []},
        {**woven_row("image", [jpeg(colours[1])], "A green circle."), "frame_clip": [0]},
        woven_row("video", [jpeg(c) for c in colours[:2]], CAPTIONS[9]),
    ]
    return [make_row(row, tokenizer=tokenizer, settings=settings) for row in rows]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_mixed_batch_trains_and_every_frame_reaches_its_place(
    placement: str, settings: ModelSettings, tokenizer: Any
) -> None:
    settings = settings.model_copy(update={"visual_placement": placement})
    rows = mixed(settings, tokenizer)
    batch = collate(rows, pad_id=tokenizer.pad_token_id)
    visual = (batch.input_ids == VISUAL_TOKEN_ID).sum(-1)
    assert visual.tolist() == [12, 0, 4, 8]  # four patches a frame
    vlm = build_model(settings, tokenizer)
    features = vlm.encode(batch.pixels)
    loss = vlm.core(features, batch)
    loss.backward()
    assert torch.isfinite(loss)
    embedded = vlm.core.embed(features, batch.input_ids)
    projected = vlm.core.projector(features).flatten(0, 1)
    assert torch.equal(embedded[batch.input_ids == VISUAL_TOKEN_ID], projected)
    # rows alone give the same sum
    alone = sum(
        float(vlm.core(vlm.encode(one.pixels), one).detach())
        for one in (collate([row], pad_id=tokenizer.pad_token_id) for row in rows)
    )
    assert float(loss.detach()) == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("placement", ["in-place", "per-clip"])
def test_generation_asks_with_the_sequence_of_training(
    placement: str, settings: ModelSettings, tokenizer: Any, monkeypatch: Any
) -> None:
    settings = settings.model_copy(update={"visual_placement": placement})
    vlm = build_model(settings, tokenizer)
    seen: list[torch.Tensor] = []
    embed = vlm.core.embed
    monkeypatch.setattr(vlm.core, "embed", lambda f, ids: seen.append(ids.clone()) or embed(f, ids))
    frames = [jpeg((200, 30, 30)), jpeg((30, 30, 200))]
    row = make_row(woven_row("a", frames, "Yes."), tokenizer=tokenizer, settings=settings)
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", "<image>\nWhat happens?")
    vlm.generate(frames, builder.get_prompt(), max_new_tokens=1)
    asked = seen[0][0].tolist()
    assert asked == row.input_ids[: len(asked)].tolist()
    assert asked.count(VISUAL_TOKEN_ID) == 8


def test_no_visual_token_is_ever_cut(settings: ModelSettings, tokenizer: Any) -> None:
    row = {**woven_row("a", [jpeg((9, 9, 9))] * 4, CAPTIONS[0]), "frame_clip": [0, 0, 1, 1]}
    for placement in PLACEMENTS:
        whole = settings.model_copy(update={"visual_placement": placement})
        length = len(make_row(row, tokenizer=tokenizer, settings=whole).input_ids)
        for max_length in range(8, length + 1):
            short = whole.model_copy(update={"llm_max_length": max_length})
            try:
                made = make_row(row, tokenizer=tokenizer, settings=short)
            except ConfigError as error:
                assert "sample a has 16 visual tokens" in str(error)  # noqa: PT017
            else:
                assert int((made.input_ids == VISUAL_TOKEN_ID).sum()) == 16
                assert made.num_supervised > 0


def test_frames_of_a_clip_are_counted_in_order() -> None:
    assert clip_frames(0, []) == ()
    assert clip_frames(0, None) == ()
    assert clip_frames(3, None) == (3,)
    assert clip_frames(5, [0, 0, 1, 3, 3]) == (2, 1, 2)
    assert clip_frames(3, np.array([0, 1, 1], np.int16)) == (1, 2)
    with pytest.raises(VerificationError, match="2 entries for 3 frames"):
        clip_frames(3, [0, 1])


def test_shuffled_frames_are_a_function_of_seed_and_sample(settings: ModelSettings, tokenizer: Any) -> None:
    frames = [bytes([i]) for i in range(16)]
    once = shuffled_frames(frames, seed=7, sample_id="a")
    assert sorted(once) == frames != once
    assert shuffled_frames(frames, seed=7, sample_id="a") == once
    assert shuffled_frames(frames, seed=8, sample_id="a") != once
    assert shuffled_frames(frames, seed=7, sample_id="b") != once
    # uniform: each frame comes first about equally often
    firsts = [shuffled_frames(frames[:4], seed=1, sample_id=str(i))[0] for i in range(2000)]
    assert all(420 < firsts.count(frame) < 580 for frame in frames[:4])
    row = woven_row("a", [jpeg((20 * i, 9, 9)) for i in range(8)], "Yes.")
    plain = make_row(row, tokenizer=tokenizer, settings=settings)
    mixed_up = make_row(row, tokenizer=tokenizer, settings=settings, shuffle_frames=True)
    assert torch.equal(plain.input_ids, mixed_up.input_ids)
    assert not torch.equal(plain.pixels, mixed_up.pixels)
    assert sorted(frame.sum() for frame in plain.pixels) == sorted(frame.sum() for frame in mixed_up.pixels)
