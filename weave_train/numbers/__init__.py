"""What a run reports about itself.

flops, peaks, memory -> step_report -> metrics (metrics.jsonl), wandb_tracker, loss_curve, progress
                                       `- all of them opened by trackers
"""

from weave_train.numbers.flops import Flops, FlopsModel, flops_model
from weave_train.numbers.hooks import Hook
from weave_train.numbers.loss_curve import LossCurve
from weave_train.numbers.memory import memory_bytes
from weave_train.numbers.metrics import JsonlTracker, last_loss, read_metrics
from weave_train.numbers.peaks import device_peak, peak_flops, utilization
from weave_train.numbers.progress import ProgressLine
from weave_train.numbers.step_report import StepReport, ValidationReport
from weave_train.numbers.trackers import open_trackers
from weave_train.numbers.wandb_tracker import WandbTracker

__all__ = [
    "Flops",
    "FlopsModel",
    "Hook",
    "JsonlTracker",
    "LossCurve",
    "ProgressLine",
    "StepReport",
    "ValidationReport",
    "WandbTracker",
    "device_peak",
    "flops_model",
    "last_loss",
    "memory_bytes",
    "open_trackers",
    "peak_flops",
    "read_metrics",
    "utilization",
]
