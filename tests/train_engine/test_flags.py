"""Flags as VideoWeave's users type them."""

from __future__ import annotations

import shlex

import pytest

from weave_data.errors import ConfigError
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags

MANIFEST = ["--dataset.manifest", "out/l4/manifest.json"]

README_VIDEO = shlex.split(
    """--dataset.type "webvid" --model.type "one-stage+7b" --model.model_id "videoweave-demo"
    --model.llm_backbone_id "phi-3-instruct-4b" --model.vision_backbone_id "video-clip-vit-b"
    --model.image_resize_strategy "letterbox" --model.num_frames 4 --model.finetune_global_batch_size 1
    --model.finetune_per_device_batch_size 1 --wandb_entity "me" --wandb_project "videoweave" """
)
README_LLAVA = shlex.split(
    """--dataset.type "video-llava-v15" --model.type "one-stage+7b"
    --model.llm_backbone_id "mistral-v0.2-7b-instruct" --model.vision_backbone_id "video-clip-vit-l-336px"
    --model.image_resize_strategy "letterbox" --model.num_frames 8 --wandb_entity "me"
    --wandb_project "videoweave" """
)


def load(arguments: list[str]) -> PretrainConfig:
    return load_pretrain_config(parse_flags(arguments, model=PretrainConfig))


def problems(arguments: list[str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(arguments)
    return caught.value.problems


@pytest.mark.parametrize("arguments", [README_VIDEO, README_LLAVA])
def test_every_flag_of_the_readme_examples_is_known_and_what_has_no_effect_says_so(arguments) -> None:
    found = problems(arguments)
    assert {problem.split(":")[0] for problem in found} == {"wandb_entity", "wandb_project"}
    assert not any("unknown" in problem for problem in found)


@pytest.mark.parametrize("arguments", [README_VIDEO, README_LLAVA])
def test_readme_examples_train_on_woven_data_once_the_trackers_are_left_out(arguments) -> None:
    kept = arguments[: arguments.index("--wandb_entity")]
    config = load([*kept, *MANIFEST])
    assert config.model.arch_specifier == "no-align+gelu-mlp"
    assert config.model.vision_backbone_id.startswith("video-clip-vit-")


def test_both_ways_to_write_a_flag_mean_the_same() -> None:
    words = load(
        [*MANIFEST, "--model.type", "tiny", "--max_steps", "5", "--model.finetune_learning_rate", "1e-4"]
    )
    signs = load(["--dataset.manifest=out/l4/manifest.json", "--model.type=tiny", "--max_steps=5"])
    assert words.model.finetune_learning_rate == 1e-4
    assert words.max_steps == signs.max_steps == 5
    assert words.dataset == signs.dataset


def test_a_string_setting_keeps_what_looks_like_a_number() -> None:
    config = load([*MANIFEST, "--model.type", "tiny", "--run_id", "2024", "--trackers", "jsonl"])
    assert config.run_id == "2024"
    assert config.trackers == ["jsonl"]


def test_a_whole_number_is_a_rate_and_a_broken_number_is_no_count() -> None:
    assert (
        load([*MANIFEST, "--model.type", "tiny", "--model.finetune_weight_decay", "0"]).hyper.weight_decay
        == 0.0
    )
    (problem,) = problems([*MANIFEST, "--model.type", "tiny", "--max_steps", "1.5"])
    assert problem.startswith("max_steps: ")


def test_a_stray_word_and_an_unknown_flag_are_errors_with_the_nearest_name() -> None:
    assert "expected a flag" in problems(["tiny"])[0]
    (problem,) = problems([*MANIFEST, "--model.type", "tiny", "--model.finetune_epoch", "2"])
    assert "did you mean 'finetune_epochs'" in problem


def test_an_unknown_model_names_the_nearest() -> None:
    assert "did you mean 'tiny'" in problems([*MANIFEST, "--model.type", "tinny"])[0]


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        (["--pretrained_checkpoint", "a.pt"], "pretrained_checkpoint"),
        (["--val_max_rows", "5"], "val_max_rows"),
        (["--dataset.dataset_root_dir", "data"], "dataset.dataset_root_dir"),
        (["--model.rope_scaling_type", "yarn"], "model.rope_scaling_type"),
        (["--model.repo_id", "a/b"], "model.repo_id"),
        (["--wandb_project", "looms"], "wandb_project"),
    ],
)
def test_a_flag_without_effect_is_refused_when_it_is_set(flags, path) -> None:
    (problem,) = problems([*MANIFEST, "--model.type", "tiny", *flags])
    assert problem.startswith(f"{path}: ")


