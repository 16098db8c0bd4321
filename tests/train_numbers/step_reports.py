"""Reports of steps that never were."""

from __future__ import annotations

from typing import Any

from weave_train.numbers import StepReport


def make_report(step: int, **values: Any) -> StepReport:
    """A plausible report; `values` replace fields."""
    fields: dict[str, Any] = {
        "step": step,
        "num_steps": 10,
        "epoch": 0,
        "loss": 2.0,
        "learning_rate": 1e-3,
        "grad_norm": 0.5,
        "step_seconds": 0.25,
        "data_wait_seconds": 0.03,
        "rows": 8,
        "tokens": 400,
        "supervised_tokens": 100,
        "ledger": "ab",
    }
    return StepReport(**{**fields, **values})
