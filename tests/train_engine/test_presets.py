"""Each of VideoWeave's model ids has its exact values: a table written from its files, not from ours."""

from __future__ import annotations

import pytest

from weave_data.errors import ConfigError
from weave_train.config import MODEL_PRESETS, ModelConfig, PretrainConfig, load_pretrain_config, model_preset
from weave_train.config.model_presets import (
    OWN_PRESETS,
    UNREGISTERED_PRESETS,
    VIDEOWEAVE_PRESETS,
    WOVEN_CLIPS,
)

BASE = {
    "arch_specifier": "gelu-mlp",
    "vision_backbone_id": "clip-vit-l-336px",
    "llm_backbone_id": "vicuna-v15-7b",
    "image_resize_strategy": "letterbox",
    "llm_max_length": 2048,
    "align_epochs": 1,
    "align_max_steps": None,
    "align_global_batch_size": 256,
    "align_per_device_batch_size": 16,
    "align_learning_rate": 1e-3,
    "align_weight_decay": 0.0,
    "align_max_grad_norm": 1.0,
    "align_lr_scheduler_type": "linear-warmup+cosine-decay",
    "align_warmup_ratio": 0.03,
    "align_train_strategy": "fsdp-shard-grad-op",
    "finetune_epochs": 1,
    "finetune_max_steps": None,
    "finetune_global_batch_size": 128,
    "finetune_per_device_batch_size": 16,
    "finetune_learning_rate": 2e-5,
    "finetune_weight_decay": 0.1,
    "finetune_max_grad_norm": 1.0,
    "finetune_lr_scheduler_type": "linear-warmup+cosine-decay",
    "finetune_warmup_ratio": 0.03,
    "finetune_train_strategy": "fsdp-full-shard",
    "rope_scaling_factor": None,
    "enable_gradient_checkpointing": True,
    "enable_mixed_precision_training": True,
    "reduce_in_full_precision": False,
    "num_frames": 8,
    "init_from_model": None,
    "repo_id": None,
    "ckpt_interval": None,
}

CHANGED_ON_PURPOSE = {"reduce_in_full_precision": True}
"""Gradients are summed in fp32; see docs/from-videoweave.md."""

ARCHS = {"2s": "gelu-mlp", "1s": "no-align+gelu-mlp", "1sF": "no-align+fused-gelu-mlp"}

CHANGES = {"s": "finetune_max_steps", "e": "finetune_epochs"}

