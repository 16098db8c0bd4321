"""Positions beyond those a model was trained for: one base for every batch, as transformers has it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import write_model
from tiny_rows import CAPTIONS

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.loading import save_model_files
from weave_train.models.language import build_language_model, language_config
from weave_train.models.model import build_model
from weave_train.models.rope import scaled_base
from weave_train.models.tokenizer import load_tokenizer, train_caption_tokenizer

POSITIONS, FACTOR, LENGTH = 64, 3.0, 160


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rope")
    names = ("smollm2", "phi-2", "phi-3", "gemma", "qwen3", "mistral-window", "gemma3", "gpt2", "llama-3.1")
    changes = {"gpt2": {"n_positions": POSITIONS}}
    return {
        name: write_model(name, folder, **changes.get(name, {"max_position_embeddings": POSITIONS}))
        for name in names
    }


def settings_of(directory: Path, **changes: Any) -> ModelSettings:
    values = {"rope_scaling_factor": FACTOR, "llm_max_length": LENGTH, "precision": "fp32", **changes}
    return ModelSettings.model_validate({"llm_backbone_id": f"hf:{directory}", **values})


def language(directory: Path, **changes: Any) -> Any:
    return build_language_model(settings_of(directory, **changes), load_tokenizer(directory)).eval()


def theirs(directory: Path, rope_type: str, **extra: Any) -> Any:
    """The same weights with transformers' own scaling."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(directory)
    config.rope_parameters = {
        **config.rope_parameters,
        "rope_type": rope_type,
        "factor": FACTOR,
        **extra,
    }
    return AutoModelForCausalLM.from_pretrained(directory, config=config, attn_implementation="sdpa").eval()


