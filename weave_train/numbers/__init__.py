"""What a run reports about itself.

flops, peaks, memory -> step_report -> hooks
"""

from weave_train.numbers.flops import Flops, FlopsModel, flops_model
from weave_train.numbers.memory import memory_bytes
from weave_train.numbers.peaks import device_peak, peak_flops, utilization
from weave_train.numbers.step_report import StepReport, ValidationReport

__all__ = [
    "Flops",
    "FlopsModel",
    "StepReport",
    "ValidationReport",
    "device_peak",
    "flops_model",
    "memory_bytes",
    "peak_flops",
    "utilization",
]
