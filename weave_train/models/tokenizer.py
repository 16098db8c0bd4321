"""Tokenizers: the language model's own, or a small byte-level BPE trained on a run's captions.

A padding token is added where there is none, and for the named ids always, as VideoWeave does: its
embedding rows come from that. Batches are padded on the right.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from weave_data.errors import ConfigError, DeviceError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.language_source import LanguageSource, find_language
from weave_train.languages import ControlTokens
from weave_train.models.hub import first_line, from_published

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

__all__ = [
    "BOS_TOKEN",
    "EOS_TOKEN",
    "PAD_TOKEN",
    "load_tokenizer",
    "resolve_tokenizer",
    "save_tokenizer",
    "train_caption_tokenizer",
]

BOS_TOKEN, EOS_TOKEN, PAD_TOKEN = "<s>", "</s>", "<PAD>"


_CAPTION_TOKENS = ControlTokens(BOS_TOKEN, EOS_TOKEN, PAD_TOKEN)


def train_caption_tokenizer(
    captions: Iterable[str], *, vocab_size: int = 512, tokens: ControlTokens = _CAPTION_TOKENS
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE: any text round-trips, and the order of captions does not matter.

    Args:
        captions: Texts; read once.
        vocab_size: Largest vocabulary, at least 259 (256 bytes and three control tokens).
        tokens: Control tokens; those of its chat format are special tokens, too.

    Raises:
        ConfigError: `vocab_size` is below 259.
    """
    install()
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < 259:
        raise ConfigError(f"vocab_size {vocab_size}: 256 bytes and 3 control tokens need at least 259")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(dict.fromkeys([tokens.bos, tokens.eos, tokens.pad, *tokens.chat])),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens.bos,
        eos_token=tokens.eos,
        pad_token=tokens.pad,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def resolve_tokenizer(
    settings: ModelSettings, captions: Iterable[str], *, hf_token: str | None = None
) -> PreTrainedTokenizerBase:
    """Tokenizer of a new run: the language model's own, or one trained on `captions` where that is random.

    Args:
        settings: `llm_backbone_id` and `llm_weights` are used.
        captions: Texts of the training set; not read where the model has a tokenizer.
        hf_token: File or environment variable with a token of the hub; read when a model is gated.

    Raises:
        ConfigError: Unknown id, or the tokenizer can't be used or has no EOS.
        DeviceError: It is not there.
    """
    source = find_language(settings)
    tokens = _CAPTION_TOKENS if source.spec is None else source.spec.tokens
    if source.location is None:
        return train_caption_tokenizer(captions, tokens=tokens)
    return _load(source, pad_token=None if source.spec is None else tokens.pad, hf_token=hf_token)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load a local tokenizer; `<PAD>` is added when it has no padding token.

    Raises:
        ConfigError: It can't be loaded, or has no EOS: a model could never stop.
    """
    return _load(LanguageSource(None, str(directory), is_local=True, has_weights=False), pad_token=None)


def _load(
    source: LanguageSource, *, pad_token: str | None, hf_token: str | None = None
) -> PreTrainedTokenizerBase:
    install()
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = from_published(
            AutoTokenizer.from_pretrained,
            source,
            what="the tokenizer",
            hf_token=hf_token,
            padding_side="right",
        )
    except (ConfigError, DeviceError) as error:
        if not source.is_local:
            raise
        reason = first_line(error.__cause__ or error)
        raise ConfigError(
            f"can't load a tokenizer from {source.location!r}: {reason}; give a whole copy of the model, "
            "with tokenizer.json and tokenizer_config.json"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"the tokenizer in {source.location!r} has no EOS token; answers could never end")
    if pad_token is not None or tokenizer.pad_token_id is None:
        tokenizer.add_special_tokens({"pad_token": pad_token or PAD_TOKEN})
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a tokenizer so that `load_tokenizer` gives it back."""
    tokenizer.save_pretrained(directory)