VIDEOWEAVE_IDS = """
reproduction-llava-v15+7b            2s  clip-vit-l-336px        vicuna-v15-7b            letterbox
reproduction-llava-v15+13b           2s  clip-vit-l-336px        vicuna-v15-13b           letterbox
one-stage+7b                         1s  clip-vit-l-336px        vicuna-v15-7b            letterbox
one-stage+13b                        1s  clip-vit-l-336px        vicuna-v15-13b           letterbox
full-ft-multi-stage+7b               2s  clip-vit-l-336px        vicuna-v15-7b            letterbox
full-ft-one-stage+7b                 1s  clip-vit-l-336px        vicuna-v15-7b            letterbox
in1k-224px+7b                        1s  in1k-vit-l              vicuna-v15-7b            letterbox
dinov2-224px+7b                      1s  dinov2-vit-l            vicuna-v15-7b            letterbox
clip-224px+7b                        1s  clip-vit-l              vicuna-v15-7b            letterbox
siglip-224px+7b                      1s  siglip-vit-so400m       vicuna-v15-7b            letterbox
clip-336px-resize-crop+7b            1s  clip-vit-l-336px        vicuna-v15-7b            resize-crop
clip-336px-resize-naive+7b           1s  clip-vit-l-336px        vicuna-v15-7b            resize-naive
siglip-384px-letterbox+7b            1s  siglip-vit-so400m-384px vicuna-v15-7b            letterbox
siglip-384px-resize-crop+7b          1s  siglip-vit-so400m-384px vicuna-v15-7b            resize-crop
siglip-384px-resize-naive+7b         1s  siglip-vit-so400m-384px vicuna-v15-7b            resize-naive
dinoclip-336px-letterbox+7b          1sF dinoclip-vit-l-336px    vicuna-v15-7b            letterbox
dinoclip-336px-resize-naive+7b       1sF dinoclip-vit-l-336px    vicuna-v15-7b            resize-naive
dinosiglip-384px-letterbox+7b        1sF dinosiglip-vit-so-384px vicuna-v15-7b            letterbox
dinosiglip-384px-resize-naive+7b     1sF dinosiglip-vit-so-384px vicuna-v15-7b            resize-naive
llama2+7b                            1s  clip-vit-l-336px        llama2-7b-pure           letterbox
llama2+13b                           1s  clip-vit-l-336px        llama2-13b-pure          letterbox
llama2-chat+7b                       1s  clip-vit-l-336px        llama2-7b-chat           letterbox
llama2-chat+13b                      1s  clip-vit-l-336px        llama2-13b-chat          letterbox
llama3-instruct+8b+clip              1s  clip-vit-l-336px        llama3-8b-instruct       letterbox
llama3-instruct+8b+dinosiglip        1s  dinosiglip-vit-so-384px llama3-8b-instruct       letterbox
llama3-instruct+8b+siglip            1s  siglip-vit-so400m-384px llama3-8b-instruct       letterbox
gemma-instruct+2b+clip               1s  clip-vit-l-336px        gemma-2b-instruct        letterbox
gemma-instruct+2b+dinosiglip         1s  dinosiglip-vit-so-384px gemma-2b-instruct        letterbox
gemma-instruct+2b+siglip             1s  siglip-vit-so400m-384px gemma-2b-instruct        letterbox
gemma-instruct+8b+clip               1s  clip-vit-l-336px        gemma-8b-instruct        letterbox
gemma-instruct+8b+dinosiglip         1s  dinosiglip-vit-so-384px gemma-8b-instruct        letterbox
gemma-instruct+8b+siglip             1s  siglip-vit-so400m-384px gemma-8b-instruct        letterbox
mistral-v0.1+7b                      1s  clip-vit-l-336px        mistral-v0.1-7b-pure     letterbox
mistral-instruct-v0.1+7b             1s  clip-vit-l-336px        mistral-v0.1-7b-instruct letterbox
mistral-instruct-v0.2+7b+clip        1s  clip-vit-l-336px        mistral-v0.2-7b-instruct letterbox
mistral-instruct-v0.2+7b+dinosiglip  1s  dinosiglip-vit-so-384px mistral-v0.2-7b-instruct letterbox
mistral-instruct-v0.2+7b+siglip      1s  siglip-vit-so400m-384px mistral-v0.2-7b-instruct letterbox
phi-2+3b                             1s  clip-vit-l-336px        phi-2-3b                 letterbox
phi-3-instruct+4b+clip               1s  clip-vit-l-336px        phi-3-instruct-4b        letterbox
phi-3-instruct+4b+dinosiglip         1s  dinosiglip-vit-so-384px phi-3-instruct-4b        letterbox
phi-3-instruct+4b+siglip             1s  siglip-vit-so400m-384px phi-3-instruct-4b        letterbox
vicuna-no-cotraining+7b              1s  clip-vit-l-336px        vicuna-v15-7b            letterbox
llama2-no-cotraining+7b              1s  clip-vit-l-336px        llama2-7b-pure           letterbox
train-1.25-epochs+7b                 1s  clip-vit-l-336px        vicuna-v15-7b            letterbox    s=6500
train-1.5-epochs+7b                  1s  clip-vit-l-336px        vicuna-v15-7b            letterbox    s=7800
train-2-epochs+7b                    1s  clip-vit-l-336px        vicuna-v15-7b            letterbox    e=2
train-3-epochs+7b                    1s  clip-vit-l-336px        vicuna-v15-7b            letterbox    e=3
llava-lvis4v+7b                      1s  clip-vit-l-336px        vicuna-v15-7b            letterbox
llava-lrv+7b                         1s  clip-vit-l-336px        vicuna-v15-7b            letterbox
llava-lvis4v-lrv+7b                  1s  clip-vit-l-336px        vicuna-v15-7b            letterbox
prism-clip-controlled+7b             1s  clip-vit-l-336px        llama2-7b-pure           resize-naive
prism-clip-controlled+13b            1s  clip-vit-l-336px        llama2-13b-pure          resize-naive
prism-clip+7b                        1s  clip-vit-l-336px        llama2-7b-pure           resize-naive e=2
prism-clip+13b                       1s  clip-vit-l-336px        llama2-13b-pure          resize-naive e=2
prism-siglip-controlled+7b           1s  siglip-vit-so400m-384px llama2-7b-pure           resize-naive
prism-siglip-controlled+13b          1s  siglip-vit-so400m-384px llama2-13b-pure          resize-naive
prism-siglip+7b                      1s  siglip-vit-so400m-384px llama2-7b-pure           resize-naive e=2
prism-siglip+13b                     1s  siglip-vit-so400m-384px llama2-13b-pure          resize-naive e=2
prism-dinosiglip-controlled+7b       1sF dinosiglip-vit-so-384px llama2-7b-pure           resize-naive
prism-dinosiglip-controlled+13b      1sF dinosiglip-vit-so-384px llama2-13b-pure          resize-naive
prism-dinosiglip+7b                  1sF dinosiglip-vit-so-384px llama2-7b-pure           resize-naive e=2
prism-dinosiglip+13b                 1sF dinosiglip-vit-so-384px llama2-13b-pure          resize-naive e=2
prism-dinosiglip-224px-controlled+7b 1sF dinosiglip-vit-so-224px llama2-7b-pure           resize-naive
prism-dinosiglip-224px+7b            1sF dinosiglip-vit-so-224px llama2-7b-pure           resize-naive e=2
"""

