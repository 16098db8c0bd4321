"""The language ids: what each is, where it comes from, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.language_source import find_language
from weave_train.languages import LANGUAGES, language_spec
from weave_train.models.context import check_context
from weave_train.models.language import LanguageOptions, language_config
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.tokenizer import resolve_tokenizer
from weave_train.rows.batch import collate, make_row

REPOSITORIES = {
    "llama2-7b-pure": "meta-llama/Llama-2-7b-hf",
    "llama2-13b-pure": "meta-llama/Llama-2-13b-hf",
    "llama2-7b-chat": "meta-llama/Llama-2-7b-chat-hf",
    "llama2-13b-chat": "meta-llama/Llama-2-13b-chat-hf",
    "llama3-8b-pure": "meta-llama/Meta-Llama-3-8B",
    "llama3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
    "vicuna-v15-7b": "lmsys/vicuna-7b-v1.5",
    "vicuna-v15-13b": "lmsys/vicuna-13b-v1.5",
    "mistral-v0.1-7b-pure": "mistralai/Mistral-7B-v0.1",
    "mistral-v0.1-7b-instruct": "mistralai/Mistral-7B-Instruct-v0.1",
    "mistral-v0.2-7b-instruct": "mistralai/Mistral-7B-Instruct-v0.2",
    "phi-2-3b": "microsoft/phi-2",
    "phi-3-instruct-4b": "microsoft/Phi-3-mini-4k-instruct",
    "gemma-2b-instruct": "google/gemma-2b-it",
    "gemma-8b-instruct": "google/gemma-7b-it",
}

PARAMETERS = {
    "llama2-7b-pure": 6_738_415_616,
    "llama2-13b-chat": 13_015_864_320,
    "llama3-8b-instruct": 8_030_261_248,
    "mistral-v0.2-7b-instruct": 7_241_732_096,
    "phi-2-3b": 2_779_683_840,
    "phi-3-instruct-4b": 3_821_079_552,
    "gemma-2b-instruct": 2_506_172_416,
    "gemma-8b-instruct": 8_537_680_896,
}
"""As the repositories' safetensors indices give them."""

CLASSES = {
    "llama2": "LlamaForCausalLM",
    "vicuna": "LlamaForCausalLM",
    "llama3": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "phi-2": "PhiForCausalLM",
    "phi-3": "Phi3ForCausalLM",
    "gemma": "GemmaForCausalLM",
}


def settings_of(llm_backbone_id: str, weights: Path | str, **changes: Any) -> ModelSettings:
    values = {"precision": "fp32", "llm_max_length": 256, "llm_weights": str(weights), **changes}
    return ModelSettings.model_validate({"llm_backbone_id": llm_backbone_id, **values})


def built(settings: ModelSettings) -> VideoLanguageModel:
    return build_model(settings, resolve_tokenizer(settings, CAPTIONS))


def test_the_ids_are_videoweaves() -> None:
    assert {name: spec.repo for name, spec in LANGUAGES.items()} == REPOSITORIES
    assert language_spec("tiny-llama") is None
    assert language_spec("hf:anything") is None


@pytest.mark.parametrize("llm_backbone_id", PARAMETERS)
def test_architectures_have_the_published_number_of_parameters(llm_backbone_id: str) -> None:
    install()
    from transformers import AutoConfig, AutoModelForCausalLM

    spec = LANGUAGES[llm_backbone_id]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(spec.model_type, **spec.sizes))
    assert sum(value.numel() for value in model.parameters()) == PARAMETERS[llm_backbone_id]


