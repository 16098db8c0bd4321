"""Every model id is built, small, and takes a step in each of its stages, as a run would.

Towers and language models are small twins of the real ones (`small_towers`, `small_languages`): the same
classes, ids, transforms and control tokens. Flags, settings, tokenizer, model, stage, rows, batches and the
step are the trainer's own; in place of DeepSpeed's engine, which takes seconds to make, stands AdamW.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_languages import write_small_language
from small_towers import shrink_towers
from tiny_rows import CAPTIONS, jpeg, woven_row
from torch import nn

from weave_train.config import MODEL_PRESETS, PretrainConfig, StageId, load_pretrain_config
from weave_train.engine.stages import apply_stage, trained_parts
from weave_train.languages import LANGUAGES
from weave_train.launch import Launch
from weave_train.models.context import check_context
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.parts import part_of
from weave_train.models.tokenizer import resolve_tokenizer
from weave_train.rows.batch import Batch, make_row
from weave_train.towers import tower_spec
from weave_train.train.objective import micro_batches, take_step
from weave_train.train.run_directory import model_settings

torch.set_num_threads(1)

LAUNCH = Launch(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
Languages = Callable[[str], Path]
LINEARS = {"gelu-mlp": 2, "fused-gelu-mlp": 3}
ROWS = [
    woven_row("video", [jpeg((200, 30, 30)), jpeg((30, 200, 30))], CAPTIONS[0]),
    woven_row("image", [jpeg((30, 30, 200), width=70, height=30)], CAPTIONS[5]),
    woven_row("text", [], CAPTIONS[9], question="What is it?"),
]


class PlainEngine:
    """What `take_step` asks of an engine, without ranks: AdamW on what the stage trains."""

    was_skipped = False

    def __init__(self, core: nn.Module) -> None:
        self.core = core
        self.gradients: dict[str, torch.Tensor] = {}

    def mark_boundary(self, *, is_last: bool) -> None:
        pass

    def loss_sum(self, features: torch.Tensor | None, batch: Batch) -> torch.Tensor:
        return self.core(features, batch)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self, learning_rate: float) -> float:
        trained = [value for value in self.core.parameters() if value.requires_grad]
        norm = nn.utils.clip_grad_norm_(trained, 1.0)
        for name, value in self.core.named_parameters():
            if value.grad is not None:
                self.gradients[name] = value.grad
        torch.optim.AdamW(trained, lr=learning_rate).step()
        return float(norm)


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Languages:
    """Small copies of the language ids, made when they are asked for."""
    folder = tmp_path_factory.mktemp("languages")
    return functools.cache(lambda name: write_small_language(name, folder))


@pytest.fixture(scope="module", autouse=True)
def _small_towers() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shrink_towers(patch)
        yield


def stages_of(model_id: str) -> tuple[StageId, ...]:
    """Those a run of this id goes through."""
    last: StageId = "full-finetune" if model_id.startswith("full-ft-") else "finetune"
    is_one_stage = MODEL_PRESETS[model_id].get("arch_specifier", "gelu-mlp").startswith("no-align+")
    return (last,) if is_one_stage else ("align", last)


def configure(model_id: str, stage: StageId, languages: Languages) -> PretrainConfig:
    flags: dict[str, Any] = {
        "model.type": model_id,
        "stage": stage,
        "dataset.manifest": "out/l4/manifest.json",
        "model.enable_mixed_precision_training": False,
    }
    language = MODEL_PRESETS[model_id].get("llm_backbone_id", "vicuna-v15-7b")
    if language in LANGUAGES:
        flags["model.llm_weights"] = str(languages(language))
    return load_pretrain_config(list(flags.items()))


def build(config: PretrainConfig) -> VideoLanguageModel:
    settings = model_settings(config, {})
    check_context(settings, num_frames=config.model.num_frames)
    tokenizer = resolve_tokenizer(settings, CAPTIONS)
    return build_model(settings, tokenizer, trains_vision="vision" in trained_parts(config.stage))


def train_a_step(vlm: VideoLanguageModel, config: PretrainConfig) -> PlainEngine:
    """One optimizer step over the rows in micro-batches of two; checks the loss."""
    rows = [make_row(row, tokenizer=vlm.tokenizer, settings=vlm.settings) for row in ROWS]
    engine = PlainEngine(vlm.core)
    totals = take_step(
        engine,  # type: ignore[arg-type]
        vlm,
        micro_batches(rows, micro_rows=2, num_micro_steps=2, vlm=vlm),
        supervised_tokens=sum(row.num_supervised for row in rows),
        learning_rate=config.hyper.learning_rate,
        launch=LAUNCH,
    )
    assert 1.0 < totals.loss < 20.0
    assert 0.0 < totals.grad_norm < 1e4
    return engine


def weights(vlm: VideoLanguageModel) -> dict[str, torch.Tensor]:
    """Copies by name, the tower's among them wherever it stands."""
    named = {name: value for name, value in vlm.core.named_parameters() if part_of(name) != "vision"}
    named |= {f"vision.{name}": value for name, value in vlm.tower.named_parameters()}
    return {name: value.detach().clone() for name, value in named.items()}


