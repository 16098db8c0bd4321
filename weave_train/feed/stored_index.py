"""Where token indexes lie, and which one is a run's.

    OUTPUT/<recipe>/tokens/<key>.parquet     or DIR/<key>.parquet

The key is a hash of everything a length depends on: rows, tokenizer, prompt format, where visual tokens
go and how many they are, the longest sequence. How a prompt is written is code: it enters by what it makes
of a few conversations, so that an index is never taken for another's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from weave_data.errors import ConfigError, VerificationError
from weave_data.records import canonical_json
from weave_data.storage import Store, commit_exact, open_store
from weave_data.tables import read_table_bytes, table_bytes
from weave_train.config import ModelSettings
from weave_train.feed.source import WovenSource
from weave_train.feed.token_index import TOKEN_INDEX_SCHEMA
from weave_train.rows.batch import encode_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IndexPlace", "index_key", "index_place", "read_index", "write_index"]

_INDEX_VERSION = 1  # of TOKEN_INDEX_SCHEMA
_KEY_DIGITS = 32
_PROBES: tuple[tuple[str, ...], ...] = (
    ("<image>\nWhat moves?", "A red dot, 3 times."),
    ("Compare <image> and <image>.", "Ça va:  </s> <s>\t", " and then?\n", "Nothing."),
)
_PROBED_CLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (3,), (2, 1))


@dataclass(frozen=True)
class IndexPlace:
    """An index's store and key."""

    store: Store
    key: str

    @property
    def uri(self) -> str:
        """Where it lies."""
        return f"{self.store.uri}/{self.key}"


def index_key(source: WovenSource, tokenizer: PreTrainedTokenizerBase, settings: ModelSettings) -> str:
    """Hash of everything an index depends on."""
    probes = [
        _probe(values, clip_frames, tokenizer, settings)
        for values in _PROBES
        for clip_frames in _PROBED_CLIPS
    ]
    parts = [
        _INDEX_VERSION,
        source.fingerprint,
        source.split,
        _tokenizer_state(tokenizer),
        settings.llm_max_length,
        probes,
    ]
    return hashlib.sha256(canonical_json(parts)).hexdigest()[:_KEY_DIGITS]


def index_place(source: WovenSource, key: str, *, to: str | None = None, readonly: bool = True) -> IndexPlace:
    """Where an index of that key lies.

    Args:
        source: Of the rows.
        key: Of `index_key`.
        to: Directory or URI; None: beside the manifest.
        readonly: It is not written.
    """
    if to is not None:
        return IndexPlace(open_store(to, readonly=readonly), f"{key}.parquet")
    store = open_store(source.store.uri, readonly=readonly)
    return IndexPlace(store, f"{source.manifest.recipe}/tokens/{key}.parquet")


def read_index(place: IndexPlace, source: WovenSource) -> pa.Table | None:
    """The index that lies there, or None.

    Raises:
        StoreError: The store can't be reached.
        VerificationError: It is damaged.
    """
    if place.store.head(place.key) is None:
        return None
    try:
        index = read_table_bytes(place.store.get(place.key), schema=TOKEN_INDEX_SCHEMA)
    except VerificationError as error:
        raise VerificationError(f"{place.uri}: {error}") from error
    rows = sum(sum(shards) for shards in source.shard_rows)
    if index.num_rows != rows:
        raise VerificationError(
            f"{place.uri}: has {index.num_rows} rows, the recipe {rows}; delete it and run weave-train index"
        )
    return index


def write_index(place: IndexPlace, index: pa.Table) -> None:
    """Commit an index; equal bytes that are already there are as good.

    Raises:
        StoreError: It can't be written.
        CommitError: Another index lies there.
    """
    commit_exact(place.store, place.key, table_bytes(index))


def _probe(
    values: tuple[str, ...],
    clip_frames: tuple[int, ...],
    tokenizer: PreTrainedTokenizerBase,
    settings: ModelSettings,
) -> Any:
    turns = [{"from": ("human", "gpt")[index % 2], "value": value} for index, value in enumerate(values)]
    try:
        encoded = encode_turns(turns, clip_frames=clip_frames, tokenizer=tokenizer, settings=settings)
    except ConfigError as error:
        return str(error)  # refused is an answer, too
    return [encoded.input_ids.tolist(), encoded.labels.tolist()]


def _tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Whole: vocabulary, merges, normaliser. Without what encoding sets in passing."""
    control = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [control, sorted(tokenizer.get_vocab().items())]
    state = json.loads(backend.to_str())
    return [control, {name: value for name, value in state.items() if name not in ("truncation", "padding")}]
