"""A token index says what training would find out: lengths are those of encoded rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import CountingStore, make_world, publish_world, write_woven_dataset
from mixed_rows import mixed_world
from tiny_rows import CAPTIONS

from weave_data.errors import CommitError, ConfigError, VerificationError
from weave_data.storage import open_store
from weave_train import cli
from weave_train.config import ModelSettings, load_pretrain_config
from weave_train.feed import (
    WovenSource,
    count_tokens,
    heaviest_row,
    index_key,
    index_place,
    open_source,
    read_index,
    spread_groups,
    summarize,
    write_index,
)
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.rows import prompt as rows_module
from weave_train.rows.batch import EncodedRow, make_row
from weave_train.rows.placement import splice_visual
from weave_train.rows.prompt import VISUAL_TOKEN_ID, Encoded
from weave_train.train.token_lengths import index_data_sets

SETTINGS = ModelSettings(precision="fp32", llm_max_length=256)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_caption_tokenizer(CAPTIONS, vocab_size=300)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> WovenSource:
    root = tmp_path_factory.mktemp("mixed")
    world = mixed_world()
    publish_world(world, open_store(str(root)))
    return open_source(f"{root}/{world.configuration['recipe']['name']}", split="train")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> WovenSource:
    """T = 16, two stored epochs, a short last group."""
    root = tmp_path_factory.mktemp("long")
    publish_world(make_world(rows=18, num_epochs=2), open_store(str(root)))
    return open_source(f"{root}/l4", split="train")


def encoded_rows(source: WovenSource, tokenizer: Any, settings: ModelSettings) -> list[EncodedRow | None]:
    """What training makes of every row, in reading order; None where it refuses the row."""
    rows: list[EncodedRow | None] = []
    for data_epoch, shards in enumerate(source.shard_rows):
        for shard_index, count in enumerate(shards):
            for group_index in range(-(-count // source.group_rows)):
                table = source.read(data_epoch, shard_index, group_index, epoch=data_epoch)
                for row in table.to_pylist():
                    try:
                        rows.append(make_row(row, tokenizer=tokenizer, settings=settings))
                    except ConfigError:
                        rows.append(None)
    return rows


def check_equal(index: pa.Table, rows: list[EncodedRow | None]) -> None:
    assert index.num_rows == len(rows)
    for line, row in zip(index.to_pylist(), rows, strict=True):
        expected = (
            (0, 0, 0)
            if row is None
            else (len(row.input_ids), int((row.input_ids == VISUAL_TOKEN_ID).sum()), row.num_supervised)
        )
        assert (line["kept_tokens"], line["visual_tokens"], line["supervised_tokens"]) == expected
        if row is not None:
            assert line["num_frames"] == len(row.pixels)


@pytest.mark.parametrize("kind", ["mixed", "long"])
def test_lengths_are_those_of_encoded_rows(kind: str, request, tokenizer) -> None:
    source = request.getfixturevalue(kind)
    index = count_tokens(source, tokenizer=tokenizer, settings=SETTINGS)
    rows = encoded_rows(source, tokenizer, SETTINGS)
    assert None not in rows
    check_equal(index, rows)
    if kind == "mixed":
        assert set(index["num_frames"].to_pylist()) == {0, 1, 4}
    else:
        assert set(index["num_frames"].to_pylist()) == {16}
        assert set(index["data_epoch"].to_pylist()) == {0, 1}


def test_cut_and_refused_rows_are_those_of_training(long: WovenSource, tokenizer) -> None:
    whole = count_tokens(long, tokenizer=tokenizer, settings=SETTINGS)
    text = whole["tokens"].to_numpy() - whole["visual_tokens"].to_numpy()
    question = text.min() - whole["supervised_tokens"].to_numpy().min()
    room = 64 + int(question)  # T * P and the question: nothing of the answer fits
    refused = SETTINGS.model_copy(update={"llm_max_length": room})
    cut = SETTINGS.model_copy(update={"llm_max_length": int(whole["tokens"].to_numpy().max()) - 1})
    for settings in (refused, cut):
        index = count_tokens(long, tokenizer=tokenizer, settings=settings)
        check_equal(index, encoded_rows(long, tokenizer, settings))
        assert index["tokens"].equals(whole["tokens"])
    assert summarize(count_tokens(long, tokenizer=tokenizer, settings=refused)).unfit == 36
    summary = summarize(count_tokens(long, tokenizer=tokenizer, settings=cut))
    assert (summary.unfit, summary.longest) == (0, cut.llm_max_length + 1)
    assert summary.cut == int((whole["tokens"].to_numpy() == summary.longest).sum())
    assert summary.tokens == int(whole["tokens"].to_numpy().sum()) - summary.cut


def test_no_pixel_is_read(tmp_path: Path, tokenizer) -> None:
    uri = write_woven_dataset(tmp_path, rows=24, image_px=128)
    source = open_source(uri, split="train")
    counting = CountingStore(source.store)
    source = WovenSource(source.uri, counting, source.manifest, source.split, source.epochs)
    count_tokens(source, tokenizer=tokenizer, settings=SETTINGS)
    footers = 2
    groups = counting.named("get_range")[:]
    assert len(groups) <= 6 + 2 * footers
    stored = sum(shard.bytes for shard in source.manifest.shards)
    assert counting.read_bytes() < 0.1 * stored


def test_the_heaviest_row_is_the_longest_then_that_of_most_frames_and_a_refused_one_before_all() -> None:
    table = pa.table({"kept_tokens": [5, 9, 9, 7], "num_frames": [9, 1, 2, 3]})
    assert heaviest_row(table) == 2
    assert heaviest_row(pa.table({"kept_tokens": [5, 9, 0, 0], "num_frames": [9, 1, 2, 3]})) == 2


def test_a_sample_spreads_over_all_stored_epochs(long: WovenSource) -> None:
    groups = spread_groups(long, num_groups=4)
    assert len(groups) == 4
    assert {epoch for epoch, _, _ in groups} == {0, 1}
    assert len(spread_groups(long, num_groups=1000)) == 10


def test_what_changes_a_length_changes_the_key(
    long: WovenSource, mixed: WovenSource, tokenizer, monkeypatch
) -> None:
    ours = index_key(long, tokenizer, SETTINGS)
    other = train_caption_tokenizer(CAPTIONS, vocab_size=299)
    assert index_key(long, other, SETTINGS) != ours
    assert index_key(mixed, tokenizer, SETTINGS) != ours
    for change in ({"llm_max_length": 255}, {"vision_backbone_id": "clip-vit-b"}):
        assert index_key(long, tokenizer, SETTINGS.model_copy(update=change)) != ours
    for same in ({"seed": 8}, {"llm_backbone_id": "hf:/elsewhere"}, {"precision": "bf16"}):
        assert index_key(long, tokenizer, SETTINGS.model_copy(update=same)) == ours
    tokenizer("padding and truncation set in passing", padding="max_length", max_length=40, truncation=True)
    assert index_key(long, tokenizer, SETTINGS) == ours

    def after_the_text(encoded: Encoded, num_visual: int, *, start: int) -> Encoded:
        moved = splice_visual(encoded, num_visual, start=start)
        return Encoded(moved.input_ids.roll(-num_visual), moved.labels.roll(-num_visual))

    monkeypatch.setattr(rows_module, "splice_visual", after_the_text)
    assert index_key(long, tokenizer, SETTINGS) != ours


def test_an_index_is_committed_once_and_checked_when_it_is_read(tmp_path: Path, tokenizer) -> None:
    source = open_source(write_woven_dataset(tmp_path, rows=9), split="train")
    place = index_place(source, index_key(source, tokenizer, SETTINGS), readonly=False)
    assert place.key.startswith("l4/tokens/")
    assert read_index(place, source) is None
    index = count_tokens(source, tokenizer=tokenizer, settings=SETTINGS)
    write_index(place, index)
    write_index(place, index)
    assert read_index(place, source).equals(index)
    with pytest.raises(CommitError, match="sha256"):
        write_index(place, index.slice(1))
    elsewhere = index_place(source, "short", to=str(tmp_path / "other"), readonly=False)
    write_index(elsewhere, index.slice(1))
    with pytest.raises(VerificationError, match="has 8 rows, the recipe 9"):
        read_index(elsewhere, source)


def test_the_command_writes_an_index_and_takes_it_the_second_time(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    uri = write_woven_dataset(tmp_path / "woven", rows=9)
    for where in ([], ["--to", str(tmp_path / "kept")]):
        for _ in range(2):
            monkeypatch.setattr("sys.argv", ["weave-train", "index", uri, "--model.type", "tiny", *where])
            with pytest.raises(SystemExit) as caught:
                cli.main()
            assert not caught.value.code
    shown = capsys.readouterr().out.splitlines()
    assert [line.endswith("(was there)") for line in shown if " index " in line] == [False, True, False, True]
    assert "  rows         9" in shown
    assert len(list(tmp_path.glob("woven/l4/tokens/*.parquet"))) == 1
    assert len(list(tmp_path.glob("kept/*.parquet"))) == 1


def test_each_data_set_of_a_mixture_has_its_own(tmp_path: Path) -> None:
    uris = [write_woven_dataset(tmp_path / name, rows=8, seed=seed) for seed, name in enumerate("ab")]
    parts = [{"name": name, "slots": 2, "manifest": uri} for name, uri in zip("ab", uris, strict=True)]
    config = load_pretrain_config(
        [], values={"model": {"type": "tiny", "finetune_global_batch_size": 4}, "dataset": {"mixture": parts}}
    )
    found = list(index_data_sets(config))
    assert [each.name for each in found] == ["a", "b"]
    assert all(each.summary.rows == 8 for each in found)
    assert len({each.uri.rpartition("/")[2] for each in found}) == 2
