"""Tokenizers: a small byte-level BPE trained on a run's captions, or the one beside `hf:DIR`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from weave_data.errors import ConfigError
from weave_data.torchvision_ops import install
from weave_train.config import ModelSettings
from weave_train.models.language import local_directory

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


def train_caption_tokenizer(captions: Iterable[str], *, vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE: any text round-trips, and the order of captions does not matter.

    Args:
        captions: Texts; read once.
        vocab_size: Largest vocabulary, at least 259 (256 bytes and three control tokens).

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
        special_tokens=[BOS_TOKEN, EOS_TOKEN, PAD_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS_TOKEN,
        eos_token=EOS_TOKEN,
        pad_token=PAD_TOKEN,
        clean_up_tokenization_spaces=False,
    )


def resolve_tokenizer(settings: ModelSettings, captions: Iterable[str]) -> PreTrainedTokenizerBase:
    """Tokenizer of a new run: trained on `captions` for built-in models, else the one in `hf:DIR`.

    Args:
        settings: `llm_backbone_id` is used.
        captions: Texts of the training set; not read for `hf:DIR`.

    Raises:
        ConfigError: Unknown id, or the tokenizer in DIR can't be loaded or has no EOS.
    """
    directory = local_directory(settings.llm_backbone_id)
    return train_caption_tokenizer(captions) if directory is None else load_tokenizer(directory)


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load a local tokenizer; `<PAD>` is added when it has no padding token.

    Raises:
        ConfigError: It can't be loaded, or has no EOS: a model could never stop.
    """
    install()
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"can't load a tokenizer from {str(directory)!r}: {error}") from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"the tokenizer in {str(directory)!r} has no EOS token; answers could never end")
    if tokenizer.pad_token_id is None:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a tokenizer so that `load_tokenizer` gives it back."""
    tokenizer.save_pretrained(directory)
