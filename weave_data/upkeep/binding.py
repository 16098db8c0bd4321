"""Which resource a running build waits for, and the remedy in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weave_data.upkeep.run_records import RunRecord

if TYPE_CHECKING:
    from weave_data.upkeep.status import StageStatus

__all__ = ["Binding", "find_binding"]

_WAITING_PARTS = 3  # decoded and not embedded: more than what is in flight anyway


@dataclass(frozen=True)
class Binding:
    """`resource`: what is short (`cores`, `actors`, `store`); `remedy`: what to do about it."""

    resource: str
    remedy: str


def find_binding(run: RunRecord, stages: Sequence[StageStatus], *, now: float) -> Binding | None:
    """Say what a running build waits for.

    Busy seconds decide where the run reports them; else the store does: parts that are decoded and
    wait for their vectors mean that embedding is slower than decoding.

    Args:
        run: The run.
        stages: How far it is.
        now: Seconds since 1970.
    """
    by_name = {stage.stage: stage for stage in stages}
    decode, embed = by_name.get("decode"), by_name.get("embed")
    if decode is None or decode.total is None:
        return None
    if decode.is_done and (embed is None or embed.is_done):
        writing = [stage for stage in stages if stage.stage.startswith("shards of ") and not stage.is_done]
        if not writing:
            return None
        return Binding("store", "materialising: ranged reads bound it; add nodes, or cores for more tasks")
    if embed is None:
        return Binding("cores", "decode-bound: nothing else runs; add cores (execution.num_cpus, Ray nodes)")
    busy = {name: _busy_ratio(run.progress.get(name, {}), now) for name in ("decode", "embed")}
    if busy["decode"] is not None and busy["embed"] is not None:
        return _from_busy(busy["decode"], busy["embed"], run.progress)
    waiting = decode.done - embed.done
    if waiting > _WAITING_PARTS:
        return Binding(
            "actors",
            f"embed-bound: {waiting} decoded parts wait for their vectors; add GPUs (execution.gpus)",
        )
    return Binding(
        "cores",
        "decode-bound: vectors keep up with decoding; add cores (execution.num_cpus, Ray nodes)",
    )


def _busy_ratio(stage: Mapping[str, Any], now: float) -> float | None:
    """Share of the workers' time that was work, at most 1."""
    elapsed = now - stage.get("began", now)
    if "busy_seconds" not in stage or elapsed <= 0:
        return None
    return min(1.0, stage["busy_seconds"] / (stage["workers"] * elapsed))


def _from_busy(decode: float, embed: float, progress: Mapping[str, Any]) -> Binding:
    if decode >= embed:
        cores = progress["decode"]["workers"]
        more = math.ceil(cores * (1 / max(embed, 0.01) - 1))
        return Binding(
            "cores",
            f"decode-bound: embedding actors idle {1 - embed:.0%}; {more} more cores would keep them busy "
            "(execution.num_cpus, Ray nodes)",
        )
    actors = progress["embed"]["workers"]
    more = math.ceil(actors * (1 / max(decode, 0.01) - 1))
    return Binding(
        "actors",
        f"embed-bound: decoders idle {1 - decode:.0%}; {more} more actors would keep up (execution.gpus)",
    )
