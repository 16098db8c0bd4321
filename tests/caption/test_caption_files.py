"""Claims about captions and questions that come in files."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weave_data.caption import (
    question_samples,
    read_caption_file,
    read_question_file,
    read_texts,
    replace_captions,
)
from weave_data.config import RecipeConfig
from weave_data.config.captions import QUESTION_TYPES, CaptionsConfig, QuestionsConfig
from weave_data.errors import SourceError
from weave_data.records import REJECT_SCHEMA, SAMPLE_SCHEMA, clips_table

RECORDS = [{"video_id": "007", "text": "A dog,\nrunning"}, {"video_id": "12", "text": "Ein Kätzchen"}]
FORMS = {
    "list.json": json.dumps(RECORDS),
    "mapping.json": json.dumps({"0": RECORDS[0], "1": RECORDS[1]}),
    "pairs.json": json.dumps({row["video_id"]: row["text"] for row in RECORDS}),
    "lines.jsonl": "\n".join(json.dumps(row) for row in RECORDS) + "\n",
    "table.csv": 'other,text,video_id\nx,"A dog,\nrunning",007\ny,Ein Kätzchen,12\n',
}


def write(folder, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_every_form_of_a_caption_file_reads_the_same(tmp_path, name) -> None:
    uri = write(tmp_path, name, FORMS[name])
    read = read_caption_file(uri, id_column="video_id", caption_column="text")
    assert read.table.to_pydict() == {
        "clip_id": ["007", "12"],
        "caption": ["A dog,\nrunning", "Ein Kätzchen"],
    }
    assert read.sha256 == hashlib.sha256(FORMS[name].encode()).hexdigest()


def test_whole_numbers_are_ids_and_blank_captions_are_left_out(tmp_path) -> None:
    pq.write_table(pa.table({"clip_id": [7, 8], "caption": ["a", " "]}), tmp_path / "c.parquet")
    read = read_caption_file(str(tmp_path / "c.parquet"))
    assert (read.table.to_pydict(), read.num_blank) == ({"clip_id": ["7"], "caption": ["a"]}, 1)


def test_a_folder_is_all_of_its_files_and_known_by_their_content(tmp_path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, f"a-{folder}.json", '[{"clip_id": 1, "caption": "x"}]')
        write(tmp_path / folder, f"b-{folder}.json", '[{"clip_id": 2, "caption": "y"}]')
    one, two = (read_caption_file(str(tmp_path / folder)) for folder in ("one", "two"))
    assert one.table.to_pydict() == {"clip_id": ["1", "2"], "caption": ["x", "y"]}
    assert one.sha256 == two.sha256


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,caption\n1,x\n", r"no column 'clip_id'; it has"),
        ("a.csv", "clip_id,caption\n1\n", "not a readable CSV"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "3", "a int; expected a list or a mapping"),
        ("a.json", "[3]", "entry 0 is a int"),
        ("a.json", '[{"clip_id": 1, "caption": null}]', "'caption' is null in record 0"),
        ("a.json", '[{"clip_id": 1.5, "caption": "x"}]', "holds 1.5; expected text"),
        ("a.jsonl", '{"clip_id": 1, "caption": "x"}\nno\n', "a.jsonl:2: not valid JSON"),
        ("a.parquet", "no", "not a readable Parquet file"),
        ("a.txt", "no", "of no known kind"),
        ("a.json", '[{"clip_id": 1, "caption": "x"}, {"clip_id": "1", "caption": "y"}]', "clip 1 has two"),
    ],
)
def test_a_caption_file_of_another_form_is_an_error(tmp_path, name, text, message) -> None:
    with pytest.raises(SourceError, match=message):
        read_caption_file(write(tmp_path, name, text))


def test_a_file_that_is_not_utf8_is_an_error(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"clip_id": 1, "caption": "caf\xe9"}')
    with pytest.raises(SourceError, match="byte 30 is not UTF-8"):
        read_caption_file(str(tmp_path / "a.jsonl"))


CLIPS = clips_table(
    {
        "clip_id": ["b", "a", "c"],
        "key": ["b.mp4", "a.mp4", "c.mp4"],
        "caption": list("BAC"),
        "size_bytes": [1] * 3,
    }
)
CAPTIONS = pa.table({"clip_id": ["x", "c", "b"], "caption": ["new x", "new c", "new b"]})


@pytest.mark.parametrize(
    ("missing", "expected", "refused"),
    [("original", ["new b", "A", "new c"], []), ("drop", ["new b", "new c"], ["a"])],
)
def test_captions_are_replaced_by_id_and_missing_ones_counted(missing, expected, refused) -> None:
    clips, rejects, num_missing = replace_captions(CLIPS, CAPTIONS, missing=missing, recipe="r")
    assert clips["caption"].to_pylist() == expected
    assert clips.schema.equals(CLIPS.schema)
    assert rejects.schema.equals(REJECT_SCHEMA)
    assert rejects["clip_id"].to_pylist() == refused
    assert clips.num_rows + rejects.num_rows == CLIPS.num_rows
    assert num_missing == 1


def test_a_missing_caption_stops_the_build_unless_a_policy_is_given() -> None:
    with pytest.raises(SourceError, match=r"no caption for 1 of 3 clips: a; add them"):
        replace_captions(CLIPS, CAPTIONS, missing="error")


def questions(*rows: tuple[str, str]) -> pa.Table:
    return pa.table(
        {
            "clip_id": [clip for clip, _ in rows],
            "type": [kind for _, kind in rows],
            "question": [f"{kind} of {clip}?" for clip, kind in rows],
            "answer": [f"{place}" for place in range(len(rows))],
        }
    )


def test_a_clip_gives_one_sample_per_type_in_fixed_order() -> None:
    rows = [(clip, kind) for kind in reversed(QUESTION_TYPES) for clip in ("a", "c", "unknown")]
    samples = question_samples(CLIPS, questions(*rows))
    assert samples.schema.equals(SAMPLE_SCHEMA)
    assert samples["sample_key"].to_pylist() == [
        f"{c}/{kind}/0" for c in ("a", "c") for kind in QUESTION_TYPES
    ]
    assert samples["clip_ids"].to_pylist() == [["a"]] * 4 + [["c"]] * 4
    first = samples["conversations"][0].as_py()
    assert [turn["value"] for turn in first] == ["<image>\naction of a?", "9"]


def test_questions_of_one_type_are_numbered_in_file_order() -> None:
    table = questions(("a", "scene"), ("b", "scene"), ("a", "scene"))
    samples = question_samples(CLIPS, table, types=["scene"])
    assert samples["sample_key"].to_pylist() == ["b/scene/0", "a/scene/0", "a/scene/1"]
    assert [turns[1]["value"] for turns in samples["conversations"].to_pylist()] == ["1", "0", "2"]


@pytest.mark.parametrize(("incomplete", "expected"), [("keep", ["b/scene/0", "a/scene/0"]), ("drop", [])])
def test_a_clip_that_lacks_a_type_follows_the_policy(incomplete, expected) -> None:
    table = questions(("a", "scene"), ("b", "scene"))
    samples = question_samples(CLIPS, table, types=["scene", "action"], incomplete=incomplete)
    assert samples["sample_key"].to_pylist() == expected
    with pytest.raises(SourceError, match="2 clips lack one of the types scene, action, the first is a"):
        question_samples(CLIPS, table, types=["scene", "action"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"type": "mood", "question": "q", "answer": "a"}, "'mood' is not one of the types"),
        ({"type": "scene", "question": " ", "answer": "a"}, "clip 1 has a blank question"),
        ({"type": "scene", "question": "q", "answer": ""}, "clip 1 has a blank answer"),
    ],
)
def test_questions_are_validated(tmp_path, row, message) -> None:
    uri = write(tmp_path, "q.json", json.dumps([{"clip_id": "1", **row}]))
    with pytest.raises(SourceError, match=message):
        read_question_file(uri, QuestionsConfig(file=uri))


def test_a_recipes_settings_know_files_by_content_alone(tmp_path) -> None:
    text = '[{"clip_id": 1, "caption": "x"}]'
    settings = []
    for name in ("a.json", "b.json"):
        captions = CaptionsConfig(file=write(tmp_path, name, text))
        settings.append(read_texts(RecipeConfig(name="r", strategy="single", captions=captions)).settings)
    assert settings[0] == settings[1]
    assert settings[0]["captions"]["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert str(tmp_path) not in json.dumps(settings)
