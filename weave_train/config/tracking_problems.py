"""Settings of trackers and validation that nothing would honour."""

from __future__ import annotations

import importlib.util

from weave_train.config.dataset_problems import dataset_problems
from weave_train.config.pretrain import PretrainConfig

__all__ = ["tracking_problems"]


def tracking_problems(config: PretrainConfig) -> list[str]:
    """Everything wrong with what a run tells about itself, a line each."""
    return _wandb_problems(config) + _validation_problems(config)


def _wandb_problems(config: PretrainConfig) -> list[str]:
    if "wandb" not in config.trackers:
        return [
            f"{name}: has no effect without --trackers jsonl wandb"
            for name in ("wandb_project", "wandb_entity")
            if getattr(config, name) != PretrainConfig.model_fields[name].default
        ]
    if importlib.util.find_spec("wandb") is None:
        return ["trackers: the package wandb is not installed; pip install 'videoweave[wandb]'"]
    return []


def _validation_problems(config: PretrainConfig) -> list[str]:
    held_out = config.validation_dataset
    if held_out is None:
        return [
            f"{name}: has no effect without --val_dataset.manifest or --val_dataset.split"
            for name in ("val_every_steps", "val_max_rows")
            if getattr(config, name) is not None
        ]
    if held_out.mixture is not None:
        return ["val_dataset.mixture: a run validates on one data set; name its manifest or type"]
    names = ("manifest", "type", "split", "dataset_root_dir", "finetune_stage_components")
    if all(getattr(held_out, name) == getattr(config.dataset, name) for name in names):
        return [
            "val_dataset: the same rows as dataset; name another split (--val_dataset.split val) or manifest"
        ]
    return dataset_problems(held_out, batch_rows=config.hyper.global_batch_size, path="val_dataset")
