"""What `weave-train pretrain` accepts: VideoWeave's flags, and ours beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from weave_data.config import StrictModel
from weave_train.config.sections import (
    CheckpointConfig,
    Count,
    DatasetConfig,
    FeedConfig,
    LrScaleConfig,
    ModelConfig,
    StageConfig,
    StageId,
    WatchConfig,
)
from weave_train.config.trainable import LoraConfig, TrainableRule

__all__ = ["PretrainConfig"]

_STRATEGY_STAGE = {"fsdp-shard-grad-op": 2, "fsdp-full-shard": 3}


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class PretrainConfig(StrictModel):
    """Everything `weave-train pretrain` needs.

    `num_ranks` starts that many ranks, as processes of this machine or, with `launcher: ray`, as workers
    of Ray Train, which starts them anew `max_restarts` times; null: this process is a rank, as its
    environment says. `num_threads`: of torch on a rank; null: OMP_NUM_THREADS unless the launcher set it,
    else the machine's cores divided by all ranks (with GPUs, by its own). `network_interface`: over which
    ranks meet; null: the one that leads to the first rank's host. `zero_stage` null follows the stage's
    `train_strategy` (`fsdp-shard-grad-op` is ZeRO-2, `fsdp-full-shard` ZeRO-3). `resume: auto` continues the
    newest complete checkpoint of the run directory, `never` refuses a run directory that has one, a path is a
    step directory.
    `save_every_steps` null saves at the end of each epoch, or of the run when `max_steps` is set.
    `stop_after_steps` stops as if interrupted, with a checkpoint, after that many steps of this
    process; `window_groups` row groups of a lane are shuffled together. `order: legacy` is VideoWeave's
    own sampler, whose whole order is held in memory. `master_weights: bf16` trains in pure bf16, as
    VideoWeave did: weights and optimizer states are rounded. `val_dataset` is validated on, if it is
    given (`--val_dataset.split val` alone: of the training data): every `val_every_steps`, null at the end
    of each epoch, and at the end of the run, on its first `val_max_rows` rows or all.
    `trainable`: rules by parameter name on top of the stage, `[{match: GLOB, freeze: true}, {match: GLOB,
    lr_scale: 0.1}]`, the first match wins.
    `module_norms_every`: gradient norms by module are worked out each so many steps.
    """

    model: ModelConfig
    dataset: DatasetConfig = DatasetConfig()
    val_dataset: DatasetConfig = DatasetConfig()
    stage: StageId = "finetune"
    pretrained_checkpoint: str | None = None
    run_id: str | None = None
    run_root_dir: str = "runs"
    seed: Annotated[int, Field(ge=0)] = 7
    dry_run: bool = False
    hf_token: str = ".hf_token"  # noqa: S105  name of a file
    trackers: Annotated[list[Literal["jsonl", "wandb"]], BeforeValidator(_one_or_more)] = Field(
        default=["jsonl"]
    )
    wandb_project: str = "prismatic"
    wandb_entity: str | None = None

    launcher: Literal["local", "ray"] = "local"
    num_ranks: Count | None = None
    max_restarts: Annotated[int, Field(ge=0)] = 0
    num_threads: Count | None = None
    network_interface: str | None = None
    zero_stage: Annotated[int, Field(ge=0, le=3)] | None = None
    deepspeed: str | None = None
    max_steps: Count | None = None
    resume: str = "auto"
    stop_after_steps: Count | None = None
    save_every_steps: Count | None = None
    num_workers: Annotated[int, Field(ge=0, le=64)] = 2
    prefetch_steps: Count = 2
    window_groups: Count = 4
    order: Literal["lanes", "legacy"] = "lanes"
    master_weights: Literal["fp32", "bf16"] = "fp32"
    lr_scale: LrScaleConfig = LrScaleConfig()
    trainable: list[TrainableRule] = Field(default=[])
    lora: LoraConfig = LoraConfig()
    feed: FeedConfig = FeedConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    watch: WatchConfig = WatchConfig()
    val_every_steps: Count | None = None
    val_max_rows: Count | None = None
    module_norms_every: Count = 10

    @property
    def hyper(self) -> StageConfig:
        """Hyper-parameters of the stage that runs, `--max_steps` applied."""
        prefix = "align_" if self.stage == "align" else "finetune_"
        values = {name: getattr(self.model, prefix + name) for name in StageConfig.model_fields}
        if self.max_steps is not None:
            values["max_steps"] = self.max_steps
        return StageConfig(**values)

    @property
    def save_every(self) -> int | None:
        """`save_every_steps`, or the paper's `model.ckpt_interval`."""
        return self.save_every_steps or self.model.ckpt_interval

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """Precision of compute; master weights and optimizer states are always fp32."""
        return "bf16" if self.model.enable_mixed_precision_training else "fp32"

    @property
    def resolved_zero_stage(self) -> int:
        """ZeRO stage when no DeepSpeed file is given."""
        return self.zero_stage if self.zero_stage is not None else _STRATEGY_STAGE[self.hyper.train_strategy]

    @property
    def validation_dataset(self) -> DatasetConfig | None:
        """Held-out rows, if any; `--val_dataset.split` alone names another split of the training rows."""
        named = self.val_dataset
        if named == DatasetConfig():
            return None
        if named.manifest is None and named.type is None and named.mixture is None:
            return named.model_copy(update={"manifest": self.dataset.manifest})
        return named

    def resolved_run_id(self, recipe: str) -> str:
        """`--run_id`, or VideoWeave's `{dataset}+{model}+stage-{stage}+x{seed}`.

        Args:
            recipe: Name of the woven recipe, the data set's id unless one is given.
        """
        if self.run_id is not None:
            return self.run_id
        dataset_id = self.dataset.dataset_id or self.dataset.type or recipe
        name = f"{self.model.model_id}+stage-{self.stage}+x{self.seed}"
        return name if dataset_id == "llava-v15" else f"{dataset_id}+{name}"
