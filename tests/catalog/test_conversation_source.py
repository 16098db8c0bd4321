"""The kind `conversations` from files on disk to a committed catalog."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pytest

from weave_data.catalog import build_catalog, catalog_key, conversation_source, preview_catalog
from weave_data.config import SourceConfig
from weave_data.config.loading import load_config
from weave_data.errors import ConfigError, SourceError
from weave_data.storage import open_store

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
TEXT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def source(folder, files, media=("a.jpg", "b.jpg"), **settings):
    (folder / "records").mkdir(parents=True)
    for name, rows in files.items():
        lines = "\n".join(json.dumps(row) for row in rows)
        (folder / "records" / name).write_text(lines if name.endswith("l") else json.dumps(rows))
    (folder / "media").mkdir()
    for name in media:
        (folder / "media" / name).write_bytes(name.encode())
    return SourceConfig(
        kind="conversations", catalog=str(folder / "records"), videos=str(folder / "media"), **settings
    )


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "output"))


FILES = {
    "chat.json": [
        {"id": "1", "image": "a.jpg", "conversations": TURNS},
        {"id": "2", "image": "gone.jpg", "conversations": TURNS},
    ],
    "more.jsonl": [
        {"id": "train-3", "conversations": [{"images": ["b.jpg"], "user": "?", "assistant": "!"}] * 3},
        {"id": "4", "conversations": TEXT},
    ],
}


def test_files_of_records_become_clips_and_ready_made_samples(tmp_path, store):
    config = source(tmp_path, FILES)
    assert preview_catalog(config) == 4
    catalog = build_catalog(config, store)
    assert catalog.key == catalog_key(config)
    assert build_catalog(config, store) == catalog
    assert catalog.has_samples
    samples = catalog.read_samples(store).to_pylist()
    assert [(row["sample_key"], row["clip_ids"]) for row in samples] == [
        ("1", ["a.jpg"]),
        ("3", ["b.jpg"]),
        ("4", []),
    ]
    clips = pa.concat_tables([catalog.read_part(store, part) for part in catalog.parts])
    assert clips["clip_id"].to_pylist() == ["a.jpg", "b.jpg"]
    assert (catalog.count.num_in, catalog.count.num_out) == (4, 3)
    assert catalog.count.rejected == {"missing": 1}
    assert catalog.read_rejects(store)["part"].to_pylist() == ["chat"]
    assert catalog.num_unused == 2
    assert [part.name for part in catalog.parts] == ["chat-00000", "more-00000"]


def test_location_is_not_content(tmp_path):
    first = build_catalog(source(tmp_path / "x", FILES), open_store(str(tmp_path / "out1")))
    again = build_catalog(source(tmp_path / "y", FILES), open_store(str(tmp_path / "out2")))
    assert first == again


@pytest.mark.parametrize(
    "settings", [{"image_to_video": "2-frame"}, {"image_to_video": "1-frame"}, {"frames_per_video": 4}]
)
def test_settings_that_may_change_samples_change_the_key(tmp_path, settings):
    config = source(tmp_path, FILES)
    assert catalog_key(config) != catalog_key(config.model_copy(update=settings))


def test_a_large_file_is_read_in_blocks_and_its_sum_is_of_all_of_it(tmp_path, monkeypatch):
    rows = [{"id": str(i), "conversations": TEXT} for i in range(500)]
    config = source(tmp_path, {"chat.json": rows}, media=())
    monkeypatch.setattr(conversation_source, "_BLOCK_BYTES", 1000)
    path = tmp_path / "records" / "chat.json"
    path.write_bytes(path.read_bytes() + b"\n" * 5000)
    opened = conversation_source.ConversationsSource(config)
    (unit,) = opened.units()
    assert len(unit.rows) == 500
    assert unit.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(opened.identities()) == [("chat.json", unit.sha256)]


def test_text_alone_needs_no_folder_of_media(tmp_path, store):
    config = source(tmp_path, {"text.json": [{"id": "4", "conversations": TEXT}]}, media=())
    gone = config.model_copy(update={"videos": str(tmp_path / "nowhere")})
    assert preview_catalog(gone) == 1
    assert build_catalog(gone, store).num_samples == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"chat.json": [{"id": "1", "image": "x.jpg", "conversations": TURNS}]},
            "none of the records' media is",
        ),
        ({"chat.json": []}, "holds no rows"),
        ({"notes.txt": []}, "holds no .json"),
    ],
)
def test_a_source_that_can_give_nothing_is_one_clear_error(tmp_path, store, files, message):
    with pytest.raises(SourceError, match=message):
        build_catalog(source(tmp_path, files), store)


def test_a_file_that_is_not_there_is_named(tmp_path, store):
    config = source(tmp_path, FILES).model_copy(update={"catalog": str(tmp_path / "chat.json")})
    with pytest.raises(SourceError, match=r"source.catalog: .*chat.json: no such file"):
        build_catalog(config, store)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"videos": "v"}, "needs catalog"),
        ({"catalog": "c", "videos": "v", "path": "{id}"}, "path is no setting of kind conversations"),
        (
            {"catalog": "c", "videos": "v", "image_to_video": "3-frame"},
            "is not one of none, 1-frame, 2-frame",
        ),
        ({"catalog": "c", "videos": "v", "frames_per_video": 0}, "frames_per_video"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        load_config(SourceConfig, {"kind": "conversations", **values}, origin="weave.yaml")
