"""The trainer that runs what `weave_data` compiles.

    model_settings                      what a run's model is
    prompt, tokenizer -> batch          rows of a shard become ids, labels and uint8 frames
    pixels
    vision, projector, language, model  frozen tower -> projector -> splice -> causal LM -> loss
    generate, video, loading            a stored run describes a video

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
