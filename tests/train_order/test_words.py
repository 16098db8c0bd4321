"""Lengths in words, of woven shards and of JSON lists."""

from __future__ import annotations

import pytest
from builders import write_woven_dataset

from weave_data.shard import iter_rows
from weave_data.storage import Store
from weave_train.feed import open_source, row_lengths


@pytest.mark.parametrize("rows", [1, 53])
def test_lengths_of_a_woven_recipe_are_those_of_its_conversations(tmp_path, rows) -> None:
    uri = write_woven_dataset(
        tmp_path,
        rows=rows,
        clips_per_sample=2,
        frames_per_sample=2,
        image_px=16,
        shard_rows=20,
        row_group_rows=8,
    )
    source = open_source(uri, split="train")
    table = row_lengths(source, 0)
    expected = [
        sum(len(turn.value.split()) for turn in row.conversations)
        for row in iter_rows(source.store, source.manifest, split="train")
    ]
    assert table["length"].to_pylist() == expected
    assert all(table["is_multimodal"].to_pylist())


class CountingStore:
    """A store that says how many bytes were asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uri = store.uri
        self.num_bytes = 0

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        self.num_bytes += stop - start
        return self._store.get_range(key, start, stop)


def test_pixels_are_not_read_for_it(tmp_path) -> None:
    uri = write_woven_dataset(tmp_path, rows=40, clips_per_sample=2, frames_per_sample=16, image_px=112)
    source = open_source(uri, split="train")
    store = CountingStore(source.store)
    object.__setattr__(source, "store", store)
    row_lengths(source, 0)
    assert 0 < store.num_bytes < sum(shard.bytes for shard in source.epochs[0]) / 10
