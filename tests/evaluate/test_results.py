"""What an evaluation publishes: figures by tag, open answers' scores, what was not answered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tasks import videomme_row
from tiny_rows import jpeg

from weave_train.config import ModelSettings
from weave_train.evaluate.answer import read_answers
from weave_train.evaluate.run import Evaluation, evaluate_task
from weave_train.evaluate.tasks.catalog import TASKS, Task
from weave_train.evaluate.tasks.mvbench import MVBENCH_FOLDERS
from weave_train.evaluate.weights import PinnedModel
from weave_train.models.model import VideoLanguageModel, build_model

WORDNET = Path("/usr/share/wordnet")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three videos as folders of frames."""
    for number in range(3):
        folder = tmp_path / "data" / f"v{number}"
        folder.mkdir(parents=True)
        for index in range(4):
            (folder / f"{index}.jpg").write_bytes(jpeg((60 * number, 50 * index, 0)))
    return tmp_path / "data"


def evaluated(task: Task, data: Path, vlm: VideoLanguageModel, **changes: object) -> dict[str, object]:
    asked = replace(Evaluation(PinnedModel("tiny", "step 30"), str(data), data.parent / "to"), **changes)  # type: ignore[arg-type]
    evaluate_task(asked, task, vlm)
    found: dict[str, object] = json.loads((asked.to / task.name / "results.json").read_text())
    return found


def test_videomme_is_scored_by_duration_domain_and_task_type(data: Path, vlm: VideoLanguageModel) -> None:
    rows = [
        videomme_row(
            question_id=f"{number}", videoID=f"v{number % 3}",
            duration=("short", "medium", "long")[number % 3],
            domain="Knowledge" if number < 4 else "Sports", task_type=f"type {number % 2}",
        )
        for number in range(6)
    ]  # fmt: skip
    (data / "videomme").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), data / "videomme" / "test-00000-of-00001.parquet")
    settings = ModelSettings(precision="fp32", llm_max_length=512, num_frames=4)  # the paper's prompt is long
    found = evaluated(TASKS["videomme"], data, build_model(settings, vlm.tokenizer))["modes"]["frames"]  # type: ignore[index]
    counts = {
        tag: {value: of["count"] for value, of in values.items()} for tag, values in found["by"].items()
    }
    assert counts == {
        "duration": {"long": 2, "medium": 2, "short": 2},
        "domain": {"Knowledge": 4, "Sports": 2},
        "sub_category": {"Physics": 6},
        "task_type": {"type 0": 3, "type 1": 3},
    }
    answers = [a for a in read_answers(data.parent / "to" / "videomme") if a.mode == "frames"]
    for metric in ("generated", "likelihood"):
        scores = [a.scores[metric] for a in answers if a.tags["domain"] == "Knowledge"]
        mean = found["by"]["domain"]["Knowledge"]["scores"][metric]["mean"]
        assert mean == pytest.approx(sum(scores) / 4)


def test_captions_are_written_and_scored(data: Path, vlm: VideoLanguageModel) -> None:
    rows = [{"id": f"c{n}", "video": f"v{n}", "captions": ["a red dot", "dots move"]} for n in range(3)]
    (data / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluated(TASKS["captions"], data, vlm, modes=("frames",))["modes"]["frames"]  # type: ignore[index]
    assert found["scores"].keys() == {"cider", "bleu_4", "rouge_l"}
    answers = read_answers(data.parent / "to" / "captions")
    assert all(a.generated and a.scores.keys() == found["scores"].keys() for a in answers)
    assert (found["count"], found["unparsed"]) == (3, 0)


def test_open_questions_are_written_and_scored_by_wups(data: Path, vlm: VideoLanguageModel) -> None:
    if not (WORDNET / "index.sense").is_file():
        pytest.skip("needs WordNet: apt-get install wordnet-base wordnet-sense-index")
    (data / "OE").mkdir()
    lines = [f"v{n},what does the dog do,play,{n},DO" for n in range(3)]
    (data / "OE" / "val.csv").write_text("\n".join(["video,question,answer,qid,type", *lines, ""]))
    results = evaluated(TASKS["nextqa-oe"], data, vlm, modes=("frames", "blind"), wordnet=WORDNET)
    found = results["modes"]["frames"]  # type: ignore[index]
    assert found["scores"].keys() == {"exact", "wups_0.9", "wups_0.0"}
    assert found["by"]["kind"]["descriptive"]["count"] == 3


def test_answers_that_name_no_option_are_counted_and_the_page_says_what_is_missing(
    data: Path, vlm: VideoLanguageModel
) -> None:
    row = {"video": "v0", "question": "What|?", "candidates": ["x", "y"], "answer": "y"}
    rows = [row, row, {**row, "video": "v9"}, {**row, "answer": "z"}]
    (data / "action_antonym.json").write_text(json.dumps(rows))
    told = {"first": 0}

    def parse(_answer: str, _options: object) -> int | None:
        told["first"] += 1
        return 1 if told["first"] == 1 else None

    task = replace(TASKS["mvbench"], parse=parse)
    missing = list(MVBENCH_FOLDERS)[1:]
    results = evaluated(task, data, vlm, modes=("frames",), max_lost=0.5)
    found = results["modes"]["frames"]  # type: ignore[index]
    assert (found["count"], found["unparsed"], found["lost"]) == (2, 1, {"missing-video": 1})
    assert found["scores"]["generated"]["mean"] == 0.5
    assert results["missing_kinds"] == missing
    page = (data.parent / "to" / "mvbench" / "results.md").read_text().splitlines()
    assert page[0] == "# mvbench: tiny"
    table = [line for line in page if line.startswith("|")]
    assert table[0] == "| mode | questions | generated | likelihood |"
    assert table[2].startswith("| frames | 2 | 0.500 (")
    assert "## frames, by kind" in page
    assert [line for line in page if line.startswith("| action_antonym | 2 | 0.500 (")]
    notes = page[page.index("## Not answered") + 2 :]
    assert notes == [
        f"* kinds whose files are not there, so the score is one of a part: {', '.join(missing)}",
        "* rows of the file, unreadable-row: 1",
        "* frames, missing-video: 1",
        "* frames, answers that name no option, counted as wrong: 1",
    ]
