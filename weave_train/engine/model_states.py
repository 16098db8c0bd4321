"""Bytes of a rank's model states, from the shapes of the parameters alone.

    N trained, F frozen parameters of the core; R ranks; w bytes of a compute weight, m of a master

    ZeRO            weights      masters     AdamW        gradients
    0  fp32         4 (N + F)    -           8 N          4 N
    1  fp32         4 (N + F)    4 N / R     8 N / R      4 N / R
    1  bf16         2 (N + F)    4 N / R     8 N / R      4 N + 2 N    fp32 sums beside bf16 ones
    2               w (N + F)    m N / R     2 m N / R    m N / R
    3               w (N + F)/R  m N / R     2 m N / R    m N / R      and what stays gathered

Pure bf16 (m = 2) has ZeRO 1 like 2. Beside them a rank holds buffers: the bucket in which gradients are
reduced, and in ZeRO 3 the weights gathered for use. A frozen tower is none of the core and not counted here.

Source:
    ZeRO (arXiv 1910.02054), section 3, for the partitions. Differs: what DeepSpeed really allocates, by
    counting a run's tensors (the tests do it again).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from weave_train.engine.deepspeed_config import EngineSettings, deepspeed_config

__all__ = ["ModelStates", "model_states"]

_FP32_BYTES = 4
_PERSISTENT_ELEMENTS = 100_000  # DeepSpeed's own default: smaller parameters stay gathered


@dataclass(frozen=True)
class ModelStates:
    """Bytes on one rank, wherever they lie.

    Attributes:
        weights: Compute weights of the core.
        masters: fp32 (or bf16) weights that AdamW updates.
        optimizer: AdamW's two states.
        gradients: Kept from backward to the step.
        bucket: Of the reduction; ZeRO 3 keeps it, the others have it in backward.
        gathered: Most that ZeRO 3 gathers for use at once.
        update: What AdamW takes for a moment beside its states.
        on_host: Of all these, those that offloading keeps in host memory.
    """

    weights: int
    masters: int
    optimizer: int
    gradients: int
    bucket: int
    gathered: int
    update: int
    on_host: int

    @property
    def kept(self) -> int:
        """From the end of backward to the step, buffers left out."""
        return self.weights + self.masters + self.optimizer + self.gradients


def model_states(core: nn.Module, settings: EngineSettings, *, world_size: int) -> ModelStates:
    """Count a rank's bytes.

    Args:
        core: With its stage applied, before an engine takes it; on any device, also meta.
        settings: Of the engine.
        world_size: R.
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in core.parameters()]
    trained = sum(size for size, is_trained in sizes if is_trained)
    total = sum(size for size, _ in sizes)
    section = deepspeed_config(settings, trained_parameters=trained)["zero_optimization"]
    stage = settings.zero_stage
    weight = 2 if settings.precision == "bf16" else _FP32_BYTES
    master = 2 if settings.master_weights == "bf16" else _FP32_BYTES
    reduced = _FP32_BYTES if settings.reduce_in_full_precision or weight == _FP32_BYTES else weight
    share = -(-trained // world_size)
    bucket = min(int(section.get("reduce_bucket_size", 0)), trained) * reduced
    if stage == 0:
        return ModelStates(
            weights=total * weight,
            masters=0,
            optimizer=2 * trained * _FP32_BYTES,
            gradients=trained * _FP32_BYTES,
            bucket=0,
            gathered=0,
            update=trained * _FP32_BYTES,
            on_host=0,
        )
    sums_whole = stage == 1 and weight == 2 and master == _FP32_BYTES
    optimizer = 2 * share * master
    gradients = trained * (_FP32_BYTES + weight) if sums_whole else share * master
    if stage < 3:
        copies = 2 if section.get("overlap_comm") else 1
        return ModelStates(
            weights=total * weight,
            masters=share * master,
            optimizer=optimizer,
            gradients=gradients,
            bucket=0 if sums_whole else bucket * copies,
            gathered=0,
            update=share * master,
            on_host=0,
        )
    return _partitioned(
        [size for size, _ in sizes],
        section=section,
        world_size=world_size,
        weight=weight,
        states=ModelStates(
            weights=0,
            masters=share * master,
            optimizer=optimizer,
            gradients=gradients,
            bucket=bucket,
            gathered=0,
            update=share * master,
            on_host=0,
        ),
    )


def _partitioned(
    sizes: list[int], *, section: Mapping[str, Any], world_size: int, weight: int, states: ModelStates
) -> ModelStates:
    """ZeRO 3: every parameter is cut in R, and small ones are also kept whole."""
    threshold = int(section.get("stage3_param_persistence_threshold", _PERSISTENT_ELEMENTS))
    cut = sum(-(-size // world_size) for size in sizes) * weight
    resident = sum(size for size in sizes if size <= threshold) * weight
    gathered = min(sum(sizes), int(section.get("stage3_max_live_parameters", 1_000_000_000))) * weight
    offloads_states = _is_on_host(section, "offload_optimizer")
    # an offloaded update reads gradients from a copy of its own
    gradients = states.gradients + (states.masters if offloads_states else 0)
    on_host = states.masters + states.optimizer + gradients + states.update if offloads_states else 0
    on_host += cut if _is_on_host(section, "offload_param") else 0
    return ModelStates(
        weights=cut + resident,
        masters=states.masters,
        optimizer=states.optimizer,
        gradients=gradients,
        bucket=states.bucket,
        gathered=gathered,
        update=states.update,
        on_host=on_host,
    )


def _is_on_host(section: Mapping[str, Any], name: str) -> bool:
    return (section.get(name) or {}).get("device", "none") != "none"
