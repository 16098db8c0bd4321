"""Rows and batches: placement, padding, pixels, and errors that name the sample."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_data.errors import ConfigError, VerificationError
from weave_train.config import ModelSettings
from weave_train.rows.batch import EncodedRow, collate, make_row
from weave_train.rows.pixels import to_pixels
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID


def test_a_row_is_bos_then_frames_then_the_prompt_without_the_image_tag(
    tokenizer: Any, settings: ModelSettings
) -> None:
    row = make_row(
        woven_row("a", [jpeg((9, 9, 9))] * 2, "Yes.", question="Is it <image> dark?"),
        tokenizer=tokenizer,
        settings=settings,
    )
    ids = row.input_ids.tolist()
    assert ids[:9] == [tokenizer.bos_token_id, *[VISUAL_TOKEN_ID] * 8]
    assert tokenizer.decode(ids[9:]) == "In: Is it  dark?\nOut:Yes.</s>"
    assert row.pixels.shape == (2, 3, 32, 32)
    assert row.pixels.dtype == torch.uint8
    assert tokenizer.decode(row.labels[row.labels != IGNORE_INDEX]) == "Yes.</s>"


def test_batches_pad_on_the_right_and_keep_frames_in_row_order(mixed_rows: list[EncodedRow]) -> None:
    batch = collate(mixed_rows, pad_id=2)
    assert batch.frames_per_row.tolist() == [4, 0, 1, 2]
    assert batch.sample_ids == ("video-4", "text", "image", "video-2")
    assert torch.equal(batch.pixels, torch.cat([row.pixels for row in mixed_rows]))
    assert batch.num_supervised == int((batch.labels != IGNORE_INDEX).sum())
    for index, row in enumerate(mixed_rows):
        length = len(row.input_ids)
        assert torch.equal(batch.input_ids[index, :length], row.input_ids)
        assert torch.equal(batch.labels[index, :length], row.labels)
        assert batch.attention_mask[index].tolist() == [i < length for i in range(batch.input_ids.shape[1])]
        assert bool((batch.input_ids[index, length:] == 2).all())
        assert bool((batch.labels[index, length:] == IGNORE_INDEX).all())


def test_rows_and_batches_travel_between_processes(mixed_rows: list[EncodedRow]) -> None:
    batch = collate(mixed_rows, pad_id=2)
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again.input_ids, batch.input_ids)
    assert torch.equal(batch.to("cpu").pixels, batch.pixels)


def test_errors_name_the_sample(tokenizer: Any, settings: ModelSettings) -> None:
    broken = woven_row("s-1", [jpeg((9, 9, 9)), b"not a jpeg"], "Yes.")
    with pytest.raises(VerificationError, match=r"sample s-1: frame 1 of 2 \(10 bytes\)"):
        make_row(broken, tokenizer=tokenizer, settings=settings)
    cut = woven_row("s-2", [jpeg((9, 9, 9))[:300]], "Yes.")
    with pytest.raises(VerificationError, match="sample s-2: frame 0 of 1"):
        make_row(cut, tokenizer=tokenizer, settings=settings)
    unanswered = woven_row("s-3", [], "Yes.")
    unanswered["conversations"] = unanswered["conversations"][:1]
    with pytest.raises(ConfigError, match="sample s-3: the conversation has no gpt turn"):
        make_row(unanswered, tokenizer=tokenizer, settings=settings)
    short = settings.model_copy(update={"llm_max_length": 64})
    with pytest.raises(ConfigError, match="sample s-4 has 64 visual tokens"):
        make_row(woven_row("s-4", [jpeg((9, 9, 9))] * 16, CAPTIONS[0]), tokenizer=tokenizer, settings=short)


def test_long_answers_are_cut_and_counted_in_the_batch(tokenizer: Any, settings: ModelSettings) -> None:
    short = settings.model_copy(update={"llm_max_length": 40})
    row = make_row(woven_row("a", [jpeg((9, 9, 9))], " ".join(CAPTIONS)), tokenizer=tokenizer, settings=short)
    assert len(row.input_ids) == 40
    assert int((row.input_ids == VISUAL_TOKEN_ID).sum()) == 4
    assert row.num_supervised == int((row.labels != IGNORE_INDEX).sum()) > 0


def test_frames_in_every_form_give_the_same_pixels(settings: ModelSettings) -> None:
    data = [jpeg((200, 30, 30)), jpeg((30, 30, 200))]
    images = [Image.open(io.BytesIO(one)) for one in data]
    arrays = np.stack([np.asarray(image) for image in images])
    expected = to_pixels(data, settings)
    assert torch.equal(to_pixels(images, settings), expected)
    assert torch.equal(to_pixels(arrays, settings), expected)
    assert to_pixels([], settings).shape == (0, 3, 32, 32)


def test_pixels_are_rgb_and_resized_with_antialiasing(settings: ModelSettings) -> None:
    wide = np.zeros((1, 64, 320, 3), dtype=np.uint8)
    wide[..., 0] = 250
    wide[:, :, ::2, 1] = 200  # stripes of one pixel: a filter without antialiasing keeps them
    pixels = to_pixels(wide, settings)
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels[0, 0].float().mean() == 250
    assert abs(pixels[0, 1].float().mean() - 100) < 3
    assert pixels[0, 1].float().std() < 5
    assert pixels[0, 2].max() == 0


def test_frames_of_another_kind_are_refused(settings: ModelSettings) -> None:
    with pytest.raises(ConfigError, match=r"expected uint8\[T, H, W, 3\], got float32\[1, 8, 8, 3\]"):
        to_pixels(np.zeros((1, 8, 8, 3), dtype=np.float32), settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="got str"):
        to_pixels(["frame.jpg"], settings)  # type: ignore[list-item]
