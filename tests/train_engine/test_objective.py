"""A global batch is cut into micro-steps without losing or repeating anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weave_data.errors import TrainingError
from weave_train.config import ModelSettings
from weave_train.launch import Launch
from weave_train.rows.batch import EncodedRow
from weave_train.train.objective import micro_batches, take_step

ALONE = Launch(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


def make_rows(count: int) -> list[EncodedRow]:
    pixels = torch.zeros((1, 3, 32, 32), dtype=torch.uint8)
    ids = [torch.arange(index + 3) for index in range(count)]
    return [EncodedRow(f"sample-{index}", row, row.clone(), pixels) for index, row in enumerate(ids)]


def fake_model() -> Any:
    return SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0), settings=ModelSettings())


@given(st.integers(0, 7), st.integers(1, 4), st.integers(0, 2))
def test_micro_steps_hold_every_row_once_and_dummies_hold_none(count, micro_rows, spare) -> None:
    num_steps = max(1, -(-count // micro_rows) + spare)
    batches = micro_batches(
        make_rows(count), micro_rows=micro_rows, num_micro_steps=num_steps, vlm=fake_model()
    )
    assert len(batches) == num_steps
    assert [name for batch in batches for name in batch.sample_ids] == [f"sample-{i}" for i in range(count)]
    assert sum(batch.num_supervised for batch in batches) == sum(
        row.num_supervised for row in make_rows(count)
    )
    assert all(len(batch.pixels) >= 1 for batch in batches)


def test_a_batch_without_a_supervised_token_is_an_error() -> None:
    with pytest.raises(TrainingError, match="without a single supervised token"):
        take_step(SimpleNamespace(), fake_model(), [], supervised_tokens=0, learning_rate=0.0, launch=ALONE)


@pytest.mark.parametrize(
    ("loss", "norm", "message"), [("nan", 1.0, "the loss is nan"), ("1", "inf", "norm is inf")]
)
def test_what_is_not_finite_stops_the_run_and_names_samples(loss, norm, message) -> None:
    engine = SimpleNamespace(
        mark_boundary=lambda *, is_last: None,
        loss_sum=lambda features, batch: torch.tensor(float(loss)),
        backward=lambda value: None,
        step=lambda rate: float(norm),
    )
    model = fake_model()
    model.frozen_features = lambda batch: batch.pixels
    batches = micro_batches(make_rows(2), micro_rows=2, num_micro_steps=1, vlm=model)
    with pytest.raises(TrainingError, match=rf"{message}.*sample-0, sample-1"):
        take_step(engine, model, batches, supervised_tokens=7, learning_rate=0.1, launch=ALONE)
