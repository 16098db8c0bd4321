"""A global batch is cut into micro-steps without losing or repeating anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import step_ranks
import torch
from hypothesis import given
from hypothesis import strategies as st

from weave_data.errors import TrainingError
from weave_train.config import ModelSettings
from weave_train.launch import Launch
from weave_train.models import vision
from weave_train.rows.batch import EncodedRow
from weave_train.train.nonfinite import Finding, describe, guarded_factor
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


@pytest.mark.parametrize("stage", ["align", "full-finetune"])
def test_frames_are_bytes_until_the_tower_normalises_them(stage, monkeypatch) -> None:
    vlm = step_ranks.build(stage)
    rows = step_ranks.make_rows(vlm)[:4]
    batches = micro_batches(rows, micro_rows=2, num_micro_steps=3, vlm=vlm)
    seen: list[tuple[torch.dtype, int]] = []
    normalised = vision._normalised

    def look(images: torch.Tensor, member: Any) -> torch.Tensor:
        seen.append((images.dtype, len(images)))
        return normalised(images, member)

    monkeypatch.setattr(vision, "_normalised", look)
    engine: Any = SimpleNamespace(
        mark_boundary=lambda **_: None,
        loss_sum=vlm.core,
        backward=lambda _: None,
        step=lambda _: 1.0,
        was_skipped=False,
    )
    supervised = sum(row.num_supervised for row in rows)
    take_step(engine, vlm, batches, supervised_tokens=supervised, learning_rate=0.0, launch=ALONE)
    assert seen == [(torch.uint8, 4), (torch.uint8, 1), (torch.uint8, 1)]  # the last is a dummy's blank frame


@pytest.mark.parametrize("loss", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_makes_every_gradient_nan(loss) -> None:
    weight = torch.ones(3, requires_grad=True)
    value = weight.sum() + float(loss)  # its own gradient is finite
    (value * guarded_factor(value, 2.0)).backward()
    assert weight.grad is not None
    assert weight.grad.isnan().all()


def test_a_finite_loss_keeps_its_factor() -> None:
    assert float(guarded_factor(torch.tensor(3.0), 0.25)) == 0.25


def test_a_finding_names_rank_samples_and_parts() -> None:
    names = tuple(f"sample-{index}" for index in range(10))
    gradients = Finding(1, names, 2.0, (), ("projector", "language"))
    activations = Finding(0, names[:1], float("nan"), ("vision",), ())
    first, second = describe([gradients, activations]).split("; ")
    assert first.startswith("rank 1: sample-0, sample-1")
    assert first.endswith("sample-7, ... (gradients of projector and language)")
    assert second == "rank 0: sample-0 (activations of vision)"
    assert "a fault of a device" in describe([])
