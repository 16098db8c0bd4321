"""A video-language model: ViTs side by side, a projector, a causal language model.

    pixel_values [F, 3 * towers, px, px] -> each tower's patches [F, P, D_i] -> side by side [F, P, D]
        -> averaged over squares -> projector [F, P', E] -> in place of the image tokens

Towers have timm's parameter names, without the last block and what follows it: features are those of the
second-to-last block, without its norm and without prefix tokens.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from torch import nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel

from .configuration_weave import WeaveConfig

__all__ = ["Vit", "WeaveForConditionalGeneration"]


class QuickGELU(nn.Module):
    """`x * sigmoid(1.702 x)`, as OpenAI trained CLIP."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[...] -> [...]."""
        return hidden * torch.sigmoid(1.702 * hidden)


_ACTIVATIONS: dict[str, Any] = {
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": lambda: nn.GELU(approximate="tanh"),
    "quick_gelu": QuickGELU,
}


class Attention(nn.Module):
    """Self-attention over all tokens of a frame."""

    def __init__(self, width: int, heads: int, *, has_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=has_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, hidden_FND: torch.Tensor) -> torch.Tensor:  # noqa: N803  shape suffix
        """[F, N, D] -> [F, N, D]."""
        num_frames, num_tokens, width = hidden_FND.shape
        fused = self.qkv(hidden_FND).view(num_frames, num_tokens, 3, self.heads, width // self.heads)
        query, key, value = fused.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(num_frames, num_tokens, width))


class Mlp(nn.Module):
    """Two layers."""

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.act = _ACTIVATIONS[activation]()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        return self.fc2(self.act(self.fc1(hidden)))


class LayerScale(nn.Module):
    """One factor a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        return hidden * self.gamma


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside the identity."""

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        width, eps = shape["width"], shape["eps"]
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, shape["heads"], has_bias=shape["qkv_bias"])
        self.mlp = Mlp(width, shape["mlp_width"], shape["activation"])
        self.ls1 = LayerScale(width) if shape["layer_scale"] else nn.Identity()
        self.ls2 = LayerScale(width) if shape["layer_scale"] else nn.Identity()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[F, N, D] -> [F, N, D]."""
        hidden = hidden + self.ls1(self.attn(self.norm1(hidden)))
        return hidden + self.ls2(self.mlp(self.norm2(hidden)))


class PatchEmbed(nn.Module):
    """Patches that do not overlap."""

    def __init__(self, patch_px: int, width: int, *, has_bias: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_px, stride=patch_px, bias=has_bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[F, 3, px, px] -> [F, P, D]."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Vit(nn.Module):
    """A ViT up to the block whose output is used.

    Args:
        shape: `image_px`, `patch_px`, `width`, `depth` (blocks that are used), `heads`, `mlp_width`,
            `activation`, `eps`; `class_token`, `num_registers`, `positions_of_prefix` (else of patches
            alone); `pre_norm`, `patch_bias`, `qkv_bias`, `layer_scale`.
    """

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        width = shape["width"]
        num_patches = (shape["image_px"] // shape["patch_px"]) ** 2
        self.num_prefix = int(shape["class_token"]) + shape["num_registers"]
        self.positions_of_prefix = shape["positions_of_prefix"]
        self.patch_embed = PatchEmbed(shape["patch_px"], width, has_bias=shape["patch_bias"])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if shape["class_token"] else None
        has_registers = shape["num_registers"] > 0
        self.reg_token = (
            nn.Parameter(torch.zeros(1, shape["num_registers"], width)) if has_registers else None
        )
        num_positions = num_patches + (self.num_prefix if self.positions_of_prefix else 0)
        self.pos_embed = nn.Parameter(torch.zeros(1, num_positions, width))
        self.norm_pre = nn.LayerNorm(width, eps=shape["eps"]) if shape["pre_norm"] else nn.Identity()
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape["depth"]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[F, 3, px, px] -> [F, P, D]."""
        patches = self.patch_embed(images)
        prefix = [
            token.expand(len(patches), -1, -1)
            for token in (self.cls_token, self.reg_token)
            if token is not None
        ]
        if self.positions_of_prefix:
            hidden = torch.cat([*prefix, patches], dim=1) + self.pos_embed
        else:
            hidden = torch.cat([*prefix, patches + self.pos_embed], dim=1)
        hidden = self.norm_pre(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden[:, self.num_prefix :]


def build_projector(kind: str, vision_dim: int, text_dim: int) -> nn.Sequential:
    """[..., vision_dim] -> [..., text_dim]."""
    widths = {
        "linear": [vision_dim, text_dim],
        "gelu-mlp": [vision_dim, text_dim, text_dim],
        "fused-gelu-mlp": [vision_dim, 4 * vision_dim, text_dim, text_dim],
    }[kind]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class WeaveForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Answers questions about frames; an image token of `input_ids` is one visual token."""

    config_class = WeaveConfig
    base_model_prefix = "language_model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012  as its base declares it
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: WeaveConfig) -> None:
        super().__init__(config)
        self.towers = nn.ModuleList(Vit(shape) for shape in config.towers or [])
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        width = sum(shape["width"] for shape in config.towers or [])
        text_dim = self.language_model.get_input_embeddings().weight.shape[1]
        self.projector = build_projector(config.projector, width, text_dim)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Of the language model."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Of the language model."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Of the language model."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Of the language model."""
        self.language_model.set_output_embeddings(new_embeddings)

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Features of frames: [F, 3 * towers, px, px] -> [F, P, D]."""
        first: Any = self.towers[0]
        images = pixel_values.to(first.pos_embed.dtype).split(3, dim=1)
        features = torch.cat([vit(one) for vit, one in zip(self.towers, images, strict=True)], dim=-1)
        pool = self.config.pool
        if pool == 1:
            return features
        grid = int(features.shape[1] ** 0.5)
        squares = features.transpose(1, 2).unflatten(2, (grid, grid))
        return F.avg_pool2d(squares, pool, ceil_mode=True).flatten(2).transpose(1, 2)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """[F, P, D] -> [F, P, E], as they take the place of image tokens."""
        return self.projector(features) * self.config.visual_scale

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the language model's, with features in place of image tokens.

        Raises:
            ValueError: There are more or fewer image tokens than features.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("neither input_ids nor inputs_embeds is given; give one of them")
            is_image = input_ids == self.config.image_token_id
            inputs_embeds = self.get_input_embeddings()(input_ids.masked_fill(is_image, 0))
            if pixel_values is not None and is_image.any():
                visual = self.project(self.encode(pixel_values)).flatten(0, 1)
                if len(visual) != int(is_image.sum()):
                    raise ValueError(
                        f"{len(pixel_values)} frames are {len(visual)} visual tokens, "
                        f"but input_ids hold {int(is_image.sum())} image tokens"
                    )
                inputs_embeds = inputs_embeds.masked_scatter(
                    is_image.unsqueeze(-1), visual.to(inputs_embeds.dtype)
                )
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)
