"""Question files as VideoWeave's generators write them."""

from __future__ import annotations

import pytest

from weave_data.caption import literal_questions, read_caption_file, read_question_file
from weave_data.config.captions import QUESTION_TYPES, QuestionsConfig
from weave_data.errors import SourceError

URL = "https://ak.example.net/shutterstock/videos/{}/preview/stock-footage.mp4"


def write(folder, name: str, records: object) -> str:
    (folder / name).write_text(f"{records!s}\n", encoding="utf-8")
    return str(folder / name)


def read(uri: str, **settings: str) -> list[tuple[str, ...]]:
    table = read_question_file(uri, QuestionsConfig(file=uri, **settings)).table
    return [tuple(row.values()) for row in table.to_pylist()]


def test_a_folder_of_four_files_is_read_with_types_from_names_and_ids_from_urls(tmp_path) -> None:
    for kind in QUESTION_TYPES:
        records = [
            {"question": f"Which {kind}?", "answer": 'It\'s "that"', "file_paths": URL.format("007")},
            {"question": "é?", "answer": "a\nb", "file_paths": [URL.format(12)]},
        ]
        write(tmp_path, f"video_questions_{kind}_n=10-start=0.txt", records)
    found = read(str(tmp_path))
    assert len(found) == 8
    assert ("007", "scene", "Which scene?", 'It\'s "that"') in found
    assert ("12", "temporal", "é?", "a\nb") in found
    assert sorted({row[1] for row in found}) == sorted(QUESTION_TYPES)


def test_columns_of_the_configuration_are_keys_of_the_dicts(tmp_path) -> None:
    uri = write(tmp_path, "object.txt", [{"q": "what?", "a": "that", "file_paths": URL.format(5)}])
    assert read(uri, question_column="q", answer_column="a") == [("5", "object", "what?", "that")]
    with pytest.raises(SourceError, match=r"entry 0 has 'None' as 'question'; expected text: name the right"):
        read(uri)


GOOD = {"question": "q?", "answer": "a", "file_paths": URL.format(1)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("questions.txt", str([GOOD]), "its name must hold one of action, object, scene, temporal"),
        ("action_scene.txt", str([GOOD]), "its name must hold one of"),
        ("action.txt", "__import__('os').getcwd()", "not a Python literal"),
        ("action.txt", "[x for x in (1,)]", "not a Python literal"),
        ("action.txt", "[{'question': ", "not a Python literal"),
        ("action.txt", "-" * 100_000 + "1", "not a Python literal"),
        ("action.txt", "[" * 5000, "not a Python literal"),
        ("action.txt", "[{[]: 1}]", "not a Python literal"),
        ("action.txt", "{}", "holds a dict; expected a list"),
        ("action.txt", "[3]", "entry 0 is a int; expected a dict"),
        ("action.txt", str([GOOD | {"answer": 3}]), "entry 0 has '3' as 'answer'"),
        ("action.txt", str([GOOD | {"file_paths": [URL, URL]}]), "has 2 videos as 'file_paths'"),
        ("action.txt", str([GOOD | {"file_paths": None}]), "has None as 'file_paths'"),
        ("action.txt", str([GOOD | {"file_paths": "a.mp4"}]), "expected a URL that ends in ID/FOLDER/FILE"),
        ("action.txt", str([GOOD | {"question": " "}]), "clip 1 has a blank question"),
    ],
)
def test_what_can_not_be_read_says_why(tmp_path, name, text, message) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read(write(tmp_path, name, text))
    assert len(str(caught.value)) < 600


def test_size_and_encoding_are_bounded(tmp_path, monkeypatch) -> None:
    uri = write(tmp_path, "action.txt", [GOOD])
    monkeypatch.setattr(literal_questions, "MAX_LITERAL_BYTES", 10)
    with pytest.raises(SourceError, match="at most 10 are evaluated; split the file"):
        read(uri)
    monkeypatch.undo()
    (tmp_path / "action.txt").write_bytes(b"['\xff']")
    with pytest.raises(SourceError, match="byte 2 is not UTF-8"):
        read(uri)


def test_captions_are_not_read_from_literals(tmp_path) -> None:
    with pytest.raises(SourceError, match="of no known kind"):
        read_caption_file(write(tmp_path, "action.txt", [GOOD]))
