"""The trainer that runs what `weave_data` compiles.

    config                       what `weave-train pretrain` accepts, presets, the model's settings
    order -> feed                which rows, in which order, read ahead
    towers, rows                 woven rows become ids, labels and uint8 frames, then batches
    models                       frozen tower beside a trained core; how it answers
    engine                       ZeRO 0-3 around the trained part
    checkpoint, loading          state by name, free of world size and stage; a stored run comes back
    numbers                      what a run reports
    train                        a run from its configuration to its last step
    doctor                       what a run needs, looked at before it on every host
    exports                      weights in the forms that other programs load
    evaluate                     how well a stored model answers benchmarks' questions
    harness                      the same model inside lmms-eval
    sweep                        arms times seeds: built once, trained, asked, compared
    chat, serve, commands        asking a stored model on the terminal, over HTTP
    placement, overseer          what a rank sets up on its machine; whom it ends with
    launch, plugin, hosts,
    ray_launch, ray_tasks, cli   how a run is started: here, by Ray, on several hosts

`from weave_train import load` rebuilds a run; `available_model_ids`, `available_model_ids_and_names` and
`get_model_description` say what others have published. Importing the package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weave_train.config.published import (
        available_model_ids,
        available_model_ids_and_names,
        get_model_description,
    )
    from weave_train.loading import load

__all__ = ["available_model_ids", "available_model_ids_and_names", "get_model_description", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from weave_train.loading import load

        return load
    if name in __all__:
        from weave_train.config import published

        return getattr(published, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