@pytest.mark.parametrize("flags", [["--model.repo_id", "null"], ["--dry_run", "false"]])
def test_a_flag_without_effect_may_repeat_its_default(flags) -> None:
    load([*MANIFEST, "--model.type", "tiny", *flags])


def test_contradictions_are_reported_together() -> None:
    zero = ["--zero_stage", "2", "--deepspeed", "a.json"]
    steps = ["--max_steps", "3", "--model.finetune_max_steps", "4"]
    found = problems([*MANIFEST, "--model.type", "tiny", *zero, *steps])
    assert {problem.split(":")[0] for problem in found} == {"deepspeed", "max_steps"}


def test_fewer_steps_than_a_preset_takes_may_be_asked_for() -> None:
    config = load([*MANIFEST, "--model.type", "train-1.25-epochs+7b", "--max_steps", "3"])
    assert config.hyper.max_steps == 3


def test_a_run_that_may_never_go_on_has_no_restarts() -> None:
    ray = [*MANIFEST, "--model.type", "tiny", "--launcher", "ray", "--num_ranks", "2"]
    (problem,) = problems([*ray, "--max_restarts", "2", "--resume", "never"])
    assert problem.startswith("resume: never, but max_restarts")


def test_a_hang_is_named_before_a_collective_gives_up() -> None:
    flags = [*MANIFEST, "--model.type", "tiny", "--watch.collective_timeout_s", "300"]
    (problem,) = problems(flags)
    assert problem.startswith("watch.collective_timeout_s: 300 must be above watch.step_timeout_s, 1800")
    flags += ["--watch.step_timeout_s", "120"]
    assert load(flags).watch.resolved_load_timeout_s == 250
    (problem,) = problems([*flags, "--watch.load_timeout_s", "300"])
    assert problem.startswith("watch.collective_timeout_s: 300 must be above watch.load_timeout_s, 300")


def test_zero_0_means_fp32_and_strategies_name_their_stage() -> None:
    tiny = [*MANIFEST, "--model.type", "tiny"]
    assert load(tiny).resolved_zero_stage == 2
    assert load([*tiny, "--model.finetune_train_strategy", "fsdp-full-shard"]).resolved_zero_stage == 3
    (problem,) = problems([*tiny, "--zero_stage", "0", "--model.enable_mixed_precision_training", "true"])
    assert "fp32 only" in problem


def test_run_ids_follow_videoweave() -> None:
    tiny = [*MANIFEST, "--model.type", "tiny"]
    assert load(tiny).resolved_run_id("l4") == "l4+tiny+stage-finetune+x7"
    assert load([*tiny, "--dataset.type", "llava-v15"]).resolved_run_id("l4") == "tiny+stage-finetune+x7"
    assert load([*tiny, "--run_id", "a"]).resolved_run_id("l4") == "a"


def test_each_stage_is_taken_and_align_wants_a_model_of_two_stages() -> None:
    tiny = [*MANIFEST, "--model.type", "tiny"]
    (problem,) = problems([*tiny, "--stage", "align"])
    assert "--model.arch_specifier gelu-mlp" in problem
    align = load([*tiny, "--stage", "align", "--model.arch_specifier", "gelu-mlp"])
    assert align.hyper.learning_rate == align.model.align_learning_rate
    full = load([*tiny, "--stage", "full-finetune"])
    assert full.hyper.learning_rate == full.model.finetune_learning_rate


def test_an_aligned_projector_is_named_where_a_stage_takes_one() -> None:
    two_stage = [*MANIFEST, "--model.type", "tiny", "--model.arch_specifier", "gelu-mlp"]
    named = ["--pretrained_checkpoint", "runs/aligned"]
    assert load([*two_stage, *named]).pretrained_checkpoint == "runs/aligned"
    (problem,) = problems([*two_stage, *named, "--stage", "align"])
    assert "has no effect in stage align" in problem
    (problem,) = problems([*MANIFEST, "--model.type", "tiny", *named])
    assert "give --model.init_from_model" in problem
    (problem,) = problems([*two_stage, *named, "--model.init_from_model", "runs/other"])
    assert "contradicts model.init_from_model" in problem


def test_one_command_may_set_both_stages() -> None:
    both = [*MANIFEST, "--model.type", "tiny", "--model.align_epochs", "2", "--model.finetune_epochs", "3"]
    assert load(both).hyper.epochs == 3
