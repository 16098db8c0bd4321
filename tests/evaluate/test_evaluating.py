"""An evaluation gives the same answers however it is split, ends, and is asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from plain_videos import render

from weave_data.decode import isolation
from weave_data.errors import ConflictError, IncompleteError, RejectLimitError
from weave_data.storage import open_source
from weave_train.evaluate import media
from weave_train.evaluate.answer import Answer, read_answers
from weave_train.evaluate.journal import Journal, ask_lost_again
from weave_train.evaluate.run import Evaluation, evaluate_task
from weave_train.evaluate.tasks.catalog import TASKS
from weave_train.evaluate.tasks.reading import TaskFiles
from weave_train.evaluate.weights import PinnedModel
from weave_train.models.model import VideoLanguageModel
from weave_train.models.video import frames_from_video

pytestmark = pytest.mark.process  # videos are decoded in a process of their own

QUESTIONS = TASKS["questions"]
NUM_QUESTIONS = 13  # of `questions_dir`


def evaluation(data: Path, to: Path, **changes: object) -> Evaluation:
    base = Evaluation(PinnedModel("tiny", "step 30"), data=str(data), to=to, batch_size=4)
    return replace(base, **changes)  # type: ignore[arg-type]


def texts_and_choices(answers: list[Answer]) -> list[tuple[object, ...]]:
    return [(a.id, a.mode, a.generated, a.parsed, a.likeliest, a.scores, a.tags, a.problem) for a in answers]


@pytest.fixture(scope="module")
def whole(questions_dir: Path, vlm: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("whole")
    assert evaluate_task(evaluation(questions_dir, to), QUESTIONS, vlm) is not None
    return to / "questions"


def test_every_question_is_answered_in_every_mode_in_order(whole: Path, questions_dir: Path) -> None:
    answers = read_answers(whole)
    ids = [json.loads(line)["id"] for line in (questions_dir / "questions.jsonl").read_text().splitlines()]
    assert [a.id for a in answers] == ids * 2
    assert [a.mode for a in answers] == ["frames"] * NUM_QUESTIONS + ["blind"] * NUM_QUESTIONS
    results = json.loads((whole / "results.json").read_text())
    assert results["modes"]["frames"]["count"] == NUM_QUESTIONS
    assert results["modes"]["frames"]["by"]["half"]["a"]["count"] == 6
    choices = [a for a in answers if a.mode == "frames" and a.answer is not None]
    mean = sum(a.scores["likelihood"] for a in choices) / len(choices)
    assert results["modes"]["frames"]["scores"]["likelihood"]["mean"] == pytest.approx(mean)


def test_answers_are_those_that_the_model_gives_alone(
    whole: Path, questions_dir: Path, vlm: VideoLanguageModel
) -> None:
    (found,) = [a for a in read_answers(whole) if a.id == "q01" and a.mode == "frames"]
    row = json.loads((questions_dir / "questions.jsonl").read_text().splitlines()[1])
    builder = vlm.get_prompt_builder()
    listed = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", row["options"], strict=True))
    trailing = "Answer with the option's letter from the given choices directly."
    builder.add_turn("human", f"{row['question']}\n{listed}\n{trailing}")
    frames = frames_from_video(questions_dir / row["video"], vlm.settings)
    assert found.generated == vlm.generate(frames, builder, max_new_tokens=QUESTIONS.max_new_tokens)
    (letters,) = vlm.generate_batch([frames], [builder], return_string_probabilities=list("ABCD"))
    assert found.likeliest == max(range(4), key=lambda index: letters[index])


def test_what_is_seen_changes_likelihoods_and_nothing_seen_does_not(whole: Path) -> None:
    by_mode = {(a.id, a.mode): a for a in read_answers(whole)}
    assert by_mode["q01", "frames"].log_probs != by_mode["q01", "blind"].log_probs
    assert by_mode["q01", "blind"].log_probs == pytest.approx(by_mode["q02", "blind"].log_probs, abs=1e-4)
    # a question without a video has nothing to see in either mode
    assert by_mode["text", "frames"].log_probs == pytest.approx(by_mode["text", "blind"].log_probs, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batch_size_changes_no_answer(
    whole: Path, questions_dir: Path, vlm: VideoLanguageModel, tmp_path: Path, batch_size: int
) -> None:
    evaluate_task(evaluation(questions_dir, tmp_path, batch_size=batch_size), QUESTIONS, vlm)
    ours, theirs = read_answers(tmp_path / "questions"), read_answers(whole)
    assert texts_and_choices(list(ours)) == texts_and_choices(list(theirs))
    for one, other in zip(ours, theirs, strict=True):
        assert one.log_probs == (
            None if other.log_probs is None else pytest.approx(other.log_probs, abs=1e-4)
        )


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_in_any_order_publish_the_same_bytes(
    whole: Path, questions_dir: Path, vlm: VideoLanguageModel, tmp_path: Path, world_size: int
) -> None:
    asked = evaluation(questions_dir, tmp_path)
    published = [
        evaluate_task(asked, QUESTIONS, vlm, rank=rank, world_size=world_size)
        for rank in reversed(range(world_size))
    ]
    assert [results is None for results in published] == [True] * (world_size - 1) + [False]
    for name in ("answers.jsonl", "results.json", "results.md"):
        assert (tmp_path / "questions" / name).read_bytes() == (whole / name).read_bytes()


def test_a_broken_line_is_answered_again_and_the_rest_is_not(
    whole: Path, questions_dir: Path, vlm: VideoLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = evaluation(questions_dir, tmp_path)
    evaluate_task(asked, QUESTIONS, vlm, rank=0, world_size=2)
    (part,) = (tmp_path / "questions" / "parts").iterdir()
    part.write_bytes(part.read_bytes()[:-40])
    from weave_train.evaluate import answering

    told: list[str] = []
    evaluate_task(asked, QUESTIONS, vlm, tell=told.append)
    assert len(told) == 5  # 4 blocks in 2 modes, 3 of them kept
    assert (tmp_path / "questions" / "answers.jsonl").read_bytes() == (whole / "answers.jsonl").read_bytes()
    monkeypatch.setattr(answering.Asker, "answer", None)  # nothing is left to ask
    assert evaluate_task(asked, QUESTIONS, vlm) is not None


def test_another_evaluation_in_the_same_folder_is_refused(
    whole: Path, questions_dir: Path, vlm: VideoLanguageModel
) -> None:
    others = {
        "weights": {"pinned": PinnedModel("tiny", "step 31")},
        "num_frames": {"num_frames": 2},
        "modes": {"modes": ("frames",)},
        "batch_size": {"batch_size": 5},
    }
    for name, change in others.items():
        with pytest.raises(ConflictError, match=f"holds an evaluation with {name}"):
            evaluate_task(evaluation(questions_dir, whole.parent, **change), QUESTIONS, vlm)
    moved = evaluation(questions_dir, whole.parent, pinned=PinnedModel("elsewhere/tiny", "step 30"))
    assert evaluate_task(moved, QUESTIONS, vlm) is not None  # the same weights by another path


def test_lost_questions_are_counted_listed_and_too_many_fail(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    data = tmp_path / "data"
    render(data / "a.mp4", ["red", "blue"])
    (data / "broken.mp4").write_bytes(b"no video")
    render(data / "one" / "twice.mp4", ["red"])
    render(data / "two" / "twice.mp4", ["red"])
    good = {"question": "What colour?", "options": ["red", "blue"], "answer": "red"}
    rows = [
        {"id": "good", "video": "a.mp4", **good},
        {"id": "missing", "video": "b.mp4", **good},
        {"id": "broken", "video": "broken.mp4", **good},
        {"id": "twice", "video": "twice.mp4", **good},
        {"id": "long", "video": "a.mp4", **good, "question": "what colour " * 200},
        {"id": "good", "video": "a.mp4", **good},
        {"id": "no-answer", "video": "a.mp4", "question": "What?", "options": ["red", "blue"]},
        {"id": "odd", "video": "a.mp4", **good, "answer": "green"},
    ]
    lines = [json.dumps(row) for row in rows]
    (data / "questions.jsonl").write_text("\n".join([*lines, '{"id": "half", ', ""]))
    with pytest.raises(RejectLimitError, match=r"88\.9% of the rows have no answer"):
        evaluate_task(evaluation(data, tmp_path / "to", modes=("frames",)), QUESTIONS, vlm)
    results = json.loads((tmp_path / "to" / "questions" / "results.json").read_text())
    assert results["has_failed"] is True
    assert results["lost_rows"] == {"repeated-id": 1, "unreadable-row": 3}
    assert results["modes"]["frames"]["lost"] == {
        "ambiguous-video": 1, "missing-video": 1, "too-long": 1, "undecodable-video": 1,
    }  # fmt: skip
    assert results["modes"]["frames"]["count"] == 1
    listed = [json.loads(line) for line in (tmp_path / "to" / "questions" / "lost.jsonl").open()]
    assert len(listed) == 8
    assert all(row["detail"] for row in listed)
    allowed = evaluation(data, tmp_path / "to", modes=("frames",), max_lost=0.9)
    assert evaluate_task(allowed, QUESTIONS, vlm) is not None


def colours(folder: Path, names: list[str]) -> None:
    """Questions about videos of these names."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"id": name, "video": f"{name}.mp4", "question": "What?", "options": ["red", "blue"], "answer": 0}
        for name in names
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_video_that_was_put_back_is_looked_for_again_and_only_its_block_is_asked(
    vlm: VideoLanguageModel, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    colours(data, ["a", "b", "c"])
    for name in "ac":
        render(data / f"{name}.mp4", ["red", "blue"])
    asked = evaluation(data, tmp_path / "to", batch_size=1, modes=("frames",))
    for _ in range(2):
        with pytest.raises(RejectLimitError, match=r"first: b, missing-video"):
            evaluate_task(asked, QUESTIONS, vlm)
    render(data / "b.mp4", ["red", "blue"])
    told: list[str] = []
    results = evaluate_task(asked, QUESTIONS, vlm, rank=1, world_size=2, tell=told.append)
    assert results is not None
    assert told == ["questions: 1 of 1 blocks"]
    assert results["modes"]["frames"]["lost"] == {}
    straight = evaluation(data, tmp_path / "straight", batch_size=1, modes=("frames",))
    evaluate_task(straight, QUESTIONS, vlm)
    for name in ("answers.jsonl", "results.json"):
        ours, theirs = (tmp_path / to / "questions" / name for to in ("to", "straight"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_an_evaluation_that_loses_only_to_circumstances_says_so_and_goes_on(
    vlm: VideoLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    colours(data, ["a"])
    render(data / "a.mp4", ["red", "blue"])
    asked = evaluation(data, tmp_path / "to", modes=("frames",))
    with monkeypatch.context() as patch:
        patch.setattr(media, "VideoReader", partial(media.VideoReader, memory_bytes=1))
        patch.setattr(isolation, "_POLL_SECONDS", 0.0)  # looks at memory before a small clip is done
        with pytest.raises(
            IncompleteError, match=r"a, lost-video: .*bytes of memory in use.*asks these again"
        ):
            evaluate_task(asked, QUESTIONS, vlm)
        results = json.loads((tmp_path / "to" / "questions" / "results.json").read_text())
        assert (results["has_failed"], results["is_circumstance"]) == (True, True)
        render(data / "more" / "b.mp4", ["red"])
        colours(data, ["a", "gone"])
        with pytest.raises(RejectLimitError, match="first: gone, missing-video"):
            evaluate_task(replace(asked, to=tmp_path / "both"), QUESTIONS, vlm)
    colours(data, ["a"])
    results = evaluate_task(asked, QUESTIONS, vlm)
    assert results is not None
    assert results["modes"]["frames"]["count"] == 1


def test_a_block_to_ask_again_is_open_until_it_is_answered_in_its_round(tmp_path: Path) -> None:
    lost = Answer("q", "frames", "v", problem="missing-video: v")
    other = Answer("r", "frames", "v", problem="undecodable-video: v")
    journal = Journal(tmp_path, {})
    journal.add(0, [lost], rank=0)
    journal.add(1, [other], rank=0)
    ask_lost_again(tmp_path, lambda block: block != 0)
    assert journal.blocks().keys() == {0, 1}
    for _ in range(2):  # two ranks at once agree
        ask_lost_again(tmp_path)
    assert journal.blocks().keys() == {1}
    journal.add(0, [replace(lost, problem=None)], rank=1)
    assert journal.blocks()[0] == [replace(lost, problem=None)]
    ask_lost_again(tmp_path)
    assert journal.blocks().keys() == {0, 1}
    journal.close()


def test_a_limit_counts_the_rows_lost_before_the_last_question(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text("")
    colours(tmp_path, ["a", "a", "b", "c", "c", "c"])
    asked = QUESTIONS.read(TaskFiles(open_source(str(tmp_path))))
    assert [row.place for row in asked.lost] == [1, 3, 3]
    assert asked.first(None) is asked
    assert (len(asked.first(2).questions), len(asked.first(2).lost)) == (2, 1)
    assert (len(asked.first(9).questions), len(asked.first(9).lost)) == (3, 3)


def test_the_middle_frame_and_a_guess_are_modes_of_their_own(
    questions_dir: Path, vlm: VideoLanguageModel, tmp_path: Path
) -> None:
    asked = evaluation(questions_dir, tmp_path, modes=("center", "random"))
    results = evaluate_task(asked, QUESTIONS, vlm)
    assert results is not None
    answers = read_answers(tmp_path / "questions")
    guesses = [a.parsed for a in answers if a.mode == "random" and a.answer is not None]
    assert len(set(guesses)) > 1
    assert all(a.log_probs is None for a in answers if a.mode == "random")
    assert all(a.log_probs for a in answers if a.mode == "center" and a.answer is not None)


def command(run_dir: Path, data: Path, to: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "weave_train", "evaluate", str(run_dir), "--task", "questions"),
        *("--data", str(data), "--to", str(to), "--batch-size", "4", *more),
    ]


def test_a_killed_evaluation_of_two_processes_goes_on_with_the_same_command(
    run_dir: Path, questions_dir: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    straight = command(run_dir, questions_dir, tmp_path / "straight")
    done = subprocess.run(straight, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert "questions, frames: 13 questions, 0 lost" in done.stdout

    broken = command(run_dir, questions_dir, tmp_path / "broken", "--num-ranks", "2")
    parts = tmp_path / "broken" / "questions" / "parts"
    process = subprocess.Popen(broken, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not any(path.stat().st_size for path in parts.glob("*.jsonl")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(broken, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    ours = texts_and_choices(list(read_answers(tmp_path / "broken" / "questions")))
    assert ours == texts_and_choices(list(read_answers(tmp_path / "straight" / "questions")))
