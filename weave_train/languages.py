"""Language ids: which published model, its architecture and its control tokens. No torch.

tiny-llama                        seeded random, two small layers; its tokenizer is trained on captions
vicuna-v15-7b, ...                a row of LANGUAGES: a repository of the hub, and how the seed used it
hf:OWNER/NAME, hf:DIR             any causal LM of transformers, from the hub or a local directory
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from weave_data.errors import ConfigError

__all__ = [
    "LANGUAGES",
    "LANGUAGE_IDS",
    "ControlTokens",
    "Family",
    "LanguageSpec",
    "language_spec",
    "round_up",
]

Family = Literal["llama2", "vicuna", "llama3", "mistral", "phi-2", "phi-3", "gemma"]

VOCABULARY_MULTIPLE = 64
"""Embedding rows are rounded up to this, as the seed does: ids past the tokenizer are never used."""


@dataclass(frozen=True)
class ControlTokens:
    """Tokens that mean something to a model.

    `pad` is what the seed adds to the tokenizer, whatever it has; `chat` are those of its chat format.
    """

    bos: str = "<s>"
    eos: str = "</s>"
    pad: str = "<PAD>"
    chat: tuple[str, ...] = ()


@dataclass(frozen=True)
class LanguageSpec:
    """One language id.

    Attributes:
        repo: Of the hub, as `OWNER/NAME`.
        family: Whose prompt format and tokenizer it has.
        is_chat: Trained to follow instructions.
        model_type: Of transformers; a local copy must be of this type.
        sizes: Published fields of its configuration.
        tokenizer_length: Of the published tokenizer.
        tokens: Its control tokens.
    """

    repo: str
    family: Family
    is_chat: bool
    model_type: str
    sizes: Mapping[str, Any]
    tokenizer_length: int
    tokens: ControlTokens = ControlTokens()

    @property
    def positions(self) -> int:
        """Longest sequence it was trained for, in tokens."""
        return int(self.sizes["max_position_embeddings"])

    @property
    def embedding_rows(self) -> int:
        """As the seed leaves them: the tokenizer and its padding token, rounded up to 64."""
        return round_up(self.tokenizer_length + 1)


def round_up(num_tokens: int) -> int:
    """Embedding rows for a tokenizer of this length."""
    return -(-num_tokens // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


_LLAMA2_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}
_LLAMA2_13B = {
    **_LLAMA2_7B,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
}
_LLAMA3_8B = {
    **_LLAMA2_7B,
    "vocab_size": 128256,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
_MISTRAL_7B = {
    **_LLAMA2_7B,
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
}
_MISTRAL_V02_7B = {**_MISTRAL_7B, "sliding_window": None, "rope_theta": 1000000.0}
_PHI_2 = {
    "vocab_size": 51200,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 2048,
    "partial_rotary_factor": 0.4,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu_new",
    "rope_theta": 10000.0,
}
_PHI_3_MINI = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "sliding_window": 2047,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}
_GEMMA_2B = {
    "vocab_size": 256000,
    "hidden_size": 2048,
    "intermediate_size": 16384,
    "num_hidden_layers": 18,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "hidden_act": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
_GEMMA_7B = {
    **_GEMMA_2B,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}

_LLAMA3_CHAT = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_LLAMA3_TOKENS = ControlTokens("<|begin_of_text|>", "<|end_of_text|>", chat=_LLAMA3_CHAT)
_LLAMA3_CHAT_TOKENS = ControlTokens("<|begin_of_text|>", "<|eot_id|>", chat=_LLAMA3_CHAT)
_PHI_2_TOKENS = ControlTokens("<|endoftext|>", "<|endoftext|>", "<|pad|>")
_PHI_3_TOKENS = ControlTokens(
    "<s>", "<|endoftext|>", "<|pad|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
)
_GEMMA_TOKENS = ControlTokens("<bos>", "<eos>", chat=("<start_of_turn>", "<end_of_turn>"))


def _llama2(repo: str, sizes: Mapping[str, Any], *, is_chat: bool = False) -> LanguageSpec:
    return LanguageSpec(f"meta-llama/{repo}", "llama2", is_chat, "llama", sizes, 32000)


def _llama3(repo: str, tokens: ControlTokens, *, is_chat: bool = False) -> LanguageSpec:
    return LanguageSpec(f"meta-llama/{repo}", "llama3", is_chat, "llama", _LLAMA3_8B, 128256, tokens)


def _vicuna(repo: str, sizes: Mapping[str, Any]) -> LanguageSpec:
    return LanguageSpec(
        f"lmsys/{repo}", "vicuna", is_chat=True, model_type="llama", sizes=sizes, tokenizer_length=32000
    )


def _mistral(repo: str, sizes: Mapping[str, Any], *, is_chat: bool = True) -> LanguageSpec:
    return LanguageSpec(f"mistralai/{repo}", "mistral", is_chat, "mistral", sizes, 32000)


def _gemma(repo: str, sizes: Mapping[str, Any]) -> LanguageSpec:
    return LanguageSpec(f"google/{repo}", "gemma", True, "gemma", sizes, 256000, _GEMMA_TOKENS)


LANGUAGES: Mapping[str, LanguageSpec] = {
    "llama2-7b-pure": _llama2("Llama-2-7b-hf", _LLAMA2_7B),
    "llama2-13b-pure": _llama2("Llama-2-13b-hf", _LLAMA2_13B),
    "llama2-7b-chat": _llama2("Llama-2-7b-chat-hf", _LLAMA2_7B, is_chat=True),
    "llama2-13b-chat": _llama2("Llama-2-13b-chat-hf", _LLAMA2_13B, is_chat=True),
    "llama3-8b-pure": _llama3("Meta-Llama-3-8B", _LLAMA3_TOKENS),
    "llama3-8b-instruct": _llama3("Meta-Llama-3-8B-Instruct", _LLAMA3_CHAT_TOKENS, is_chat=True),
    "vicuna-v15-7b": _vicuna("vicuna-7b-v1.5", _LLAMA2_7B),
    "vicuna-v15-13b": _vicuna("vicuna-13b-v1.5", _LLAMA2_13B),
    "mistral-v0.1-7b-pure": _mistral("Mistral-7B-v0.1", _MISTRAL_7B, is_chat=False),
    "mistral-v0.1-7b-instruct": _mistral("Mistral-7B-Instruct-v0.1", _MISTRAL_7B),
    "mistral-v0.2-7b-instruct": _mistral("Mistral-7B-Instruct-v0.2", _MISTRAL_V02_7B),
    "phi-2-3b": LanguageSpec("microsoft/phi-2", "phi-2", False, "phi", _PHI_2, 50295, _PHI_2_TOKENS),
    "phi-3-instruct-4b": LanguageSpec(
        "microsoft/Phi-3-mini-4k-instruct", "phi-3", True, "phi3", _PHI_3_MINI, 32011, _PHI_3_TOKENS
    ),
    "gemma-2b-instruct": _gemma("gemma-2b-it", _GEMMA_2B),
    "gemma-8b-instruct": _gemma("gemma-7b-it", _GEMMA_7B),
}
"""VideoWeave's language ids.

Source:
    The repositories' own config.json. Differs from VideoWeave: Phi-3 is a Phi-3, not a Phi-2.
"""

LANGUAGE_IDS = ("tiny-llama", *LANGUAGES, "hf:OWNER/NAME", "hf:DIR")


def language_spec(llm_backbone_id: str) -> LanguageSpec | None:
    """Row of a named id; None for `tiny-llama` and `hf:...`.

    Raises:
        ConfigError: Unknown id; the nearest one is named.
    """
    spec = LANGUAGES.get(llm_backbone_id)
    kind, _, name = llm_backbone_id.partition(":")
    if spec is None and llm_backbone_id != "tiny-llama" and (kind != "hf" or not name):
        close = difflib.get_close_matches(llm_backbone_id, LANGUAGE_IDS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(LANGUAGE_IDS)}"
        raise ConfigError(f"model.llm_backbone_id: unknown id {llm_backbone_id!r} ({hint})")
    return spec
