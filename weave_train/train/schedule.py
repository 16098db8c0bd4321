"""Learning rates by step."""

from __future__ import annotations

import math
from typing import assert_never

from weave_train.config import ScheduleId

__all__ = ["learning_rate_at"]


def learning_rate_at(
    step: int, *, schedule: ScheduleId, peak: float, num_steps: int, warmup_ratio: float
) -> float:
    """Learning rate of an optimizer step.

    Args:
        step: Counted from 0.
        schedule: Shape after the warm-up. The two decays end at 0; a schedule-free optimizer averages
            its weights instead and keeps the rate.
        peak: Reached at the end of the warm-up.
        num_steps: Of the whole run.
        warmup_ratio: Share of the steps, rounded down, that rises linearly.

    Source:
        VideoWeave's `linear-warmup+cosine-decay`. Differs: its very first step has rate 0, which
        would be a step that learns nothing; ours has `peak / warmup_steps`.
    """
    warmup = int(num_steps * warmup_ratio)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
    match schedule:
        case "linear-warmup+cosine-decay":
            return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
        case "linear-warmup+linear-decay":
            return peak * (1.0 - progress)
        case "constant" | "schedule_free_adamw":
            return peak
        case _:
            assert_never(schedule)
