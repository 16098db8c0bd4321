"""Measures each step of a run: work by the FLOP convention, reading, waiting, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weave_train.config import PretrainConfig
from weave_train.feed import FeedStats
from weave_train.launch import Launch
from weave_train.models.model import VideoLanguageModel
from weave_train.numbers import Flops, FlopsModel, device_peak, flops_model, memory_bytes, utilization
from weave_train.rows.batch import Batch
from weave_train.train.totals import BatchTotals

__all__ = ["StepMeter"]


@dataclass(frozen=True)
class StepMeter:
    """What does not change from step to step.

    Attributes:
        flops: Of the model in its stage.
        peak: FLOP/s of this rank's device; nan where it is not known.
        launch: World size and device.
    """

    flops: FlopsModel
    peak: float
    launch: Launch

    @classmethod
    def over(cls, vlm: VideoLanguageModel, *, config: PretrainConfig, launch: Launch) -> StepMeter:
        """Meter of a run, after its stage froze what it does not train."""
        return cls(
            flops=flops_model(vlm, recompute=config.model.enable_gradient_checkpointing),
            peak=device_peak(launch.device, precision=config.precision),
            launch=launch,
        )

    def flops_of(self, batches: Sequence[Batch]) -> Flops:
        """FLOPs of this rank's micro-steps; before they go to the device."""
        return sum((self.flops.of_batch(batch) for batch in batches), Flops())

    def fields(self, totals: BatchTotals, *, step_seconds: float, stats: FeedStats) -> dict[str, Any]:
        """What a `StepReport` says about a step's work.

        Args:
            totals: Of all ranks, `flops` among them.
            step_seconds: Wall time of the step.
            stats: Of this rank's feed since the step before.
        """
        work = totals.flops
        return {
            "rows": totals.rows,
            "tokens": totals.tokens,
            "supervised_tokens": totals.supervised_tokens,
            "visual_tokens": totals.visual_tokens,
            "padded_tokens": totals.padded_tokens,
            "model_flops": work.model,
            "hardware_flops": work.hardware,
            "mfu": self._share(work.model, step_seconds),
            "hfu": self._share(work.hardware, step_seconds),
            "memory_bytes": memory_bytes(self.launch.device),
            "read_seconds": stats.read_seconds,
            "read_bytes": stats.read_bytes,
            "encode_seconds": stats.encode_seconds,
        }

    def _share(self, flops: float, seconds: float) -> float:
        return utilization(flops, seconds=seconds, world_size=self.launch.world_size, peak=self.peak)
