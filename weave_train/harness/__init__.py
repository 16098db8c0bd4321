"""The same model inside lmms-eval, which finds it by an entry point: `lmms-eval --model weave_train`.

    lmms-eval's request --visuals--> frames
                        --generation_kwargs--> AnswerOptions
    model       prompts, answers and likelihoods through the code that `weave-train evaluate` uses

lmms-eval is no dependency: its pins contradict ours. Nothing here is imported but by it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["manifest"]


def manifest() -> Any:
    """What the entry point `weave_train` of `lmms_eval.models` gives: a name, and where its class is."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("weave_train", simple_class_path="weave_train.harness.model.WeaveTrain")