@pytest.mark.parametrize("llm_backbone_id", LANGUAGES)
def test_each_id_loads_a_copy_in_its_own_class_and_takes_a_step(
    llm_backbone_id: str, small_language: Callable[[str], Path]
) -> None:
    spec, directory = LANGUAGES[llm_backbone_id], small_language(llm_backbone_id)
    vlm = built(settings_of(llm_backbone_id, directory))
    model = vlm.core.language_model
    assert type(model).__name__ == CLASSES[spec.family]
    assert model.config.max_position_embeddings == spec.positions
    assert vlm.tokenizer.pad_token == ("<|pad|>" if spec.family.startswith("phi") else "<PAD>")
    assert vlm.tokenizer.padding_side == "right"
    assert model.config.pad_token_id == vlm.tokenizer.pad_token_id
    rows = model.get_input_embeddings().num_embeddings
    assert rows % 64 == 0
    assert 0 <= rows - len(vlm.tokenizer) < 64
    stored = load_file(directory / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.get_input_embeddings().weight[: len(stored)], stored)
    row = woven_row("a", [jpeg((200, 30, 30))], "A red circle.")
    encoded = make_row(row, tokenizer=vlm.tokenizer, settings=vlm.settings)
    batch = collate([encoded], pad_id=vlm.tokenizer.pad_token_id)
    loss = vlm.core(vlm.encode(batch.pixels), batch)
    loss.backward()
    assert 1 < loss.item() / batch.num_supervised < 8
    assert all(value.grad is not None for value in vlm.core.parameters())


@pytest.mark.parametrize(
    ("llm_backbone_id", "rows"),
    [
        ("llama2-7b-pure", 32064),
        ("llama3-8b-instruct", 128320),
        ("phi-2-3b", 50304),
        ("phi-3-instruct-4b", 32064),
        ("gemma-2b-instruct", 256064),
    ],
)
def test_random_weights_need_no_hub_and_have_the_seeds_shapes(llm_backbone_id: str, rows: int) -> None:
    settings = settings_of(llm_backbone_id, "random")
    tokenizer = resolve_tokenizer(settings, CAPTIONS)
    spec = LANGUAGES[llm_backbone_id]
    assert (tokenizer.bos_token, tokenizer.eos_token) == (spec.tokens.bos, spec.tokens.eos)
    for token in spec.tokens.chat:
        assert tokenizer.encode(token, add_special_tokens=False) == [tokenizer.convert_tokens_to_ids(token)]
    config = language_config(settings, tokenizer)
    assert (config.model_type, config.vocab_size, config.hidden_size) == (
        spec.model_type,
        rows,
        spec.sizes["hidden_size"],
    )
    assert config.eos_token_id == tokenizer.eos_token_id


def test_random_weights_of_a_directory_are_seeded_and_not_its_own(
    small_language: Callable[[str], Path],
) -> None:
    directory = small_language("gemma-2b-instruct")
    settings = settings_of(f"hf:{directory}", "random")
    first, second = built(settings), built(settings)
    own = built(settings_of(f"hf:{directory}", "pretrained"))
    for (name, a), b in zip(first.core.named_parameters(), second.core.parameters(), strict=True):
        assert torch.equal(a, b), name
    weights = [one.core.language_model.model.layers[0].mlp.up_proj.weight for one in (first, own)]
    assert weights[0].shape == weights[1].shape
    assert not torch.equal(*weights)


def test_a_copy_of_another_model_is_not_an_id(small_language: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="holds a 'phi' model, the id's is 'phi3'"):
        built(settings_of("phi-3-instruct-4b", small_language("phi-2-3b")))