def check_what_reached_the_model(vlm: VideoLanguageModel, config: PretrainConfig) -> None:
    asked, settings = config.model, vlm.settings
    for name in ("vision_backbone_id", "llm_backbone_id", "arch_specifier", "image_resize_strategy",
                 "llm_max_length", "rope_scaling_factor", "num_frames"):  # fmt: skip
        assert getattr(settings, name) == getattr(asked, name)
    spec = tower_spec(asked.vision_backbone_id)
    assert vlm.tower.spec == spec
    linears = [module for module in vlm.core.projector if isinstance(module, nn.Linear)]
    assert len(linears) == LINEARS[asked.arch_specifier.removeprefix("no-align+")]
    assert linears[0].in_features == spec.dim
    language = vlm.core.language_model.config
    assert linears[-1].out_features == language.hidden_size
    if asked.llm_backbone_id in LANGUAGES:
        assert language.model_type == LANGUAGES[asked.llm_backbone_id].model_type


@pytest.mark.parametrize("model_id", MODEL_PRESETS)
def test_a_model_id_takes_a_step_in_each_of_its_stages(model_id: str, languages: Languages) -> None:
    stages = stages_of(model_id)
    vlm = build(configure(model_id, stages[-1], languages))
    check_what_reached_the_model(vlm, configure(model_id, stages[-1], languages))
    for stage in stages:
        config = configure(model_id, stage, languages)
        apply_stage(vlm, stage)
        before = weights(vlm)
        engine = train_a_step(vlm, config)
        assert {part_of(name) for name in engine.gradients} == trained_parts(stage)
        trained = {name for name, value in vlm.core.named_parameters() if value.requires_grad}
        assert set(engine.gradients) == trained
        changed = {part_of(name) for name, value in weights(vlm).items() if not value.equal(before[name])}
        assert changed == trained_parts(stage)
        vlm.core.zero_grad()


def test_stages_are_those_of_the_names() -> None:
    stages = {model_id: stages_of(model_id) for model_id in MODEL_PRESETS}
    two = {model_id for model_id, given in stages.items() if len(given) == 2}
    assert two == {"reproduction-llava-v15+7b", "reproduction-llava-v15+13b", "full-ft-multi-stage+7b"}
    assert stages["full-ft-one-stage+7b"] == ("full-finetune",)


def test_rope_of_the_papers_runs_is_scaled(languages) -> None:
    scaled = build(configure("videoweave-l8", "finetune", languages)).core.language_model.config
    plain = build(configure("llama2+7b", "finetune", languages)).core.language_model.config
    assert plain.rope_parameters["rope_theta"] == 10_000
    # transformers' dynamic NTK at 11,264 tokens of 4,096 positions, factor 3
    head = scaled.hidden_size // scaled.num_attention_heads
    stretch = 3 * 11_264 / 4_096 - 2
    assert scaled.rope_parameters["rope_theta"] == pytest.approx(10_000 * stretch ** (head / (head - 2)))
