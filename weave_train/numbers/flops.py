"""How many floating-point operations a batch takes: one convention, written down.

A weight that multiplies a token costs

    2N   forward, always
    4N   where the gradient passes on to what lies below (a frozen language model above a trained
         projector), or where only the weight's own gradient is needed (the first layer of all)
    6N   where both are: a trained weight with something trained below it

so a frozen tower costs 2N, adapters 6N beside frozen weights of 4N, and what is trained is read from
`requires_grad`, weight by weight, in the order of the modules: in the lowest block that is trained,
weights side by side (query, key, value) count as if one came after the other.
Attention costs 4 * d a pair of positions forward (scores and values, d = heads * head size), three
times that where gradients pass; a causal model has half of the S * S pairs. Embedding look-ups,
norms, activations and the softmax are not counted; the head is, at supervised positions only.

    model FLOPs      rows at their true lengths, nothing twice: MFU
    hardware FLOPs   what is really computed: padding, dummy frames, layers run again in backward
                     (all but a layer's last matrix, where torch stops, unless a norm or a scale follows it):
                     HFU

Flash attention's own recomputation of scores and a padded batch's full square are in neither; a layer
with a sliding window counts as if it saw everything before it.

Source:
    PaLM (arXiv 2204.02311), appendix B, for MFU and HFU. Differs: causal attention is halved, frozen
    parts cost what they do. Checked against `torch.utils.flop_counter` in the tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from weave_train.models.model import VideoLanguageModel
from weave_train.rows.batch import Batch

__all__ = ["Flops", "FlopsModel", "flops_model"]


@dataclass(frozen=True)
class Flops:
    """`model` and `hardware` FLOPs of a batch; adds up over micro-steps and ranks."""

    model: float = 0.0
    hardware: float = 0.0

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.model + other.model, self.hardware + other.hardware)


@dataclass(frozen=True)
class _Matrices:
    """Weights that multiply every token of a part.

    Attributes:
        forward: Elements.
        own_gradient: Of those, elements with a gradient.
        passed: Of those, elements through which a gradient passes down.
        again: Of those, elements that are multiplied once more in backward.
    """

    forward: int = 0
    own_gradient: int = 0
    passed: int = 0
    again: int = 0

    def __add__(self, other: _Matrices) -> _Matrices:
        return _Matrices(
            self.forward + other.forward,
            self.own_gradient + other.own_gradient,
            self.passed + other.passed,
            self.again + other.again,
        )

    def model_flops(self, tokens: float) -> float:
        return 2.0 * tokens * (self.forward + self.own_gradient + self.passed)

    def hardware_flops(self, tokens: float) -> float:
        return self.model_flops(tokens) + 2.0 * tokens * self.again


@dataclass(frozen=True)
class _Attention:
    """Heads * head size, summed over layers: all, where gradients pass, where the forward is run again."""

    width: int = 0
    passed: int = 0
    again: int = 0

    def __add__(self, other: _Attention) -> _Attention:
        return _Attention(self.width + other.width, self.passed + other.passed, self.again + other.again)

    def model_flops(self, pairs: float) -> float:
        return 4.0 * pairs * (self.width + 2 * self.passed)

    def hardware_flops(self, pairs: float) -> float:
        return self.model_flops(pairs) + 4.0 * pairs * self.again


@dataclass(frozen=True)
class _Vit:
    """One ViT of the tower, up to the block whose features are used.

    Attributes:
        patches: Of a frame, before pooling.
        positions: `patches` and its prefix tokens.
    """

    patches: int
    positions: int
    patch_embedding: _Matrices
    blocks: _Matrices
    attention: _Attention

    def model_flops(self, num_frames: int) -> float:
        return (
            self.patch_embedding.model_flops(num_frames * self.patches)
            + self.blocks.model_flops(num_frames * self.positions)
            + self.attention.model_flops(num_frames * self.positions**2)
        )

    def hardware_flops(self, num_frames: int) -> float:
        return (
            self.patch_embedding.hardware_flops(num_frames * self.patches)
            + self.blocks.hardware_flops(num_frames * self.positions)
            + self.attention.hardware_flops(num_frames * self.positions**2)
        )


@dataclass(frozen=True)
class FlopsModel:
    """FLOPs of batches of one model in one stage; plain numbers, made by `flops_model`.

    Attributes:
        patches_per_frame: P, visual tokens of a frame.
        vits: Members of the tower.
    """

    patches_per_frame: int
    vits: tuple[_Vit, ...]
    projector: _Matrices
    layers: _Matrices
    layers_attention: _Attention
    head: _Matrices

    def of_batch(self, batch: Batch) -> Flops:
        """FLOPs of one micro-step, forward and backward.

        Reads sizes only; give the batch before it goes to the device, or it waits for the device.
        A dummy batch costs hardware FLOPs and no model FLOPs.
        """
        rows, longest = batch.input_ids.shape
        lengths = batch.attention_mask.sum(dim=1).tolist() if batch.sample_ids else []
        return Flops(
            model=self.of_rows(
                lengths,
                num_frames=int(batch.frames_per_row.sum()),
                num_supervised=batch.num_supervised,
            ),
            hardware=self.of_padded(
                rows=rows,
                longest=longest,
                num_frames=len(batch.pixels),
                num_supervised=max(1, batch.num_supervised),
            ),
        )

    def of_rows(self, lengths: Sequence[int], *, num_frames: int, num_supervised: int) -> float:
        """Model FLOPs of rows, forward and backward.

        Args:
            lengths: Tokens of each row, visual and text.
            num_frames: Of all rows.
            num_supervised: Tokens of all rows that enter the loss.
        """
        return (
            sum(vit.model_flops(num_frames) for vit in self.vits)
            + self.projector.model_flops(num_frames * self.patches_per_frame)
            + self.layers.model_flops(sum(lengths))
            + self.layers_attention.model_flops(sum(length**2 for length in lengths) / 2)
            + self.head.model_flops(num_supervised)
        )

    def of_padded(self, *, rows: int, longest: int, num_frames: int, num_supervised: int) -> float:
        """Hardware FLOPs of a batch, forward and backward.

        Args:
            rows: Of the batch.
            longest: Positions of every row, padding included.
            num_frames: That go through the tower, a dummy frame included.
            num_supervised: Positions whose logits are made.
        """
        return (
            sum(vit.hardware_flops(num_frames) for vit in self.vits)
            + self.projector.hardware_flops(num_frames * self.patches_per_frame)
            + self.layers.hardware_flops(rows * longest)
            + self.layers_attention.hardware_flops(rows * longest**2 / 2)
            + self.head.hardware_flops(num_supervised)
        )


def flops_model(vlm: VideoLanguageModel, *, recompute: bool) -> FlopsModel:
    """Count a model's weights once, for `FlopsModel.of_batch` at every step.

    Args:
        vlm: With `requires_grad` as the stage trains it; before or after an engine took it, also on
            the meta device.
        recompute: Decoder layers, and blocks of a trained tower, are run again in backward
            (`VideoLanguageCore.recompute_activations`).
    """
    spec = vlm.tower.spec
    language = vlm.core.language_model
    config, head = language.config, language.get_output_embeddings()
    vits = tuple(_vit(vit, patches=spec.grid**2, recompute=recompute) for vit in vlm.tower.vits)
    is_reached = _any_trained(vlm.tower.parameters())
    projector = _matrices([vlm.core.projector], is_reached=is_reached)
    below = [*vlm.core.projector.parameters(), language.get_input_embeddings().weight]
    is_reached = is_reached or _any_trained(below)
    decoders = _decoder_layers(language)
    taken = {id(weight) for weight in _weights([head, *decoders])}
    outside = _matrices([language.base_model], is_reached=is_reached, taken=taken)
    width = config.num_attention_heads * _head_size(config)
    layers, layers_attention = _blocks(
        decoders, [width] * len(decoders), is_reached=is_reached, recompute=recompute
    )
    is_reached = is_reached or _any_trained(language.base_model.parameters())
    return FlopsModel(
        patches_per_frame=spec.patches_per_frame,
        vits=vits,
        projector=projector,
        layers=outside + layers,
        layers_attention=layers_attention,
        head=_matrices([head], is_reached=is_reached),
    )


def _vit(vit: Any, *, patches: int, recompute: bool) -> _Vit:
    blocks = list(vit.blocks)[:-1]  # the last block's output is not used, and it does not run
    below = [value for name, value in vit.named_parameters() if not name.startswith("blocks.")]
    widths = [_attention_width(block.attn, vit.embed_dim) for block in blocks]
    matrices, attention = _blocks(blocks, widths, is_reached=_any_trained(below), recompute=recompute)
    return _Vit(
        patches=patches,
        positions=patches + vit.num_prefix_tokens,
        patch_embedding=_matrices([vit.patch_embed], is_reached=False),
        blocks=matrices,
        attention=attention,
    )


def _blocks(
    blocks: Sequence[nn.Module], widths: Sequence[int], *, is_reached: bool, recompute: bool
) -> tuple[_Matrices, _Attention]:
    """Of transformer blocks in order.

    Args:
        blocks: Of a tower or a language model.
        widths: Of each, heads * head size.
        is_reached: Something below them is trained.
        recompute: Those with a backward run again in it.
    """
    matrices, attention = _Matrices(), _Attention()
    for block, width in zip(blocks, widths, strict=True):
        of_block = _block(block, is_reached=is_reached, width=width, recompute=recompute)
        matrices, attention = matrices + of_block[0], attention + of_block[1]
        is_reached = is_reached or _any_trained(block.parameters())
    return matrices, attention


def _block(
    block: nn.Module, *, is_reached: bool, width: int, recompute: bool
) -> tuple[_Matrices, _Attention]:
    """Matrices and attention of a transformer block, of which a gradient passes through, or not.

    Args:
        block: Of a tower or a language model.
        is_reached: Something below it is trained.
        width: Heads * head size.
        recompute: It runs again in backward, if there is a backward.
    """
    # a vector of it that is trained is taken to lie below all of its matrices
    is_reached = is_reached or _any_trained(value for value in block.parameters() if len(_shape(value)) < 2)
    matrices = _matrices([block], is_reached=is_reached)
    is_passed = is_reached or any(
        _any_trained(module.parameters()) for name, module in block.named_children() if "attn" in name
    )
    is_again = recompute and (is_reached or _any_trained(block.parameters()))
    return (
        _with_again(matrices, [block]) if is_again else matrices,
        _Attention(width, width if is_passed else 0, width if is_again else 0),
    )


def _any_trained(parameters: Iterable[nn.Parameter]) -> bool:
    return any(parameter.requires_grad for parameter in parameters)


def _attention_width(attention: Any, embed_dim: int) -> int:
    """Heads * head size; not every ViT of timm states the latter."""
    heads = int(attention.num_heads)
    return heads * int(getattr(attention, "head_dim", None) or embed_dim // heads)


def _head_size(config: Any) -> int:
    size = getattr(config, "head_dim", None)
    return int(size) if size else int(config.hidden_size // config.num_attention_heads)


def _weights(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    """Weights that multiply tokens, in order; embeddings are looked up, vectors scale."""
    for parent in modules:
        for module in parent.modules():
            # a module's own: layers with adapters show the weight inside them as theirs, too
            weight = dict(module.named_parameters(recurse=False)).get("weight")
            if weight is not None and not isinstance(module, nn.Embedding) and len(_shape(weight)) >= 2:
                yield weight


def _matrices(modules: Iterable[nn.Module], *, is_reached: bool, taken: Collection[int] = ()) -> _Matrices:
    """Sizes of weights in order, those left out whose ids are `taken`."""
    forward = own_gradient = passed = 0
    for weight in _weights(modules):
        if id(weight) in taken:
            continue
        size = _size(weight)
        forward += size
        passed += size if is_reached else 0
        own_gradient += size if weight.requires_grad else 0
        is_reached = is_reached or weight.requires_grad
    return _Matrices(forward, own_gradient, passed)


def _with_again(matrices: _Matrices, layers: Iterable[nn.Module]) -> _Matrices:
    again = 0
    for layer in layers:
        *repeated, last = (_size(weight) for weight in _weights([layer]))
        again += sum(repeated) + (last if _ends_with_norm_or_scale(layer) else 0)
    return replace(matrices, again=again)


def _ends_with_norm_or_scale(layer: nn.Module) -> bool:
    """Whether the last matrix's output is wanted again.

    By a norm after it (Gemma 2 and 3, OLMo 2, GLM 4), or for the gradient of a learned scale (DINOv2).
    """
    is_scaled = any(
        value.requires_grad and name.rpartition(".")[2].startswith("gamma")
        for name, value in layer.named_parameters()
    )
    norms = ("post_feedforward_layernorm", "post_mlp_layernorm")
    return is_scaled or any(hasattr(layer, name) for name in norms)


def _decoder_layers(language: nn.Module) -> list[nn.Module]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in language.modules() if isinstance(module, GradientCheckpointingLayer)]


def _shape(weight: nn.Parameter) -> tuple[int, ...]:
    # a partitioned parameter is empty; DeepSpeed keeps its shape beside it
    return tuple(getattr(weight, "ds_shape", weight.shape))


def _size(weight: nn.Parameter) -> int:
    return int(getattr(weight, "ds_numel", weight.numel()))