def test_weights_that_lack_a_tensor_are_not_filled_with_random_ones(
    small_language: Callable[[str], Path], tmp_path: Path
) -> None:
    source = small_language("phi-3-instruct-4b")
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(source / "model.safetensors")
    del weights["model.layers.1.self_attn.qkv_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DeviceError, match=r"lack model\.layers\.1\.self_attn\.qkv_proj\.weight"):
        built(settings_of("phi-3-instruct-4b", tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises((ConfigError, DeviceError), match="the weights"):
        built(settings_of("phi-3-instruct-4b", tmp_path))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_older_weight_files_are_read_without_running_what_they_pickle(
    small_language: Callable[[str], Path], tmp_path: Path
) -> None:
    source = small_language("vicuna-v15-7b")
    for path in source.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(source / "model.safetensors")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    model = built(settings_of("vicuna-v15-7b", tmp_path)).core.language_model
    assert torch.equal(model.model.norm.weight, weights["model.norm.weight"])
    torch.save({**weights, "bomb": Bomb(str(tmp_path / "ran"))}, tmp_path / "pytorch_model.bin")
    with pytest.raises((ConfigError, DeviceError), match="the weights"):
        built(settings_of("vicuna-v15-7b", tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_directory_without_weights_or_with_unknown_code_says_so(
    small_language: Callable[[str], Path], tmp_path: Path
) -> None:
    source = small_language("llama2-7b-pure")
    for path in source.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DeviceError, match="the weights of .* can't be read"):
        built(settings_of("llama2-7b-pure", tmp_path))
    tokenizer = resolve_tokenizer(settings_of("llama2-7b-pure", tmp_path), [])
    config = {"model_type": "somebodys", "auto_map": {"AutoConfig": "mine.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ConfigError, match="without code from elsewhere"):
        build_model(settings_of(f"hf:{tmp_path}", "pretrained"), tokenizer)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("llm_backbone_id", "weights", "message"),
    [
        ("phi-3-instruct-4", "pretrained", "did you mean 'phi-3-instruct-4b'"),
        ("gemma-8b-instruct", "/nowhere", "model.llm_weights: there is no config.json in '/nowhere'"),
        ("tiny-llama", "/nowhere", "takes no weights from '/nowhere'"),
        ("hf:/nowhere", "pretrained", "model.llm_backbone_id: there is no config.json in '/nowhere'"),
        ("hf:", "pretrained", "unknown id 'hf:'"),
    ],
)
def test_ids_and_places_that_are_not_there(llm_backbone_id: str, weights: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_language(settings_of(llm_backbone_id, weights))


def test_a_hub_name_is_told_from_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = find_language(settings_of("hf:HuggingFaceTB/SmolLM2-135M", "pretrained"))
    assert (hub.location, hub.is_local) == ("HuggingFaceTB/SmolLM2-135M", False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "models/mine/config.json").write_text("{}")
    assert find_language(settings_of("hf:models/mine", "pretrained")).is_local


def test_without_network_one_error_says_what_to_give_instead() -> None:
    with pytest.raises(DeviceError, match=r"can't be had from the hub.*--model\.llm_weights DIR") as caught:
        built(settings_of("phi-2-3b", "pretrained"))
    assert "\n" not in str(caught.value)


def test_flash_attention_is_an_error_where_it_is_not_installed() -> None:
    settings = settings_of("tiny-llama", "pretrained")
    tokenizer = resolve_tokenizer(settings, CAPTIONS)
    with pytest.raises(DeviceError, match="flash_attention_2 needs a GPU and the package flash-attn"):
        build_model(settings, tokenizer, language_options=LanguageOptions(attention="flash_attention_2"))
    eager = build_model(settings, tokenizer, language_options=LanguageOptions(attention="eager"))
    assert eager.core.language_model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("changes", "num_frames", "message"),
    [
        ({}, 16, r"are 9216 visual tokens, 2048 leave no room.* 9472 and --model\.rope_scaling_factor 2\.5 "),
        ({"llm_max_length": 12288, "rope_scaling_factor": 3.0}, 16, None),
        ({"llm_max_length": 12288}, 16, r"12288 tokens are more than the 4096 positions.*factor 3$"),
        ({"llm_max_length": 12289, "rope_scaling_factor": 3.0}, 1, "than the 12288 positions.*factor 3.5"),
        ({"llm_max_length": 4096}, 8, r"4608 visual tokens, 4096 leave no room"),
        ({"llm_max_length": 4096}, None, None),
    ],
)  # fmt: skip
def test_frames_text_and_positions_are_compared_before_anything_is_read(
    changes: dict[str, Any], num_frames: int | None, message: str | None
) -> None:
    values = {"vision_backbone_id": "clip-vit-l-336px", "llm_max_length": 2048, **changes}
    settings = settings_of("vicuna-v15-7b", "pretrained", **values)
    if message is None:
        check_context(settings, num_frames=num_frames)
        return
    with pytest.raises(ConfigError, match=message):
        check_context(settings, num_frames=num_frames)
