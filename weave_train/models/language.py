"""Language models: a tiny random Llama, or any local causal LM of transformers."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.models.seeding import seeded_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LANGUAGE_IDS", "build_language_model", "embedding_shape", "language_config", "local_directory"]

LANGUAGE_IDS = ("tiny-llama", "hf:DIR")
_LATER = (
    "llama2-7b-pure",
    "llama2-13b-pure",
    "llama2-7b-chat",
    "llama2-13b-chat",
    "llama3-8b-pure",
    "llama3-8b-instruct",
    "vicuna-v15-7b",
    "vicuna-v15-13b",
    "mistral-v0.1-7b-pure",
    "mistral-v0.1-7b-instruct",
    "mistral-v0.2-7b-instruct",
    "phi-2-3b",
    "phi-3-instruct-4b",
    "gemma-2b-instruct",
    "gemma-8b-instruct",
)
VOCABULARY_MULTIPLE = 64
"""Embedding rows are rounded up to this, as the seed does: ids past the tokenizer are never used."""


def local_directory(llm_backbone_id: str) -> Path | None:
    """Directory of an `hf:DIR` id; None for a built-in id.

    Raises:
        ConfigError: The id is neither, or there is no causal LM in DIR.
    """
    if llm_backbone_id == "tiny-llama":
        return None
    if llm_backbone_id in _LATER:
        raise ConfigError(
            f"model.llm_backbone_id: {llm_backbone_id!r} is not supported by name yet; "
            "use hf:DIR with a local copy of that model, or tiny-llama"
        )
    kind, _, directory = llm_backbone_id.partition(":")
    if kind != "hf" or not directory:
        close = difflib.get_close_matches(llm_backbone_id, LANGUAGE_IDS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(LANGUAGE_IDS)}"
        raise ConfigError(f"model.llm_backbone_id: unknown id {llm_backbone_id!r} ({hint})")
    if not (Path(directory) / "config.json").is_file():
        raise ConfigError(
            f"model.llm_backbone_id: there is no config.json in {directory!r}; "
            "hf:DIR names a local directory that transformers can load"
        )
    return Path(directory)


def language_config(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """Resolve the transformers configuration: vocabulary of the tokenizer, rounded up.

    Raises:
        ConfigError: Unknown id, or `llm_max_length` is more than the model has positions.
    """
    install()
    from transformers import AutoConfig, LlamaConfig

    vocab_size = _round_up(len(tokenizer))
    directory = local_directory(settings.llm_backbone_id)
    if directory is None:
        return LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=settings.llm_max_length,
            initializer_range=0.02,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    _check_supported(config, settings)
    return config


def _round_up(num_tokens: int) -> int:
    return -(-num_tokens // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _check_supported(config: PretrainedConfig, settings: ModelSettings) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and settings.llm_max_length > positions:
        raise ConfigError(
            f"model.llm_max_length: {settings.llm_max_length} tokens are more than the {positions} positions "
            f"of {settings.llm_backbone_id}; set it to {positions} or less"
        )
    # these scale logits outside of the head, which the loss calls by itself
    scaled = [
        key
        for key in ("final_logit_softcapping", "logit_scale", "logits_scaling")
        if getattr(config, key, None) not in (None, 1.0)
    ]
    if scaled:
        raise ConfigError(
            f"model.llm_backbone_id: {settings.llm_backbone_id} sets {scaled[0]}, which is not supported yet"
        )


def build_language_model(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    *,
    config: PretrainedConfig | None = None,
) -> PreTrainedModel:
    """Build the language model in fp32 on the CPU, with SDPA attention.

    Args:
        settings: `llm_backbone_id`, `llm_max_length` and `seed` are used.
        tokenizer: Its length, rounded up to 64, is the number of embedding rows.
        config: Of a run: build from it with random weights, for the caller to fill; nothing else
            is read.

    Raises:
        ConfigError: See `language_config`.
        DeviceError: The weights of `hf:DIR` can't be read.
    """
    install()
    from transformers import AutoModelForCausalLM

    directory = local_directory(settings.llm_backbone_id) if config is None else None
    resolved = config if config is not None else language_config(settings, tokenizer)
    options: dict[str, Any] = {"attn_implementation": "sdpa", "dtype": torch.float32}
    with seeded_weights(settings.seed):
        if directory is None:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(resolved, **options)
        else:
            model = _load_local(directory, resolved, options)
        rows = _round_up(len(tokenizer))
        if embedding_shape(model)[0] < rows:
            model.resize_token_embeddings(rows, mean_resizing=False)
    model.config.use_cache = False
    return model


def embedding_shape(model: Any) -> tuple[int, int]:
    """Rows and width of a language model's input embedding."""
    rows, width = model.get_input_embeddings().weight.shape
    return int(rows), int(width)


def _load_local(directory: Path, config: PretrainedConfig, options: dict[str, Any]) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            directory, config=config, local_files_only=True, use_safetensors=True, **options
        )
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"model.llm_backbone_id: can't load the weights in {str(directory)!r}: {error}; "
            "they must be a transformers causal LM in safetensors"
        ) from error
    return model
