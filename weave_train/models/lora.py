"""Low-rank adapters in the language model, by peft, and back into its weights.

    y = W x + alpha / rank * B A dropout(x)      W frozen; A seeded, the same on every rank; B begins at 0

    language_model.model.layers.0.self_attn.q_proj.base_layer.weight        W
    language_model.model.layers.0.self_attn.q_proj.lora_A.default.weight    A [rank, in]
    language_model.model.layers.0.self_attn.q_proj.lora_B.default.weight    B [out, rank]

Adapters are put into the model's own layers (`inject_adapter_in_model`), so that everything else about
it stays as it is. Which elements dropout leaves out depends on the seed, the step, the sample, the layer
and the kind of device alone: not on ranks, micro-steps or what was recomputed.

Source:
    Hu et al., LoRA (arXiv 2106.09685); peft 0.21.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from weave_data.errors import ConfigError
from weave_data.torchvision_ops import install
from weave_train.config import LoraConfig, nearest
from weave_train.models.seeding import seeded_weights
from weave_train.rows.batch import Batch

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageCore

__all__ = ["RowDraws", "add_lora", "is_adapter", "merge_lora", "target_layers"]

_ADAPTER = "default"


class RowDraws:
    """Randomness that belongs to rows, whichever rank and micro-step they are in.

    Attributes:
        seed: Of the run.
        step: Of the run; set before each.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.step = 0
        self._sample_ids: tuple[str, ...] = ()
        self._lengths: list[int] = []

    def begin(self, batch: Batch) -> None:
        """Draw for these rows from now on; padding and dummy rows are not drawn for."""
        self._sample_ids = batch.sample_ids
        self._lengths = batch.attention_mask.sum(dim=1).tolist()

    def kept(self, x_BSE: torch.Tensor, *, layer: int, rate: float) -> torch.Tensor:  # noqa: N803
        """[B, S, E] of 1 / (1 - rate) where an element is kept, else 0; 1 on padding and dummy rows."""
        mask = torch.ones_like(x_BSE)
        generator = torch.Generator(x_BSE.device)
        for row, sample_id in enumerate(self._sample_ids):
            name = f"{self.seed}/{self.step}/{sample_id}/{layer}"
            # 63 bits: a generator takes no more
            generator.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1)
            drawn = torch.empty(self._lengths[row], x_BSE.shape[-1], device=x_BSE.device)
            drawn.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
            mask[row, : self._lengths[row]] = drawn.to(mask.dtype)
        return mask


class _RowDropout(nn.Module):
    """Dropout over [B, S, E] by `RowDraws`."""

    def __init__(self, draws: RowDraws, *, layer: int, rate: float) -> None:
        super().__init__()
        self._draws = draws
        self._layer = layer
        self._rate = rate

    def forward(self, x_BSE: torch.Tensor) -> torch.Tensor:  # noqa: N803  shape suffix
        return x_BSE * self._draws.kept(x_BSE, layer=self._layer, rate=self._rate) if self.training else x_BSE


def add_lora(core: VideoLanguageCore, settings: LoraConfig, *, seed: int) -> None:
    """Put adapters beside the language model's layers; what is trained is up to the stage.

    Args:
        core: As built, with the language model's own weights; its outputs stay the same.
        settings: With a rank.
        seed: Of A and of dropout.

    Raises:
        ConfigError: A target matches no layer.
    """
    install()
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model
    from peft.tuners.lora import Linear

    assert settings.rank is not None
    language = core.language_model
    frozen_before = {name: value.requires_grad for name, value in core.named_parameters()}
    config = PeftConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a ratio like any other
        lora_dropout=settings.dropout,
        target_modules=target_layers(language, settings.targets),
    )
    with seeded_weights(seed):
        inject_adapter_in_model(config, language, adapter_name=_ADAPTER)
    for name, value in core.named_parameters():  # peft freezes by its own lights
        value.requires_grad_(frozen_before.get(name.replace(".base_layer.", "."), True))
    if settings.dropout:
        core.draws = RowDraws(seed)
        layers = [module for module in language.modules() if isinstance(module, Linear)]
        for index, layer in enumerate(layers):
            layer.lora_dropout[_ADAPTER] = _RowDropout(core.draws, layer=index, rate=settings.dropout)


def merge_lora(core: VideoLanguageCore) -> None:
    """Add adapters to the weights beside them and take them out: the model is as it was before `add_lora`.

    Worked out in the dtype that the weights have.
    """
    from peft.tuners.lora import Linear

    language = core.language_model
    adapted = [(name, module) for name, module in language.named_modules() if isinstance(module, Linear)]
    for name, layer in adapted:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(language.get_submodule(parent), child, layer.get_base_layer())
    vars(language).pop("peft_config", None)
    core.draws = None


def is_adapter(parameter_name: str) -> bool:
    """Whether a parameter is an adapter's A or B."""
    return ".lora_A." in parameter_name or ".lora_B." in parameter_name


def target_layers(language_model: Any, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers in a language model's blocks that a glob matches, by name or last word.

    Raises:
        ConfigError: A glob matches none.
    """
    names = _linear_layers(language_model)
    chosen: set[str] = set()
    problems = []
    for glob in targets:
        found = {name for name in names if fnmatchcase(name, glob) or fnmatchcase(_last(name), glob)}
        chosen |= found
        if not found:
            words = dict.fromkeys(_last(name) for name in names)
            problems.append(
                f"lora.targets: {glob!r} matches no linear layer of the language model's blocks "
                f"({nearest(glob, words)})"
            )
    if problems:
        raise ConfigError(problems)
    return [name for name in names if name in chosen]


def _linear_layers(language_model: Any) -> list[str]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    modules = list(language_model.named_modules())
    blocks = tuple(f"{name}." for name, module in modules if isinstance(module, GradientCheckpointingLayer))
    return [name for name, module in modules if isinstance(module, nn.Linear) and name.startswith(blocks)]


def _last(name: str) -> str:
    return name.rpartition(".")[2]
