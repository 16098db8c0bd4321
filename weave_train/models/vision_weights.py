"""One timm ViT and its weights: from the hub, from a file in timm's layout, or seeded random.

timm would leave random what a file lacks, and bend position embeddings and patch kernels of another
size until they fit. Here a file must hold every weight, of the id's own patch size, and position embeddings
are resampled only from the size that timm publishes the weights for (DINOv2's 518 px).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install
from weave_train.towers import MemberSpec, TowerSpec

__all__ = ["build_member", "split_weights"]

_KEYWORDS = ("pretrained", "random")

_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    UnpicklingError,
    # what torch's unpickler without code stumbles into on bytes that are no pickle
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)
"""Errors of reading a file that is damaged or something else."""


def split_weights(vision_weights: str, vision_backbone_id: str, spec: TowerSpec) -> list[str]:
    """What `vision_weights` says of each member of a tower.

    Args:
        vision_weights: `pretrained`, `random`, or a file for each member, separated by commas.
        vision_backbone_id: Named in the message.
        spec: Of the id.

    Raises:
        ConfigError: More or fewer files than members.
    """
    if vision_weights in _KEYWORDS:
        return [vision_weights] * len(spec.members)
    files = [one.strip() for one in vision_weights.split(",")] if len(spec.members) > 1 else [vision_weights]
    if len(files) != len(spec.members):
        names = ", ".join(f"{member.name} ({member.timm_name})" for member in spec.members)
        raise ConfigError(
            f"model.vision_weights: {vision_weights!r} is {len(files)} files, {vision_backbone_id} is made "
            f"of {names}; give a file for each, in this order, separated by a comma"
        )
    return files


def build_member(member: MemberSpec, spec: TowerSpec, weights: str) -> nn.Module:
    """Build one ViT of a tower in fp32.

    Args:
        member: Which.
        spec: The tower it belongs to.
        weights: `pretrained`, `random`, or a file.

    Raises:
        DeviceError: The file is not there, damaged or of another model, or the hub can't be reached.
    """
    install()
    import timm

    arguments: dict[str, Any] = {"pretrained": weights != "random", **member.timm_kwargs}
    published: Any = timm.get_pretrained_cfg(member.timm_name)
    native_px = published.input_size[-1]
    if native_px != spec.image_px:
        arguments["img_size"] = spec.image_px
    if weights not in _KEYWORDS:
        state = _read_file(weights, member, grids={spec.grid, native_px // member.patch_px})
        # without a classifier timm is strict: a weight that the file lacks is an error
        arguments["pretrained_cfg_overlay"] = {"state_dict": state, "classifier": None}
    try:
        vit: nn.Module = timm.create_model(member.timm_name, num_classes=0, **arguments)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        if weights == "random":
            raise
        raise _no_weights(weights, member, _reason(error)) from error
    vit.pretrained_cfg.pop("state_dict", None)  # type: ignore[union-attr, operator]
    return vit


def _read_file(path: str, member: MemberSpec, *, grids: set[int]) -> dict[str, torch.Tensor]:
    """A file's weights; no code in it is run.

    Args:
        path: A `.safetensors` file, or one that `torch.save` wrote.
        member: The ViT it is for.
        grids: Sides of patch grids that position embeddings may have.
    """
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    if not Path(path).is_file():
        raise DeviceError(f"model.vision_weights: there is no file {path!r}; give a file in timm's layout")
    try:
        state = load_state_dict(path, weights_only=True)
    except (SafetensorError, *_UNREADABLE) as error:
        raise _no_weights(path, member, f"it is damaged or holds no weights: {_reason(error)}") from error
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise _no_weights(path, member, "it holds no weights")
    _check_sizes(path, member, state, grids)
    return {name: value for name, value in state.items() if not name.startswith("head")}


def _check_sizes(path: str, member: MemberSpec, state: dict[str, torch.Tensor], grids: set[int]) -> None:
    """Refuse what timm would resample without being asked to."""
    kernel = state.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 4 and kernel.shape[-1] != member.patch_px:
        raise _no_weights(
            path, member, f"its patches are {kernel.shape[-1]} px wide, the model's {member.patch_px} px"
        )
    embedding = state.get("pos_embed")
    if embedding is None:
        return
    tokens = embedding.shape[-2]
    squares = {grid**2 for grid in grids}
    fits = any(tokens - prefix in squares for prefix in range(8))  # class and register tokens, if at all
    if not fits:
        side = math.isqrt(tokens)
        wanted = " or ".join(f"{grid} x {grid}" for grid in sorted(grids))
        raise _no_weights(
            path, member, f"its position embeddings are of {side} x {side} patches, not of {wanted}"
        )


def _no_weights(weights: str, member: MemberSpec, reason: str) -> DeviceError:
    return DeviceError(
        f"model.vision_weights: {weights!r} gives no weights for {member.timm_name}: {reason}; "
        "give a local file in timm's layout, or write out 'random'"
    )


def _reason(error: Exception) -> str:
    """What an error says, in one line of moderate length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} ..."