def ids(length: int) -> torch.Tensor:
    return torch.randint(5, 300, (1, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("name", ["smollm2", "phi-2", "phi-3", "gemma", "qwen3", "mistral-window"])
@torch.no_grad()
def test_the_frozen_base_is_transformers_dynamic_ntk_at_the_longest_sequence(
    directories: dict[str, Path], name: str
) -> None:
    ours, dynamic = language(directories[name]), theirs(directories[name], "dynamic")
    expected = dynamic(ids(LENGTH)).logits  # grows its base to exactly this length
    torch.testing.assert_close(
        ours.model.rotary_emb.inv_freq, dynamic.model.rotary_emb.inv_freq, rtol=1e-6, atol=0
    )
    torch.testing.assert_close(ours(ids(LENGTH)).logits, expected, rtol=1e-4, atol=1e-4)
    plain = language(directories[name], rope_scaling_factor=None, llm_max_length=POSITIONS)
    assert not torch.equal(plain.model.rotary_emb.inv_freq, ours.model.rotary_emb.inv_freq)


@torch.no_grad()
def test_a_row_gives_the_same_logits_whatever_came_before_it(directories: dict[str, Path]) -> None:
    frozen = language(directories["smollm2"])
    legacy = language(directories["smollm2"], rope_scaling_type="legacy-dynamic")
    short, long = ids(POSITIONS + 8), ids(LENGTH)
    fresh = [model(short).logits for model in (frozen, legacy)]
    for model in (frozen, legacy):
        model(long)
    again = [model(short).logits for model in (frozen, legacy)]
    assert torch.equal(again[0], fresh[0])
    assert not torch.allclose(again[1], fresh[1], rtol=1e-3), "the seed's state depends on the batches before"


@torch.no_grad()
def test_a_row_gives_the_same_logits_beside_a_longer_one(directories: dict[str, Path]) -> None:
    frozen = language(directories["smollm2"])
    short, long = ids(POSITIONS), ids(LENGTH)
    both = torch.cat([torch.nn.functional.pad(short, (0, LENGTH - POSITIONS), value=2), long])
    mask = torch.ones_like(both, dtype=torch.bool)
    mask[0, POSITIONS:] = False
    torch.testing.assert_close(
        frozen(both, attention_mask=mask).logits[0, :POSITIONS], frozen(short).logits[0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["legacy-dynamic", "yarn", "linear"])
@torch.no_grad()
def test_the_other_kinds_are_those_of_transformers(directories: dict[str, Path], kind: str) -> None:
    directory = directories["smollm2"]
    extra = {"original_max_position_embeddings": POSITIONS} if kind == "yarn" else {}
    reference = theirs(directory, kind.removeprefix("legacy-"), **extra)
    ours = language(directory, rope_scaling_type=kind)
    torch.testing.assert_close(ours(ids(LENGTH)).logits, reference(ids(LENGTH)).logits, rtol=1e-5, atol=1e-5)
    unscaled = language(directory, rope_scaling_factor=None, llm_max_length=POSITIONS)
    assert not torch.allclose(ours(ids(LENGTH)).logits, unscaled(ids(LENGTH)).logits, rtol=1e-3)


def test_within_the_positions_dynamic_ntk_changes_nothing() -> None:
    same = {"factor": FACTOR, "positions": POSITIONS, "dim": 16}
    assert scaled_base(1e4, length=POSITIONS, **same) == scaled_base(1e4, length=8, **same) == 1e4
    assert scaled_base(1e4, length=POSITIONS + 1, **same) > 1e4


def test_a_factor_allows_that_many_times_the_positions(directories: dict[str, Path]) -> None:
    directory = directories["smollm2"]
    language(directory, llm_max_length=int(POSITIONS * FACTOR))
    with pytest.raises(ConfigError, match=r"193 tokens are more than the 192 positions.*factor 3\.5"):
        language(directory, llm_max_length=int(POSITIONS * FACTOR) + 1)
    with pytest.raises(ConfigError, match=r"more than the 64 positions.*rope_scaling_factor 2\.5"):
        language(directory, rope_scaling_factor=None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gemma3", "RoPE of several kinds"),
        ("gpt2", "no rotary positions"),
        ("llama-3.1", "scales its positions by itself"),
    ],
)
def test_what_can_not_be_scaled_is_refused(directories: dict[str, Path], name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        language(directories[name], llm_max_length=POSITIONS)


@torch.no_grad()
def test_a_model_that_is_dynamic_or_longrope_by_itself_is_frozen_too(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    dynamic = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": FACTOR}
    own = write_model("smollm2", tmp_path, max_position_embeddings=POSITIONS, rope_parameters=dynamic)
    by_flag = language(directories["smollm2"])
    by_itself = language(own, rope_scaling_factor=None)
    assert torch.equal(by_itself.model.rotary_emb.inv_freq, by_flag.model.rotary_emb.inv_freq)
    longrope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 8,
        "long_factor": [1.0 + index for index in range(8)],
        "original_max_position_embeddings": POSITIONS,
    }
    long_phi = write_model(
        "phi-3",
        tmp_path,
        max_position_embeddings=4 * POSITIONS,
        original_max_position_embeddings=POSITIONS,
        rope_parameters=longrope,
    )
    model = language(long_phi, rope_scaling_factor=None)
    short = ids(POSITIONS // 2)
    before = model(short).logits
    longest = model(ids(LENGTH)).logits
    assert torch.equal(model(short).logits, before)
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(long_phi, attn_implementation="sdpa").eval()
    torch.testing.assert_close(longest, reference(ids(LENGTH)).logits, rtol=1e-4, atol=1e-4)


def test_frequencies_stay_in_fp32_when_the_rest_is_cast(directories: dict[str, Path]) -> None:
    model = language(directories["smollm2"])
    before = model.model.rotary_emb.inv_freq.clone()
    model.to(torch.bfloat16)
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(model.model.rotary_emb.inv_freq, before)
    assert not torch.equal(before.to(torch.bfloat16).float(), before), "a cast would have changed them"


def test_a_tiny_llama_with_a_factor_has_that_many_fewer_positions() -> None:
    tokenizer = train_caption_tokenizer(CAPTIONS)
    plain = ModelSettings(llm_max_length=96)
    config = language_config(plain.model_copy(update={"rope_scaling_factor": 3.0}), tokenizer)
    expected = scaled_base(1e4, factor=3.0, positions=32, length=96, dim=24)
    assert config.rope_parameters["rope_theta"] == expected > 1e4
    assert language_config(plain, tokenizer).rope_parameters["rope_theta"] == 1e4


def test_a_stored_run_comes_back_with_its_base_and_without_the_base_model(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoConfig

    from weave_train.models.model import assemble_model

    for kind in ("dynamic", "yarn", "legacy-dynamic"):
        settings = settings_of(directories["smollm2"], rope_scaling_type=kind)
        vlm = build_model(settings, load_tokenizer(directories["smollm2"]))
        save_model_files(vlm, tmp_path / kind)
        gone = settings.model_copy(update={"llm_backbone_id": "hf:/nowhere"})
        config = AutoConfig.from_pretrained(tmp_path / kind / "language")
        again = assemble_model(gone, load_tokenizer(tmp_path / kind / "tokenizer"), language_config=config)
        ours, stored = (one.core.language_model.model.rotary_emb for one in (vlm, again))
        assert torch.equal(stored.inv_freq, ours.inv_freq), kind
        assert stored.attention_scaling == ours.attention_scaling