UNREGISTERED_IDS = """
llama3+8b+clip                       1s  clip-vit-l-336px        llama3-8b-pure           letterbox
llama3+8b+dinosiglip                 1s  dinosiglip-vit-so-384px llama3-8b-pure           letterbox
llama3+8b+siglip                     1s  siglip-vit-so400m-384px llama3-8b-pure           letterbox
"""


def table(text: str) -> dict[str, dict]:
    """Every field of every id."""
    found = {}
    for line in text.strip().splitlines():
        model_id, arch, vision, language, resize, *more = line.split()
        changes = {CHANGES[name]: int(value)
                   for name, value in (word.split("=") for word in more)}  # fmt: skip
        found[model_id] = {
            **BASE,
            "model_id": model_id,
            "arch_specifier": ARCHS[arch],
            "vision_backbone_id": vision,
            "llm_backbone_id": language,
            "image_resize_strategy": resize,
            **changes,
        }
    return found


EXPECTED = table(VIDEOWEAVE_IDS)


def fields_of(model_id: str) -> dict:
    """As a run of this id is configured with nothing else given."""
    config = load_pretrain_config([("model.type", model_id), ("dataset.manifest", "out/l4/manifest.json")])
    return config.model.model_dump(include={*BASE, "model_id"})


def test_the_ids_are_videoweaves_sixty_four_three_more_and_ours() -> None:
    assert len(EXPECTED) == 64
    assert set(VIDEOWEAVE_PRESETS) == set(EXPECTED)
    assert set(UNREGISTERED_PRESETS) == set(table(UNREGISTERED_IDS))
    assert set(OWN_PRESETS) == {"tiny", *(f"videoweave-l{clips}" for clips in (1, 2, 4, 8, 16))}
    assert len(MODEL_PRESETS) == 64 + 3 + 6


@pytest.mark.parametrize("model_id", EXPECTED)
def test_every_field_of_an_id_is_videoweaves(model_id: str) -> None:
    assert fields_of(model_id) == {**EXPECTED[model_id], **CHANGED_ON_PURPOSE}


@pytest.mark.parametrize("model_id", table(UNREGISTERED_IDS))
def test_ids_that_were_defined_only_are_like_the_others(model_id: str) -> None:
    assert fields_of(model_id) == {**table(UNREGISTERED_IDS)[model_id], **CHANGED_ON_PURPOSE}


