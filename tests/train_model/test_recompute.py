"""Recomputing activations changes memory, not gradients."""

from __future__ import annotations

import copy

import torch

from weave_train.models.model import VideoLanguageModel
from weave_train.rows.batch import EncodedRow, collate


def gradients(vlm: VideoLanguageModel, rows: list[EncodedRow]) -> tuple[torch.Tensor, int]:
    """All gradients of one batch in one vector, and how many tensors the graph kept for backward."""
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 1
        return tensor

    batch = collate(rows, pad_id=vlm.tokenizer.pad_token_id)
    features = vlm.encode(batch.pixels)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = vlm.core(features, batch)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in vlm.core.parameters() if p.grad is not None]), kept


def test_recomputed_activations_give_the_same_gradients_and_keep_less(
    vlm: VideoLanguageModel, mixed_rows: list[EncodedRow]
) -> None:
    recomputing = copy.deepcopy(vlm)
    recomputing.core.train().recompute_activations()
    vlm.core.train()
    expected, kept = gradients(vlm, mixed_rows)
    found, kept_less = gradients(recomputing, mixed_rows)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert kept_less < kept
