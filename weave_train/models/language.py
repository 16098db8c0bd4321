"""Language models: any causal LM of transformers, by VideoWeave's ids, from the hub or from disk.

    settings -> source -> configuration (positions scaled, checked) -> weights -> rows for the tokenizer

Whatever its class, a model is used in one way: embeddings in, hidden states out, logits where something
is supervised (`head`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.language_source import LanguageSource, find_language
from weave_train.languages import LanguageSpec, round_up
from weave_train.models.context import check_positions
from weave_train.models.head import check_head
from weave_train.models.hub import from_published
from weave_train.models.rope import keep_frequencies, num_positions, scale_positions
from weave_train.models.seeding import seeded_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "LanguageOptions",
    "build_language_model",
    "embedding_scale",
    "embedding_shape",
    "language_config",
]

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")
_MOST_NAMED = 3


@dataclass(frozen=True)
class LanguageOptions:
    """How a language model is had and computed; not what it is, so it is not kept with a run.

    Attributes:
        attention: None: SDPA, or eager where the model has none (Gemma 2, whose scores are capped).
        hf_token: File or environment variable with a token of the hub; read when a model is gated.
    """

    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    hf_token: str | None = None


_DEFAULT_OPTIONS = LanguageOptions()


def language_config(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, options: LanguageOptions = _DEFAULT_OPTIONS
) -> PretrainedConfig:
    """Resolve the transformers configuration of a new run, its positions scaled.

    Dropout is off: a step would depend on how its rows are split over ranks.

    Raises:
        ConfigError: Unknown id; no causal LM that this trainer can train; `llm_max_length` is more than
            the model has positions.
        DeviceError: The configuration is not there.
    """
    install()
    from transformers import AutoConfig

    source = find_language(settings)
    if source.location is not None:
        config: PretrainedConfig = from_published(
            AutoConfig.from_pretrained, source, what="the configuration", hf_token=options.hf_token
        )
        _check_kind(config, source)
    elif source.spec is not None:
        rows = max(source.spec.embedding_rows, round_up(len(tokenizer)))
        config = AutoConfig.for_model(
            source.spec.model_type, **{**source.spec.sizes, "vocab_size": rows}, **_control_ids(tokenizer)
        )
    else:
        config = _tiny_llama(settings, tokenizer)
    for key, value in config.to_dict().items():
        if "dropout" in key or key.endswith("_pdrop"):
            setattr(config, key, 0.0 if isinstance(value, float) else value)
    if source.location is not None or source.spec is not None:
        check_positions(settings, num_positions(config, settings))
    scale_positions(config, settings)
    return config


def _tiny_llama(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=round_up(len(tokenizer)),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=int(settings.llm_max_length // (settings.rope_scaling_factor or 1)),
        initializer_range=0.02,
        **_control_ids(tokenizer),
    )


def _control_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _check_kind(config: PretrainedConfig, source: LanguageSource) -> None:
    from transformers import AutoModelForCausalLM

    name = repr(source.location)
    spec = source.spec
    if spec is not None and config.model_type != spec.model_type:
        raise ConfigError(
            f"{source.flag}: {name} holds a {config.model_type!r} model, the id's is {spec.model_type!r}; "
            "give a copy of that model, or name the directory with --model.llm_backbone_id hf:DIR"
        )
    if type(config) not in AutoModelForCausalLM._model_mapping or config.get_text_config() is not config:
        raise ConfigError(
            f"{source.flag}: {name} holds a {config.model_type!r} model, which is no text-only causal "
            "language model; choose one that is"
        )
    experts = [f"{key} {getattr(config, key)}" for key in _EXPERTS if (getattr(config, key, None) or 0) > 1]
    if experts:
        raise ConfigError(
            f"{source.flag}: {name} is a mixture of experts ({experts[0]}), whose router needs a loss of its "
            "own, which is not there; choose a dense model"
        )


def build_language_model(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    *,
    config: PretrainedConfig | None = None,
    options: LanguageOptions = _DEFAULT_OPTIONS,
) -> PreTrainedModel:
    """Build the language model in fp32 on the CPU.

    Args:
        settings: The `llm_*` and `rope_*` fields and `seed` are used.
        tokenizer: Its length, rounded up to 64, is the least number of embedding rows; a named id has
            exactly as many, as with VideoWeave.
        config: Of a run: build from it with random weights, for the caller to fill; nothing else
            is read.
        options: How to get at it, and how attention is computed.

    Raises:
        ConfigError: See `language_config`; or a run's tokenizer has more ids than its embedding rows.
        DeviceError: The weights can't be had or lack some, or FlashAttention is not there.
    """
    install()
    if config is not None:
        return _build_stored(tokenizer, config, options)
    source = find_language(settings)
    resolved = language_config(settings, tokenizer, options)
    with seeded_weights(settings.seed):
        model = _new_model(source, resolved, options)
        _fit_rows(model, tokenizer, source.spec)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    keep_frequencies(model)
    check_head(model, name=settings.llm_backbone_id)
    return model


def _build_stored(
    tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, options: LanguageOptions
) -> PreTrainedModel:
    with seeded_weights(0):
        model = _random_model(config, options)
    rows = embedding_shape(model)[0]
    if len(tokenizer) > rows:
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} ids, the language model {rows} embedding rows; they are not "
            "of the same run: restore its tokenizer/ and language/"
        )
    model.config.use_cache = False
    keep_frequencies(model)
    return model


def _new_model(source: LanguageSource, config: PretrainedConfig, options: LanguageOptions) -> PreTrainedModel:
    if not source.has_weights:
        return _random_model(config, options)
    from transformers import AutoModelForCausalLM

    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    model: PreTrainedModel
    model, info = from_published(
        load,
        source,
        what="the weights",
        hf_token=options.hf_token,
        config=config,
        output_loading_info=True,
        **_build_options(config, options),
    )
    missing = sorted(info["missing_keys"])
    if missing:
        named = ", ".join(missing[:_MOST_NAMED])
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise DeviceError(
            f"{source.flag}: the weights in {source.location!r} lack {named}{more}; a {type(model).__name__} "
            "has them, and they would stay random: get the whole model"
        )
    return model


def _random_model(config: PretrainedConfig, options: LanguageOptions) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **_build_options(config, options))
    except ValueError as error:
        raise ConfigError(f"model.llm_backbone_id: {str(error).splitlines()[0]}") from error
    return model


def _build_options(config: PretrainedConfig, options: LanguageOptions) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM
    from transformers.utils.import_utils import is_flash_attn_2_available

    if options.attention == "flash_attention_2" and not is_flash_attn_2_available():
        raise DeviceError(
            "model.attention: flash_attention_2 needs a GPU and the package flash-attn (pip install "
            "flash-attn); install it, or take --model.attention sdpa"
        )
    kind: Any = AutoModelForCausalLM._model_mapping[type(config)]
    if options.attention == "sdpa" and not kind._supports_sdpa:
        raise ConfigError(
            f"model.attention: {kind.__name__} has no sdpa in transformers; leave the flag out for eager"
        )
    return {"attn_implementation": options.attention, "dtype": torch.float32}


def _fit_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, spec: LanguageSpec | None) -> None:
    rows, current = round_up(len(tokenizer)), embedding_shape(model)[0]
    is_random_id = spec is not None and current == spec.embedding_rows
    if current < rows or (spec is not None and current != rows and not is_random_id):
        model.resize_token_embeddings(rows, mean_resizing=False)


def embedding_shape(model: Any) -> tuple[int, int]:
    """Rows and width of a language model's input embedding."""
    rows, width = model.get_input_embeddings().weight.shape
    return int(rows), int(width)


def embedding_scale(model: Any) -> float:
    """What a model's embedding multiplies a looked-up row with: sqrt(width) in the Gemmas, else 1.

    Visual tokens are multiplied likewise, as with VideoWeave, where it happened behind the splice.
    """
    return float(getattr(model.get_input_embeddings(), "scalar_embed_scale", 1.0))
