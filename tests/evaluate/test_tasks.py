"""Published question files are read as they are, and what is wrong in them is counted."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weave_data.errors import ConfigError, SourceError
from weave_data.storage import open_source
from weave_train.evaluate.question import QuestionSet, Span
from weave_train.evaluate.tasks.catalog import TASKS, find_task
from weave_train.evaluate.tasks.mvbench import MVBENCH_FOLDERS
from weave_train.evaluate.tasks.reading import TaskFiles, option_index


def read(task: str, folder: Path) -> QuestionSet:
    return find_task(task).read(TaskFiles(open_source(str(folder))))


def published(name: str) -> Path:
    folder = Path(os.environ.get("WEAVE_ASSETS", "")) / "qa" / name
    if not folder.is_dir():
        pytest.skip(f"WEAVE_ASSETS holds no qa/{name}: set it to a folder with the published files")
    return folder


def videomme_row(**changes: Any) -> dict[str, Any]:
    row = {
        "video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Physics",
        "url": "https://example.org", "videoID": "abc-DEF_1", "question_id": "001-1",
        "task_type": "Counting Problem", "question": "How many?", "answer": "B",
        "options": ["A. One.", "B. Two.", "C. Three.", "D. Four."],
    }  # fmt: skip
    return row | changes


def test_videomme_is_asked_by_the_papers_protocol(tmp_path: Path) -> None:
    rows = [
        videomme_row(),
        videomme_row(question_id="001-2", answer="D", duration="long"),
        videomme_row(question_id="001-3", options=["A. One.", "B. Two."]),
        videomme_row(question_id="001-4", answer="E"),
    ]
    (tmp_path / "videomme").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "videomme" / "test-00000-of-00001.parquet")
    found = read("videomme", tmp_path)
    assert [(q.id, q.answer_index) for q in found.questions] == [("001-1", 1), ("001-2", 3)]
    assert [(row.id, row.reason) for row in found.lost] == [
        ("001-3", "unreadable-row"),
        ("001-4", "unreadable-row"),
    ]
    question = found.questions[0]
    assert question.video == "abc-DEF_1"
    assert question.options == ("One.", "Two.", "Three.", "Four.")
    assert question.tags["duration"] == "short"
    assert question.prompt == (
        "Select the best answer to the following multiple-choice question based on the video and the "
        "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n"
        "How many?\nA. One.\nB. Two.\nC. Three.\nD. Four.\n\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert TASKS["videomme"].max_new_tokens == 16


def test_nextqa_as_published() -> None:
    folder = published("nextqa")
    found = read("nextqa", folder)
    assert len(found.questions) == 4996
    assert not found.lost
    with (folder / "val.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for question, row in zip(found.questions, rows, strict=True):
        assert question.options[question.answer_index or 0] == row[f"a{row['answer']}"].strip()
    assert found.questions[0].folder == json.loads((folder / "map_vid_vidorID.json").read_text())[
        rows[0]["video"]
    ].rpartition("/")[0]  # fmt: skip
    assert Counter(q.tags["kind"] for q in found.questions).keys() == {"causal", "temporal", "descriptive"}


def test_open_nextqa_takes_both_answers(tmp_path: Path) -> None:
    (tmp_path / "OE").mkdir()
    (tmp_path / "OE" / "val.csv").write_text(
        "video,frame_count,width,height,question,answer,qid,type,additional_ref_answer\n"
        "123,10,64,48,what does the boy do,kick the ball,1,DO,play football\n"
        '124,10,64,48,"why, then",,2,CW,\n'
    )
    found = read("nextqa-oe", tmp_path)
    assert [q.references for q in found.questions] == [("kick the ball", "play football")]
    assert found.questions[0].prompt.startswith("What does the boy do?\n")
    assert [(row.id, row.detail) for row in found.lost] == [("124_2", "answer '' is no text")]


def test_mvbench_as_published() -> None:
    folder = published("mvbench")
    found = read("mvbench", folder)
    assert Counter(q.tags["kind"] for q in found.questions) == dict.fromkeys(MVBENCH_FOLDERS, 200)
    assert not found.lost
    for kind in MVBENCH_FOLDERS:
        rows = json.loads((folder / f"{kind}.json").read_text())
        of_kind = [q for q in found.questions if q.tags["kind"] == kind]
        for question, row in zip(of_kind, rows, strict=True):
            assert question.options[question.answer_index or 0] == str(row["answer"]).strip()
            if "start" in row:
                assert question.span == Span(row["start"], max(row["end"], row["start"] + 0.001))


def test_activitynet_qa_as_published() -> None:
    folder = published("activitynet_qa")
    found = read("activitynet-qa", folder)
    assert len(found.questions) == 8000
    answers = {row["question_id"]: row for row in json.loads((folder / "test_a.json").read_text())}
    assert all(q.references == (str(answers[q.id]["answer"]).strip(),) for q in found.questions)
    assert all((q.video or "").startswith("v_") for q in found.questions)


def test_tempcompass_egoschema_and_mlvu_in_their_published_forms(tmp_path: Path) -> None:
    (tmp_path / "multi-choice.json").write_text(
        json.dumps({"1": {"speed": [{"question": "How fast?\nA. slow\nB. fast", "answer": "B. fast"}]}})
    )
    (tmp_path / "yes_no.json").write_text(
        json.dumps({"1": {"order": [{"question": "Is it red?", "answer": "No"}]}})
    )
    matching = {"question": "Which fits?\nSentence A: a\nSentence B: b", "answer": "Sentence B: b"}
    (tmp_path / "caption_matching.json").write_text(json.dumps({"1": {"action": [matching]}}))
    found = read("tempcompass", tmp_path)
    assert [(q.text, q.options, q.answer_index) for q in found.questions] == [
        ("How fast?", ("slow", "fast"), 1), ("Is it red?", ("yes", "no"), 1), ("Which fits?", ("a", "b"), 1),
    ]  # fmt: skip

    options = {f"option {number}": f"choice {number}" for number in range(5)}
    rows = [{"q_uid": name, "google_drive_id": "x", "question": "Why?", **options} for name in ("u1", "u2")]
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    (tmp_path / "subset_answers.json").write_text(json.dumps({"u2": 4}))
    found = read("egoschema", tmp_path)
    assert [(q.id, q.video, q.answer_index) for q in found.questions] == [("u2", "u2", 4)]

    row = {"video": "a.mp4", "duration": 3, "question": "Which?", "candidates": ["x", "y"], "answer": "y"}
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "1_plotQA.json").write_text(json.dumps([{**row, "question_type": "plotQA"}]))
    found = read("mlvu", tmp_path)
    assert [(q.id, q.answer_index, q.tags) for q in found.questions] == [
        ("1_plotQA-0", 1, {"type": "plotQA"})
    ]


@pytest.mark.parametrize(
    ("rows", "detail"),
    [
        ('1,"how many,3,1,CC\n2,what,a dog,2,DO\n', "begins in line 3 is no CSV .unexpected end of data"),
        ('1,"how many,3,1,CC\n2,"what, then",a dog,2,DO\n', "begins in line 3 is no CSV"),
        (f'1,"{"how many " * 20000}",3,1,CC\n', "begins in line 3 is no CSV .field larger than"),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_question(rows: str, detail: str, tmp_path: Path) -> None:
    (tmp_path / "OE").mkdir()
    (tmp_path / "OE" / "val.csv").write_text(f'video,question,answer,qid,type\n0,"why,\n so",x,0,CW\n{rows}')
    detail = detail.replace("line 3", "line 4")  # the good row takes two lines
    with pytest.raises(SourceError, match=rf"OE/val\.csv: the row that {detail}"):
        read("nextqa-oe", tmp_path)


def test_files_of_another_shape_are_named(tmp_path: Path) -> None:
    for values, problem in [
        ([], "holds a list, not one JSON object"),
        ({"1": [{"question": "?"}]}, "video '1' holds no lists of questions by dimension"),
        ({"1": {"speed": {"question": "?"}}}, "video '1' holds no lists of questions by dimension"),
    ]:
        (tmp_path / "yes_no.json").write_text(json.dumps(values))
        with pytest.raises(SourceError, match=rf"yes_no\.json: {problem}; give the file as it was"):
            read("tempcompass", tmp_path)
    (tmp_path / "val.csv").write_text("video,question,answer,qid,type,a0,a1,a2,a3,a4\n")
    for values, problem in [(["1"], "holds a list"), ({"1": 2}, "'1' is mapped to 2, not to a path")]:
        (tmp_path / "map_vid_vidorID.json").write_text(json.dumps(values))
        with pytest.raises(SourceError, match=rf"map_vid_vidorID\.json: {problem}"):
            read("nextqa", tmp_path)


def test_kinds_whose_file_is_missing_are_told(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "question": "What?", "candidates": ["x", "y"], "answer": "y"}
    (tmp_path / "action_antonym.json").write_text(json.dumps([row]))
    assert read("mvbench", tmp_path).missing_kinds == tuple(MVBENCH_FOLDERS)[1:]
    (tmp_path / "yes_no.json").write_text(json.dumps({"1": {"order": [{"question": "?", "answer": "No"}]}}))
    assert read("tempcompass", tmp_path).missing_kinds == ("multi-choice", "caption_matching")


def test_answers_without_a_question_are_counted_and_none_that_matches_is_an_error(tmp_path: Path) -> None:
    options = {f"option {number}": f"choice {number}" for number in range(5)}
    lines = [json.dumps({"q_uid": name, "question": "Why?", **options}) for name in ("u1", "u2", "u3")]
    (tmp_path / "questions.json").write_text("\n".join([*lines, '{"q_uid": ']))
    (tmp_path / "subset_answers.json").write_text(json.dumps({"u2": 4, "u8": 1, "u9": 2}))
    found = read("egoschema", tmp_path)
    assert found.left_out == {"answers without a question": 2, "questions without a published answer": 2}
    assert [(len(found.questions), row.reason) for row in found.lost] == [(1, "unreadable-row")]
    (tmp_path / "subset_answers.json").write_text(json.dumps({"u8": 1}))
    with pytest.raises(
        SourceError, match=r"none of the 1 answers is to one of its \d questions; give questions"
    ):
        read("egoschema", tmp_path)

    (tmp_path / "test_q.json").write_text(
        json.dumps([{"question_id": "1", "question": "?", "video_name": "v"}])
    )
    answers = [{"question_id": name, "answer": "x", "type": 0} for name in "12"]
    (tmp_path / "test_a.json").write_text(json.dumps(answers))
    assert read("activitynet-qa", tmp_path).left_out == {"answers without a question": 1}
    (tmp_path / "test_a.json").write_text(json.dumps(answers[1:]))
    with pytest.raises(SourceError, match="none of the 1 answers is to one of its 1 questions"):
        read("activitynet-qa", tmp_path)


def test_captions_are_read_with_one_reference_or_many(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "video": "a.mp4", "captions": ["a dot", "a red dot"]},
        {"id": "b", "video": "b.mp4", "caption": "a box"},
        {"id": "c", "video": "c.mp4", "captions": "not a list"},
    ]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read("captions", tmp_path)
    assert [q.references for q in found.questions] == [("a dot", "a red dot"), ("a box",)]
    assert [row.id for row in found.lost] == ["c"]


@pytest.mark.parametrize(("answer", "index"), [(1, 1), ("1", 1), ("B", 1), ("b", 1), ("two", 1), ("one", 0)])
def test_an_answer_is_a_number_a_letter_or_a_text(answer: object, index: int) -> None:
    assert option_index(answer, ["one", "two", "three"]) == index


def test_options_that_are_numbers_are_meant_by_their_text() -> None:
    assert option_index("3", ["3", "2", "4"]) == 0
    assert option_index(2, ["3", "2", "4"]) == 2


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({"options": ["x", "y"], "answer": "z"}, "answer 'z' is none of the options"),
        ({"options": ["x", "y"], "answer": 2}, "answer 2 is none of 0 to 1"),
        ({"options": ["x", "y"], "answer": True}, "answer True is none of the options"),
        ({"options": list("abcdefghijklmnopqrstuvwxyz1"), "answer": 0}, "27 options; a choice has 1 to 26"),
        ({"options": ["x", "y"]}, "no 'answer'"),
        ({"options": ["x", "y"], "answer": 0, "style": "open"}, "style 'open' with 2 options"),
        ({"answer": "x", "optoins": []}, "unknown field 'optoins'"),
        ({"options": ["x", "y"], "answer": 0, "start": 3, "end": 2}, "no part of a video"),
        ({"options": ["x", "y"], "answer": 0, "question": " "}, "question ' ' is no text"),
    ],
)
def test_a_row_that_is_no_question_is_lost_with_its_reason(
    row: dict[str, Any], detail: str, tmp_path: Path
) -> None:
    rows = [{"id": "bad", "video": "v.mp4", "question": "What?", **row}]
    (tmp_path / "questions.jsonl").write_text(json.dumps(rows[0]) + "\n")
    found = read("questions", tmp_path)
    assert not found.questions
    assert detail in found.lost[0].detail


def test_files_that_do_not_fit_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no questions\.jsonl"):
        read("questions", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'videomme'"):
        find_task("video-mme")
    (tmp_path / "val.csv").write_text("video,question\n1,what\n")
    with pytest.raises(SourceError, match="has no column answer, qid, type"):
        read("nextqa", tmp_path)
    (tmp_path / "questions.jsonl").write_text("")
    with pytest.raises(SourceError, match="has no row"):
        read("questions", tmp_path)
