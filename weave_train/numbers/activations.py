"""Bytes that autograd keeps from forward to backward: counted on a model without weights.

    L layers, B rows of S tokens, width E, w bytes a value; A of all layers, counted by running them on
    tensors that have a shape and no memory

    without recompute     A
    with recompute        L * B * S * E * w  +  A / L      each layer's input, and one layer at a time
    and always            what the projector keeps, and N * V * (w + 12) for N supervised positions: logits,
                          their fp32 copy, log-probabilities and gradient

A trained tower's blocks count like layers, a frozen one's keep nothing. What an allocator rounds up, or
loses between blocks, is not in it.

Source:
    Korthikanti et al. (arXiv 2205.05198), section 4, for what recomputing saves. Differs: a layer is
    counted, not derived, so that it holds for every architecture and for frozen ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from weave_train.models.model import VideoLanguageModel, compute_dtype

__all__ = ["Activations", "MicroBatchShape", "activations", "saved_bytes"]


@dataclass(frozen=True)
class MicroBatchShape:
    """`rows` of `tokens` each, padding included; frames and supervised tokens of all rows."""

    rows: int
    tokens: int
    frames: int
    supervised: int


@dataclass(frozen=True)
class Activations:
    """Bytes kept by each part of one micro-step."""

    tower: int
    projector: int
    layers: int
    head: int

    @property
    def total(self) -> int:
        """Of all parts."""
        return self.tower + self.projector + self.layers + self.head


def activations(vlm: VideoLanguageModel, shape: MicroBatchShape, *, recompute: bool) -> Activations:
    """Count what a micro-step keeps.

    Args:
        vlm: On the meta device, with its stage applied; of no use afterwards.
        shape: Of the micro-step.
        recompute: `model.enable_gradient_checkpointing`.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    dtype, spec = compute_dtype(vlm.settings), vlm.tower.spec
    language = vlm.core.language_model
    width, rows_of_vocabulary = language.get_input_embeddings().weight.shape[1], language.config.vocab_size
    layers = language.config.num_hidden_layers
    blocks = sum(len(vit.blocks) - 1 for vit in vlm.tower.vits)  # the last one does not run
    frames = max(1, shape.frames)
    is_tower_trained = any(parameter.requires_grad for parameter in vlm.tower.parameters())
    for module in (vlm.tower, vlm.core.projector, language.base_model):
        module.to(dtype)
    # an input needs a gradient where something below it is trained
    below = is_tower_trained or any(value.requires_grad for value in vlm.core.projector.parameters())
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in (vlm.tower, vlm.core.projector, language.base_model):
            module.to_empty(device="cpu")
        pixels = torch.empty(frames, spec.channels, spec.image_px, spec.image_px, dtype=torch.uint8)
        features = torch.empty(
            frames, spec.patches_per_frame, spec.dim, dtype=dtype, requires_grad=is_tower_trained
        )
        embedded = torch.empty(shape.rows, shape.tokens, width, dtype=dtype, requires_grad=below)
        mask = torch.ones(shape.rows, shape.tokens, dtype=torch.bool)
        tower = saved_bytes(lambda: vlm.tower(pixels), [vlm.tower]) if is_tower_trained else 0
        projector = saved_bytes(lambda: vlm.core.projector(features), [vlm.core.projector])
        language_saved = saved_bytes(
            lambda: language.base_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False),
            [language.base_model],
        )
    if recompute:
        frame_inputs = sum(
            (len(vit.blocks) - 1) * (spec.grid**2 + vit.num_prefix_tokens) * vit.embed_dim
            for vit in vlm.tower.vits
        )
        tower = (frames * frame_inputs * dtype.itemsize + tower // blocks) if is_tower_trained else 0
        row_input = shape.rows * shape.tokens * width
        language_saved = layers * row_input * dtype.itemsize + language_saved // layers
    return Activations(
        tower=tower,
        projector=projector,
        layers=language_saved,
        head=shape.supervised * rows_of_vocabulary * (dtype.itemsize + 12),
    )


def saved_bytes(forward: Callable[[], object], modules: Iterable[nn.Module]) -> int:
    """Storage that autograd keeps after a forward pass, each once; parameters are not counted.

    Args:
        forward: The pass.
        modules: Whose parameters these are.
    """
    own = {value.untyped_storage()._cdata for module in modules for value in module.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage()._cdata
        if address not in own:
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return size
