"""timm's ViT in the names and shapes of transformers' CLIPVisionModel and SiglipVisionModel.

    timm                                     transformers
    cls_token, pos_embed                     embeddings.class_embedding, .position_embedding.weight
    patch_embed.proj                         embeddings.patch_embedding
    norm_pre (CLIP)                          pre_layrnorm
    blocks.<i>.attn.qkv (one matrix)         encoder.layers.<i>.self_attn.{q,k,v}_proj
    blocks.<i>.norm1, norm2, mlp             encoder.layers.<i>.layer_norm1, layer_norm2, mlp
    norm                                     post_layernorm

Hidden state -2 of theirs is our second-to-last block's output. Which of the two a tower is follows from
its modules, not from its name: a class token and a norm before the blocks make CLIP, neither SigLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from weave_data.torchvision_ops import install

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["NativeTower", "activation_name", "native_tower", "plain_misfit", "tower_misfit"]


@dataclass(frozen=True)
class NativeTower:
    """A tower as LLaVA holds it.

    Attributes:
        config: CLIPVisionConfig or SiglipVisionConfig.
        weights: State dict of CLIPVisionModel, or of SiglipVisionModel without its pooling head.
        select_strategy: LLaVA's `vision_feature_select_strategy`; `default` drops the class token.
        prefix_tokens: Tokens before the patches, 0 or 1.
    """

    config: PretrainedConfig
    weights: dict[str, torch.Tensor]
    select_strategy: Literal["default", "full"]
    prefix_tokens: int


def plain_misfit(vit: Any) -> str | None:
    """What keeps a ViT from being plain: timm's blocks, class token, registers, positions that are learnt.

    A layer scale is as plain as the rest.
    """
    from timm.models.vision_transformer import Block, VisionTransformer

    if type(vit) is not VisionTransformer or not all(type(block) is Block for block in vit.blocks):
        return "is no plain ViT of timm"
    first: Any = vit.blocks[0]
    plain = (first.attn.q_norm, first.attn.k_norm, first.attn.norm, first.mlp.norm)
    if not all(isinstance(module, nn.Identity) for module in plain) or not _is_plain_patching(vit):
        return "normalises inside of its blocks or patches"
    if activation_name(first.mlp.act) is None:
        return f"has the activation {type(first.mlp.act).__name__}"
    return "has no positions that are learnt" if vit.pos_embed is None else None


def tower_misfit(vit: Any) -> str | None:
    """What keeps a ViT from being CLIP's or SigLIP's; None when nothing does."""
    misfit = plain_misfit(vit)
    if misfit is not None:
        return misfit
    if not isinstance(vit.blocks[0].ls1, nn.Identity):
        return "scales its layers, which CLIP and SigLIP do not"
    if vit.num_reg_tokens or vit.pos_embed.shape[1] != _num_positions(vit):
        return "has register tokens, or positions unlike CLIP's and SigLIP's"
    has_class, has_pre_norm = vit.cls_token is not None, not isinstance(vit.norm_pre, nn.Identity)
    has_bias = vit.patch_embed.proj.bias is not None
    if (has_class, has_pre_norm, has_bias) not in ((True, True, False), (False, False, True)):
        return "has neither CLIP's class token and norm before its blocks, nor SigLIP's form without both"
    return None


def _is_plain_patching(vit: Any) -> bool:
    patching = vit.patch_embed
    return (
        isinstance(patching.proj, nn.Conv2d)
        and isinstance(patching.norm, nn.Identity)
        and patching.proj.kernel_size == patching.proj.stride
        and patching.img_size[0] == patching.img_size[1]
    )


def _num_positions(vit: Any) -> int:
    return int(vit.patch_embed.num_patches) + (vit.cls_token is not None)


def activation_name(module: nn.Module) -> str | None:
    """Name that transformers gives an activation: the form timm built, whatever the id says."""
    from timm.layers import GELU, GELUTanh, QuickGELU

    if isinstance(module, QuickGELU):
        return "quick_gelu"
    if isinstance(module, GELUTanh) or (isinstance(module, nn.GELU) and module.approximate == "tanh"):
        return "gelu_pytorch_tanh"
    return "gelu" if isinstance(module, GELU | nn.GELU) else None


def native_tower(vit: Any) -> NativeTower:
    """Map a ViT that has no `tower_misfit`; tensors are copies."""
    install()
    from transformers import CLIPVisionConfig, SiglipVisionConfig

    is_clip = vit.cls_token is not None
    first: Any = vit.blocks[0]
    shape: dict[str, Any] = {
        "hidden_size": vit.embed_dim,
        "intermediate_size": first.mlp.fc1.out_features,
        "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": first.attn.num_heads,
        "image_size": vit.patch_embed.img_size[0],
        "patch_size": vit.patch_embed.patch_size[0],
        "hidden_act": activation_name(first.mlp.act),
        "layer_norm_eps": first.norm1.eps,
    }
    config = CLIPVisionConfig(**shape) if is_clip else SiglipVisionConfig(**shape, vision_use_head=False)
    return NativeTower(config, _weights(vit), "default" if is_clip else "full", int(is_clip))


def _weights(vit: Any) -> dict[str, torch.Tensor]:
    weights = {
        "embeddings.patch_embedding.weight": vit.patch_embed.proj.weight,
        "embeddings.position_embedding.weight": vit.pos_embed[0],
        **_named("post_layernorm", vit.norm),
    }
    if vit.cls_token is not None:
        weights["embeddings.class_embedding"] = vit.cls_token[0, 0]
        weights |= _named("pre_layrnorm", vit.norm_pre)
    else:
        weights["embeddings.patch_embedding.bias"] = vit.patch_embed.proj.bias
    for index, block in enumerate(vit.blocks):
        layer = f"encoder.layers.{index}"
        weights |= _named(f"{layer}.layer_norm1", block.norm1) | _named(f"{layer}.layer_norm2", block.norm2)
        weights |= _named(f"{layer}.mlp.fc1", block.mlp.fc1) | _named(f"{layer}.mlp.fc2", block.mlp.fc2)
        weights |= _named(f"{layer}.self_attn.out_proj", block.attn.proj)
        for kind in ("weight", "bias"):
            fused = getattr(block.attn.qkv, kind)
            parts = torch.zeros(3, vit.embed_dim) if fused is None else fused.chunk(3)
            for name, value in zip("qkv", parts, strict=True):
                weights[f"{layer}.self_attn.{name}_proj.{kind}"] = value
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in weights.items()
    }


def _named(name: str, module: Any) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