@pytest.mark.parametrize("model_id", MODEL_PRESETS)
def test_a_preset_holds_what_differs_and_nothing_else(model_id: str) -> None:
    default = {name: field.default for name, field in ModelConfig.model_fields.items()}
    assert all(value != default[name] for name, value in MODEL_PRESETS[model_id].items())
    assert model_preset(model_id)["model_id"] == model_id


@pytest.mark.parametrize("model_id", [f"videoweave-l{clips}" for clips in WOVEN_CLIPS])
def test_the_papers_runs_are_those_of_its_scripts(model_id: str) -> None:
    assert fields_of(model_id) == {
        **BASE,
        **CHANGED_ON_PURPOSE,
        "model_id": model_id,
        "arch_specifier": "no-align+gelu-mlp",
        "vision_backbone_id": "video-clip-vit-l-336px",
        "llm_backbone_id": "llama2-7b-pure",
        "image_resize_strategy": "resize-naive",
        "rope_scaling_factor": 3.0,
        "num_frames": 16,
        "finetune_global_batch_size": 2,
        "finetune_per_device_batch_size": 1,
        "init_from_model": "prism-clip+7b",
        "llm_max_length": 16 * 576 + 2048,
    }
    assert 16 * 576 + 2048 <= 3.0 * 4096


def test_a_field_of_a_preset_can_be_changed() -> None:
    config = load_pretrain_config(
        [
            ("model.type", "videoweave-l4"),
            ("model.model_id", "mine"),
            ("model.num_frames", 8),
            ("dataset.manifest", "out/l4/manifest.json"),
        ]
    )
    assert (config.model.model_id, config.model.num_frames) == ("mine", 8)
    assert config.model.finetune_global_batch_size == 2
    assert config.resolved_run_id("fig2-l4") == "fig2-l4+mine+stage-finetune+x7"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("prism-clip+8b", "prism-clip+7b"),
        ("gemma-instruct+2b", "gemma-instruct+2b+clip"),
        ("videoweave-l3", "videoweave-l"),
    ],
)
def test_an_unknown_id_names_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{right.replace('+', r'[+]')}"):
        model_preset(wrong)


def test_defaults_of_the_trainer_are_videoweaves_or_changed_on_purpose() -> None:
    default = {
        name: field.default for name, field in PretrainConfig.model_fields.items() if not field.is_required()
    }
    theirs = {
        "stage": "finetune",
        "pretrained_checkpoint": None,
        "run_id": None,
        "run_root_dir": "runs",
        "seed": 7,
        "dry_run": False,
        "hf_token": ".hf_token",
        "wandb_project": "prismatic",
        "wandb_entity": None,
    }
    assert {name: default[name] for name in theirs} == theirs
    assert default["trackers"] == ["jsonl"]  # theirs: jsonl and wandb
    assert default["dataset"].type is None  # theirs: webvid
    assert default["val_dataset"].type is None  # theirs: webvid_val
    assert load_pretrain_config([("dataset.type", "webvid")]).model.model_id == "prism-clip+7b"


@pytest.mark.parametrize(
    ("flags", "run_id"),
    [
        ({"dataset.type": "webvid"}, "webvid+prism-clip+7b+stage-finetune+x7"),
        ({"dataset.type": "llava-v15"}, "prism-clip+7b+stage-finetune+x7"),
        (
            {"dataset.type": "webvid", "model.type": "full-ft-multi-stage+7b", "stage": "align", "seed": 1},
            "webvid+full-ft-multi-stage+7b+stage-align+x1",
        ),
        (
            {"dataset.type": "webvid", "dataset.dataset_id": "mine", "val_dataset.type": "webvid_val"},
            "mine+prism-clip+7b+stage-finetune+x7",
        ),
        ({"dataset.type": "webvid", "run_id": "chosen"}, "chosen"),
    ],
)  # fmt: skip
def test_run_ids_are_videoweaves(flags: dict, run_id: str) -> None:
    assert load_pretrain_config(list(flags.items())).resolved_run_id("webvid") == run_id
