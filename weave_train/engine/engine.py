"""DeepSpeed around the trained part of the model. The only importer of deepspeed.

It wraps projector and language model, never the frozen tower: ZeRO-3 would partition it. Parameters
and optimizer states are reached in place as `Fragment`s, stage by stage, so that the checkpoint knows
names and ranges only.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from weave_train.engine.deepspeed_config import EngineSettings, deepspeed_config
from weave_train.launch import Launch

__all__ = [
    "OPTIMIZER_KEYS",
    "Fragment",
    "TrainEngine",
    "decay_groups",
    "init_process_group",
    "leave_process_group",
]

OPTIMIZER_KEYS = ("exp_avg", "exp_avg_sq")
"""AdamW's states kept per parameter, beside the step count."""


@dataclass(frozen=True)
class Fragment:
    """Elements `[start, stop)` of one flattened parameter, as this rank holds them.

    Attributes:
        weight: fp32[stop - start] master, a view in place.
        states: AdamW's `exp_avg` and `exp_avg_sq`, fp32[stop - start], views in place.
        is_owned: This rank writes it; fragments of all ranks that are owned cover the parameter once.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    weight: torch.Tensor
    states: Mapping[str, torch.Tensor]
    is_owned: bool


def init_process_group(launch: Launch) -> None:
    """Join the ranks: NCCL on GPUs, gloo on CPUs, without compiling anything."""
    if launch.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # chosen, so nothing to warn about
    import deepspeed  # seconds of import, only where training runs
    from deepspeed import ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed calls collectives by names that torch renamed; nobody here can act on it
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    if torch.distributed.is_initialized():
        return
    ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if launch.device.type == "cuda" else "gloo"
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, rank=launch.rank, world_size=launch.world_size
    )


def leave_process_group() -> None:
    """Part from the other ranks at the end of a run that went well; a failed rank just ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def decay_groups(core: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: weights with two axes or more decay, vectors and biases do not."""
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for name, parameter in core.named_parameters():
        if parameter.requires_grad:
            (decay if parameter.ndim >= 2 and not name.endswith(".bias") else no_decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class TrainEngine:
    """One optimizer step at a time over a module, on every rank alike.

    Args:
        core: What is trained; given to DeepSpeed whole.
        settings: Stage, precision, batch and clipping.
        launch: Rank, world size, device.
    """

    def __init__(self, core: nn.Module, settings: EngineSettings, launch: Launch) -> None:
        import deepspeed

        # taken before ZeRO-3 empties the parameters
        self._shapes = {
            name: tuple(parameter.shape)
            for name, parameter in core.named_parameters()
            if parameter.requires_grad
        }
        self.settings = settings
        self._launch = launch
        adamw = torch.optim.AdamW(decay_groups(core, weight_decay=settings.weight_decay), lr=0.0)
        self._engine, *_ = deepspeed.initialize(
            model=core, optimizer=adamw, config=deepspeed_config(settings), dist_init_required=False
        )
        self._adamw = adamw
        self._create_states()

    def loss_sum(self, *inputs: Any) -> torch.Tensor:
        """The module's loss: fp32 scalar, summed over supervised tokens."""
        loss: torch.Tensor = self._engine(*inputs)
        return loss

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate gradients of a micro-step."""
        self._engine.backward(loss, scale_wrt_gas=False)

    def mark_boundary(self, *, is_last: bool) -> None:
        """Say, before a micro-step's forward, whether it is the step's last."""
        self._engine.set_gradient_accumulation_boundary(is_last)

    def step(self, learning_rate: float) -> float:
        """Update the weights; returns the gradients' global norm before clipping."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        norm = self._clip_whole() if self.settings.zero_stage == 0 else None
        self._engine.step()
        norm = self._engine.get_global_grad_norm() if norm is None else norm
        return float("nan") if norm is None else float(norm)

    @property
    def adam_step(self) -> int:
        """Updates AdamW has made, as its bias correction counts them."""
        return int(next(iter(self._adamw.state.values()))["step"])

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every trained parameter."""
        return self._shapes

    def fragments(self) -> Iterator[Fragment]:
        """What this rank holds of each trained parameter."""
        trained = [(name, p) for name, p in self._engine.module.named_parameters() if p.requires_grad]
        for index, (name, parameter) in enumerate(trained):
            fragment = self._fragment(index, name, parameter)
            if fragment is not None:
                yield fragment

    def finish_restore(self, *, adam_step: int) -> None:
        """After fragments were overwritten: carry masters into the compute weights on all ranks."""
        for state in self._adamw.state.values():
            state["step"] = torch.as_tensor(float(adam_step))
        optimizer = self._engine.optimizer
        match self.settings.zero_stage:
            case 0:
                pass
            case 1 | 2:
                optimizer.update_lp_params()
            case _:
                self._refresh_partitions()

    def _clip_whole(self) -> torch.Tensor:
        """Clip unsharded fp32 gradients; DeepSpeed would, too, but keeps the norm to itself."""
        limit = self.settings.max_grad_norm or float("inf")
        return torch.nn.utils.clip_grad_norm_(self._engine.module.parameters(), limit)

    def _fragment(self, index: int, name: str, parameter: nn.Parameter) -> Fragment | None:
        match self.settings.zero_stage:
            case 0:
                return self._whole(index, name, parameter)
            case 1 | 2:
                return self._mapped(name, parameter)
            case _:
                return self._partition(name, parameter)

    def _whole(self, index: int, name: str, parameter: nn.Parameter) -> Fragment:
        state = self._adamw.state[parameter]
        return Fragment(
            name=name,
            shape=self._shapes[name],
            start=0,
            stop=parameter.numel(),
            weight=parameter.data.view(-1),
            states={key: state[key].view(-1) for key in OPTIMIZER_KEYS},
            is_owned=index % self._launch.world_size == self._launch.rank,
        )

    def _mapped(self, name: str, parameter: nn.Parameter) -> Fragment | None:
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]  # set by DeepSpeed
        if mapping is None:
            return None
        address = mapping.lp_fragment_address
        return Fragment(
            name=name,
            shape=self._shapes[name],
            start=address.start,
            stop=address.start + address.numel,
            weight=mapping.hp_fragment.data,
            states={key: mapping.get_optim_state_fragment(key) for key in OPTIMIZER_KEYS},
            is_owned=True,
        )

    def _partition(self, name: str, parameter: nn.Parameter) -> Fragment | None:
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        weight = safe_get_local_fp32_param(parameter)
        numel = parameter.ds_numel  # type: ignore[attr-defined]  # set by DeepSpeed
        start = self._launch.rank * weight.numel()
        stop = min(start + weight.numel(), numel)
        if start >= stop:
            return None  # only padding lies on this rank
        held = stop - start
        return Fragment(
            name=name,
            shape=self._shapes[name],
            start=start,
            stop=stop,
            weight=weight.data[:held],
            states={key: safe_get_local_optimizer_state(parameter, key)[:held] for key in OPTIMIZER_KEYS},
            is_owned=True,
        )

    def _create_states(self) -> None:
        """AdamW creates its states at the first step; a restore needs them before."""
        optimizer = self._engine.optimizer
        match self.settings.zero_stage:
            case 0 | 1 | 2:
                masters = [parameter for group in self._adamw.param_groups for parameter in group["params"]]
            case _:
                masters = list(optimizer.fp32_partitioned_groups_flat)
        for master in masters:
            state = self._adamw.state[master]
            if not state:
                state["step"] = torch.tensor(0.0)
                for key in OPTIMIZER_KEYS:
                    state[key] = torch.zeros_like(master, memory_format=torch.preserve_format)
        link: Callable[[], None] | None = getattr(optimizer, "_lazy_init_hp_params_optimizer_state", None)
        if link is not None:
            link()

    def _refresh_partitions(self) -> None:
        from deepspeed.utils import safe_get_local_fp32_param

        for _, parameter in self._engine.module.named_parameters():
            if parameter.requires_grad:
                parameter.ds_tensor.data.copy_(safe_get_local_fp32_param(parameter).view(-1))
        resident = self._engine.optimizer.persistent_parameters
        if resident:
            # small parameters stay gathered between steps; gather them again from the new partitions
            resident[0].partition(resident)
            resident[0].all_gather(resident)
