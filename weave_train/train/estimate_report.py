"""What an estimate says, in numbers and in lines for people."""

from __future__ import annotations

from dataclasses import dataclass

from weave_train.engine.model_states import ModelStates
from weave_train.numbers.activations import Activations, MicroBatchShape

__all__ = ["Estimate", "Speed"]


@dataclass(frozen=True)
class Speed:
    """What hours are worked out from.

    Attributes:
        gpu: Name of a device in `numbers.peaks`, used at `mfu` of its peak; None: no hours.
        mfu: Model FLOPs utilization.
        tokens_per_second: Measured, of all ranks together; wins.
    """

    gpu: str | None = None
    mfu: float = 0.3
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        world_size: Ranks.
        trained: Parameters with a gradient.
        tower_bytes: Of a frozen tower, whole on every rank; 0 where it is trained.
        loaded_bytes: Of the model as it is loaded, whole and in fp32 on every rank, before it is sharded.
        states: Of the core, on one rank.
        shape: Of the heaviest micro-batch.
        kept: Activations of it.
        is_indexed: Lengths are those of all rows; else of a sample.
        rows: Whose lengths are known.
        num_steps: Of the run.
        tokens: Of the run, visual and text.
        flops: Model FLOPs of the run.
        seconds: Of the run; None where no speed is known.
        speed: They are worked out from.
        checkpoint_bytes: Of one checkpoint.
        snapshot_bytes: Of it, what a rank copies into host memory to save; held from the start.
        frozen_bytes: Stored once.
        num_checkpoints: That are kept at the end.
    """

    world_size: int
    trained: int
    tower_bytes: int
    loaded_bytes: int
    states: ModelStates
    shape: MicroBatchShape
    kept: Activations
    is_indexed: bool
    rows: int
    num_steps: int
    tokens: float
    flops: float
    seconds: float | None
    speed: Speed
    checkpoint_bytes: int
    snapshot_bytes: int
    frozen_bytes: int
    num_checkpoints: int

    @property
    def device_states(self) -> int:
        """Model states on the device of one rank, frozen tower included."""
        return self.states.kept + self.tower_bytes - self._kept_on_host

    @property
    def peak_bytes(self) -> int:
        """Most the device of one rank holds: with the model loaded, in backward, or while AdamW updates."""
        update = (
            0 if self.states.on_host and self._kept_on_host >= self.states.masters else self.states.update
        )
        passing = self.states.bucket + self.states.gathered + self.kept.total
        return max(self.loaded_bytes, self.device_states + max(passing, update))

    @property
    def host_bytes(self) -> int:
        """Host memory of one rank: offloaded states, and the snapshot that is saved from."""
        return self.states.on_host + self.snapshot_bytes

    @property
    def _kept_on_host(self) -> int:
        return min(self.states.on_host, self.states.kept)

    def lines(self) -> list[str]:
        """For people."""
        states, kept = self.states, self.kept
        parts = {
            "weights": states.weights,
            "masters": states.masters,
            "AdamW": states.optimizer,
            "gradients": states.gradients,
            "frozen tower": self.tower_bytes,
        }
        passing = {
            "reduction": states.bucket,
            "gathered weights": states.gathered,
            "AdamW's update": states.update,
            "the model as loaded": self.loaded_bytes,
        }
        acts = {"tower": kept.tower, "projector": kept.projector, "layers": kept.layers, "head": kept.head}
        shape, host = self.shape, _gib(self.host_bytes)
        micro = f"{shape.rows} rows of {shape.tokens} tokens, {shape.frames} frames"
        origin = (
            "all rows, from the token index" if self.is_indexed else "a sample; weave-train index counts all"
        )
        stored = f"{_gib(self.checkpoint_bytes)} a checkpoint, {self.num_checkpoints} kept, "
        stored += f"{_gib(self.frozen_bytes)} of frozen weights once"
        return [
            f"trained      {self.trained:,} parameters on {self.world_size} ranks",
            f"states       {_gib(states.kept + self.tower_bytes)} a rank: {_listed(parts)}",
            f"buffers      {_listed(passing)}",
            f"activations  {_gib(kept.total)}: {_listed(acts)} ({micro})",
            f"peak         {_gib(self.peak_bytes)} on the device, {host} on the host, a rank",
            f"lengths      {self.rows:,} rows: {origin}",
            f"run          {self.num_steps:,} steps, {self.tokens:,.0f} tokens, {self.flops:.3g} FLOPs",
            f"time         {self._time()}",
            f"storage      {stored}",
        ]

    def _time(self) -> str:
        if self.seconds is None:
            return "not known: give --gpu NAME, or --tokens_per_second as measured"
        hours = f"{self.seconds / 3600:,.2f} h, {self.seconds / 3600 * self.world_size:,.1f} GPU hours"
        if self.speed.tokens_per_second is not None:
            return f"{hours} at {self.speed.tokens_per_second:,.0f} tokens/s"
        return f"{hours} on {self.speed.gpu} at {self.speed.mfu:.0%} MFU (assumed, not measured)"


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**28 else f"{size / 2**20:,.2f} MiB"


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {_gib(size)}" for name, size in sizes.items() if size) or "none"
