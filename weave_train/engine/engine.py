"""DeepSpeed around the trained part of the model. The only importer of deepspeed.

It wraps the core, never a frozen tower: ZeRO-3 would partition it. Parameters and optimizer states are
reached in place as `Fragment`s, so that the checkpoint knows names and ranges only.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from weave_train.engine.deepspeed_config import EngineSettings, deepspeed_config
from weave_train.engine.fragments import OPTIMIZER_KEYS, Fragment, make_holder, trained
from weave_train.engine.parameter_groups import parameter_groups, set_learning_rate
from weave_train.engine.schedule_free import ScheduleFreeAdamW, WeightAverage, averaged
from weave_train.launch import Launch
from weave_train.models.parts import PARTS, part_of

__all__ = ["Fragment", "TrainEngine", "init_process_group", "leave_process_group"]

_COLLECTIVE_TIMEOUT_SECONDS = 3600.0


def init_process_group(launch: Launch, *, timeout_seconds: float = _COLLECTIVE_TIMEOUT_SECONDS) -> None:
    """Join the ranks: NCCL on GPUs, gloo on CPUs, without compiling anything.

    Args:
        launch: Rank, world size, device.
        timeout_seconds: A collective that takes longer fails.
    """
    if launch.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # chosen, so nothing to warn about
    import deepspeed  # seconds of import, only where training runs
    from deepspeed import ops

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed calls collectives by names that torch renamed; nobody here can act on it
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    # also where ranks have met by Ray Train: DeepSpeed would compile it, and wait for ever on the lock of a
    # rank that was killed while it did. Set without being asked for, which would try a compiler on every op
    vars(ops).setdefault("__compatible_ops__", {})["deepspeed_shm_comm"] = False
    if torch.distributed.is_initialized():
        return
    backend = "nccl" if launch.device.type == "cuda" else "gloo"
    deepspeed.init_distributed(
        dist_backend=backend,
        auto_mpi_discovery=False,
        rank=launch.rank,
        world_size=launch.world_size,
        timeout=timedelta(seconds=timeout_seconds),
    )


def leave_process_group() -> None:
    """Part from the other ranks at the end of a run that went well; a failed rank just ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class TrainEngine:
    """One optimizer step at a time over a module, on every rank alike.

    Args:
        core: What is trained, in fp32, with what its stage freezes frozen; given to DeepSpeed whole.
        settings: Stage, precision, batch and clipping.
        launch: Rank, world size, device.

    Attributes:
        was_skipped: The last `step` left weights, optimizer states and the optimizer's step count as they
            were, because the gradients were not finite; equal on all ranks.
        average: Of the weights so far, with `schedule_free_adamw`.
    """

    def __init__(self, core: nn.Module, settings: EngineSettings, launch: Launch) -> None:
        import deepspeed

        # taken before ZeRO-3 empties the parameters
        self._shapes = {name: tuple(parameter.shape) for name, parameter in trained(core)}
        has_wider_masters = settings.precision == "bf16" and settings.master_weights == "fp32"
        rounded = _rounded_weights(core) if has_wider_masters else {}
        self.settings = settings
        self._launch = launch
        groups = parameter_groups(
            core,
            weight_decay=settings.weight_decay,
            lr_scale=settings.lr_scale,
            parameter_lr_scale=settings.parameter_lr_scale,
        )
        self.was_skipped = False
        self.average = WeightAverage()
        self._adamw: torch.optim.Optimizer = (
            torch.optim.AdamW(groups, lr=0.0) if settings.optimizer == "adamw" else ScheduleFreeAdamW(groups)
        )
        count = sum(math.prod(shape) for shape in self._shapes.values())
        self._engine, *_ = deepspeed.initialize(
            model=core,
            optimizer=self._adamw,
            config=deepspeed_config(settings, trained_parameters=count),
            dist_init_required=False,
        )
        self._holder = make_holder(
            settings.zero_stage, adamw=self._adamw, optimizer=self._engine.optimizer, rank=launch.rank
        )
        self._create_states()
        for fragment in self.fragments():
            if fragment.name in rounded:
                fragment.weight.copy_(rounded[fragment.name][fragment.start : fragment.stop])
            if "z" in fragment.states:
                fragment.states["z"].copy_(fragment.weight)

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
        """Update the weights, unless a gradient is not finite on some rank; see `was_skipped`.

        Returns:
            The gradients' global norm before clipping; not finite where the step was skipped.
        """
        set_learning_rate(self._engine.optimizer.param_groups, learning_rate)
        average = self.average.after(learning_rate)
        if isinstance(self._adamw, ScheduleFreeAdamW):
            self._adamw.set_share(average.share)
        norm = self._step_whole() if self.settings.zero_stage == 0 else self._step_sharded()
        if not self.was_skipped:
            self.average = average
        return norm

    def module_norms(self) -> dict[str, float]:
        """Norm of the global batch's gradient by trained part, before clipping.

        Call on every rank, after the step's last `backward` and before `step`.
        """
        squares = torch.zeros(len(PARTS), dtype=torch.float64, device=self._launch.device)
        for name, _, _, gradient in self.gradients():
            squares[PARTS.index(part_of(name))] += gradient.float().square().sum()
        if self._launch.world_size > 1 and self.settings.zero_stage > 0:
            torch.distributed.all_reduce(squares)
        held = {part_of(name) for name in self._shapes}
        return {part: float(squares[i].sqrt()) for i, part in enumerate(PARTS) if part in held}

    def gradients(self) -> Iterator[tuple[str, int, int, torch.Tensor]]:
        """Name, start, stop and elements `[start, stop)` of each trained parameter's gradient on this rank.

        Of the global batch, averaged over ranks as they are stepped with; at the time that
        `module_norms` names.
        """
        for name, parameter in trained(self._engine.module):
            held = self._holder.locate(parameter)
            if held is not None:
                yield name, held.start, held.stop, self._holder.gradient(parameter, held)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Compute with the averaged weights of `schedule_free_adamw` inside the block.

        Call on every rank. The weights are put back exactly as they were. With `adamw`, nothing changes.
        """
        if self.settings.optimizer != "schedule_free_adamw":
            yield
            return
        kept = []
        for fragment in self.fragments():
            kept.append(fragment.weight.to("cpu", copy=True))
            fragment.weight.copy_(averaged(fragment.weight, fragment.states["z"]))
        self._carry_masters()
        try:
            yield
        finally:
            for fragment, weight in zip(self.fragments(), kept, strict=True):
                fragment.weight.copy_(weight)
            self._carry_masters()

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
        for index, (name, parameter) in enumerate(trained(self._engine.module)):
            held = self._holder.locate(parameter)
            if held is None:
                continue
            is_shared = self.settings.zero_stage == 0
            yield Fragment(
                name=name,
                shape=self._shapes[name],
                start=held.start,
                stop=held.stop,
                weight=self._holder.master(parameter, held),
                states={key: self._holder.state(parameter, held, key) for key in self._state_keys},
                is_owned=not is_shared or index % self._launch.world_size == self._launch.rank,
            )

    def finish_restore(self, *, adam_step: int, average: WeightAverage | None = None) -> None:
        """After fragments were overwritten: carry masters into the compute weights on all ranks."""
        for state in self._adamw.state.values():
            state["step"] = torch.as_tensor(float(adam_step))
        self.average = average or WeightAverage()
        self._carry_masters()

    @property
    def _state_keys(self) -> tuple[str, ...]:
        return OPTIMIZER_KEYS[self.settings.optimizer]

    @torch.no_grad()
    def _carry_masters(self) -> None:
        match self.settings.zero_stage:
            case 0:
                pass
            case 1 | 2:
                self._engine.optimizer.update_lp_params()
            case _:
                self._refresh_partitions()

    def _step_sharded(self) -> float:
        """DeepSpeed checks the norm over all ranks before it touches anything, and tells afterwards."""
        self._engine.step()
        self.was_skipped = not self._engine.was_step_applied()
        norm = self._engine.get_global_grad_norm()
        return float("nan") if norm is None else float(norm)

    def _step_whole(self) -> float:
        """The same for unsharded fp32 gradients, which DeepSpeed steps with whatever they are.

        It would clip them, too, but keeps the norm to itself.
        """
        limit = self.settings.max_grad_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self._engine.module.parameters(), limit))
        self.was_skipped = not math.isfinite(norm)
        if self.was_skipped:
            self._engine.zero_grad()
        else:
            self._engine.step()
        return norm

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
                for key in self._state_keys:
                    state[key] = torch.zeros_like(master, memory_format=torch.preserve_format)
        link: Callable[[], None] | None = getattr(optimizer, "_lazy_init_hp_params_optimizer_state", None)
        if link is not None:
            link()

    def _refresh_partitions(self) -> None:
        for _, parameter in trained(self._engine.module):
            held = self._holder.locate(parameter)
            if held is not None:
                partition = parameter.ds_tensor.data  # type: ignore[attr-defined]  # set by DeepSpeed
                partition[: held.stop - held.start].copy_(self._holder.master(parameter, held))
        resident = self._engine.optimizer.persistent_parameters
        if resident:
            # small parameters stay gathered between steps; gather them again from the new partitions
            resident[0].partition(resident)
            resident[0].all_gather(resident)


def _rounded_weights(core: nn.Module) -> dict[str, torch.Tensor]:
    """Trained weights that bf16 does not hold exactly: fp32, flat, on the host.

    DeepSpeed casts the module before it makes its masters, which would then begin at rounded values.
    """
    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True).view(-1)
        for name, parameter in trained(core)
        if not torch.equal(parameter.to(torch.bfloat16).to(parameter.dtype), parameter)
    }
