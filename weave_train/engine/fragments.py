"""Where DeepSpeed keeps a rank's share of a parameter, stage by stage: master, optimizer states, gradient.

    ZeRO 0      whole on every rank; the gradient is `parameter.grad`
    ZeRO 1, 2   `parameter._hp_mapping`: a range of the parameter, none on ranks that hold nothing of it
    ZeRO 3      a range of one flat buffer per sub-group, padded on the last ranks

All tensors are views in place, also where offloading keeps them in host memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from weave_train.engine.deepspeed_config import OptimizerId

__all__ = [
    "OPTIMIZER_KEYS",
    "Fragment",
    "Holder",
    "Mapped",
    "Partitioned",
    "Range",
    "Whole",
    "make_holder",
    "trained",
]

OPTIMIZER_KEYS: Mapping[OptimizerId, tuple[str, ...]] = {
    "adamw": ("exp_avg", "exp_avg_sq"),
    "schedule_free_adamw": ("z", "exp_avg_sq"),
}
"""An optimizer's states kept per parameter, beside the step count."""


@dataclass(frozen=True)
class Fragment:
    """Elements `[start, stop)` of one flattened parameter, as this rank holds them.

    Attributes:
        weight: [stop - start] master, a view in place; fp32, unless the masters are bf16.
        states: The optimizer's (`OPTIMIZER_KEYS`), like the master, views in place.
        is_owned: This rank writes it; fragments of all ranks that are owned cover the parameter once.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    weight: torch.Tensor
    states: Mapping[str, torch.Tensor]
    is_owned: bool


@dataclass(frozen=True)
class Range:
    """Elements `[start, stop)` of one flattened parameter, held by this rank."""

    start: int
    stop: int


class Holder(Protocol):
    """Finds this rank's share of parameters in one ZeRO stage."""

    def locate(self, parameter: nn.Parameter) -> Range | None:
        """Range of the parameter that lies on this rank, or None."""

    def master(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:
        """[stop - start], in place."""

    def state(self, parameter: nn.Parameter, held: Range, key: str) -> torch.Tensor:
        """[stop - start] of an optimizer state, in place."""

    def gradient(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:
        """[stop - start], averaged over ranks; after the step's last backward, before its update."""


class Whole:
    """ZeRO 0: fp32, unsharded."""

    def __init__(self, adamw: torch.optim.Optimizer) -> None:
        self._adamw = adamw

    def locate(self, parameter: nn.Parameter) -> Range | None:
        """All of it."""
        return Range(0, parameter.numel())

    def master(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:  # noqa: ARG002  one protocol
        """The parameter itself."""
        return parameter.data.view(-1)

    def state(self, parameter: nn.Parameter, held: Range, key: str) -> torch.Tensor:  # noqa: ARG002
        """The optimizer's own."""
        state: torch.Tensor = self._adamw.state[parameter][key]
        return state.view(-1)

    def gradient(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:
        """Zeros where nothing flowed."""
        grad = parameter.grad
        return torch.zeros(held.stop, device=parameter.device) if grad is None else grad.reshape(-1)


class Mapped:
    """ZeRO 1 and 2: a rank's fp32 buffer covers consecutive parameters of a group, cut anywhere."""

    def locate(self, parameter: nn.Parameter) -> Range | None:
        """What the rank's buffer covers."""
        mapping = _mapping(parameter)
        if mapping is None:
            return None
        address = mapping.lp_fragment_address
        return Range(address.start, address.start + address.numel)

    def master(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:  # noqa: ARG002
        """Part of the fp32 buffer."""
        master: torch.Tensor = _mapping(parameter).hp_fragment.data
        return master

    def state(self, parameter: nn.Parameter, held: Range, key: str) -> torch.Tensor:  # noqa: ARG002
        """Part of the state's buffer."""
        state: torch.Tensor = _mapping(parameter).get_optim_state_fragment(key)
        return state

    def gradient(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:
        """Of the accumulation buffer; bf16 in ZeRO 1 has the whole gradient on every rank."""
        index = parameter._index_in_param_group  # type: ignore[attr-defined]  # set by DeepSpeed
        gradient = _mapping(parameter).get_lp_grad_fragment(index).reshape(-1)
        is_whole = gradient.numel() == parameter.numel()
        return gradient[held.start : held.stop] if is_whole else gradient


class Partitioned:
    """ZeRO 3: each parameter is cut into one equal range per rank.

    Args:
        optimizer: DeepSpeed's, around AdamW.
        rank: Of this process.
    """

    def __init__(self, optimizer: Any, rank: int) -> None:
        self._optimizer = optimizer
        self._rank = rank

    def locate(self, parameter: nn.Parameter) -> Range | None:
        """None where only padding lies on this rank."""
        share = parameter.ds_tensor.numel()  # type: ignore[attr-defined]  # set by DeepSpeed
        start = self._rank * share
        stop = min(start + share, parameter.ds_numel)  # type: ignore[attr-defined]
        return Range(start, stop) if start < stop else None

    def master(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:
        """Part of the sub-group's fp32 buffer."""
        return self._narrow(parameter, held, None)

    def state(self, parameter: nn.Parameter, held: Range, key: str) -> torch.Tensor:
        """Part of the state's buffer."""
        return self._narrow(parameter, held, key)

    def gradient(self, parameter: nn.Parameter, held: Range) -> torch.Tensor:
        """On the device, wherever the buffer lies."""
        from deepspeed.utils import safe_get_local_grad

        gradient: torch.Tensor = safe_get_local_grad(parameter)
        return gradient.view(-1)[: held.stop - held.start]

    def _narrow(self, parameter: nn.Parameter, held: Range, key: str | None) -> torch.Tensor:
        # safe_get_local_fp32_param gives a copy on the GPU where the buffer is offloaded
        flat, _ = self._optimizer._get_fp32_opt_state_partition(
            parameter, release_swap_buffers=True, optim_state_key=key
        )
        part: torch.Tensor = flat.data[: held.stop - held.start]
        return part


def make_holder(zero_stage: int, *, adamw: torch.optim.Optimizer, optimizer: Any, rank: int) -> Holder:
    """Holder of a ZeRO stage.

    Args:
        zero_stage: 0 to 3.
        adamw: As given to DeepSpeed.
        optimizer: DeepSpeed's, around it.
        rank: Of this process.
    """
    match zero_stage:
        case 0:
            return Whole(adamw)
        case 1 | 2:
            return Mapped()
        case _:
            return Partitioned(optimizer, rank)


def trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Trained parameters in the module's order, the same on every rank."""
    return ((name, value) for name, value in module.named_parameters() if value.requires_grad)


def _mapping(parameter: nn.Parameter) -> Any:
    return parameter._hp_mapping  # type: ignore[attr-defined]  # set by DeepSpeed
