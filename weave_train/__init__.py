"""The trainer that runs what `weave_data` compiles.

    config                       what `weave-train pretrain` accepts, presets, the model's settings
    order -> feed                which rows, in which order, read ahead
    towers, rows                 woven rows become ids, labels and uint8 frames, then batches
    models                       frozen tower beside a trained core; how it answers
    engine                       ZeRO 0-3 around the trained part
    checkpoint, loading          state by name, free of world size and stage; a stored run comes back
    numbers                      what a run reports
    train                        a run from its configuration to its last step
    launch, plugin, cli          how a run is started

`from weave_train import load` rebuilds a run; importing the package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weave_train.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from weave_train.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
