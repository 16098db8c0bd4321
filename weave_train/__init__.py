"""The trainer that runs what `weave_data` compiles.

    config, presets, flags                 what `weave-train pretrain` accepts
    order -> feed                          which rows, in which order, read ahead
    prompt, tokenizer, pixels -> batch     rows become ids, labels and uint8 frames
    vision, projector, language -> model   frozen tower beside a trained core
    objective -> engine                    exact loss of a global batch, ZeRO 0-3
    pieces -> checkpoint -> resume         state by name, free of world size and stage
    prepare -> loop, hooks                 a run from its configuration to its last step
    generate, video, loading               a stored run describes a video
    launch, plugin, cli                    how a run is started

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
