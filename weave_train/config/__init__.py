"""What a run is told: VideoWeave's flags and ours beside them, presets by id, the model's settings.

    flags -> presets, sections -> PretrainConfig -> problems     ModelSettings: what a stored run keeps
    published                                                    models that others have trained

No torch is loaded here.
"""

from weave_train.config.flags import parse_flags
from weave_train.config.loading import load_pretrain_config, pretrain_yaml
from weave_train.config.model_settings import ModelSettings
from weave_train.config.presets import DATASET_IDS, DEFAULT_MODEL_TYPE, MODEL_PRESETS, model_preset, nearest
from weave_train.config.pretrain import PretrainConfig
from weave_train.config.sections import (
    CheckpointConfig,
    DatasetConfig,
    FeedConfig,
    LrScaleConfig,
    MixtureEntry,
    ModelConfig,
    ScheduleId,
    StageConfig,
    StageId,
    WatchConfig,
)
from weave_train.config.trainable import LoraConfig, TrainableRule

__all__ = [
    "DATASET_IDS",
    "DEFAULT_MODEL_TYPE",
    "MODEL_PRESETS",
    "CheckpointConfig",
    "DatasetConfig",
    "FeedConfig",
    "LoraConfig",
    "LrScaleConfig",
    "MixtureEntry",
    "ModelConfig",
    "ModelSettings",
    "PretrainConfig",
    "ScheduleId",
    "StageConfig",
    "StageId",
    "TrainableRule",
    "WatchConfig",
    "load_pretrain_config",
    "model_preset",
    "nearest",
    "parse_flags",
    "pretrain_yaml",
]
