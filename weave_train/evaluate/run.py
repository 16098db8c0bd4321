"""One evaluation: tasks, modes, blocks of questions over ranks, and what is published at the end.

    question file -> blocks of `batch_size` -> rank = place % world -> parts/*.jsonl
    every block there?  -> answers.jsonl, results.json, results.md, results.png, by whichever rank sees it

Ranks don't talk to each other, so none can hang another; the last to finish sees every block and publishes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weave_data.errors import ConfigError, RejectLimitError
from weave_data.storage import open_source
from weave_train.evaluate.answer import Answer, Mode
from weave_train.evaluate.answering import Asker, guess
from weave_train.evaluate.journal import Journal
from weave_train.evaluate.media import MediaFinder
from weave_train.evaluate.question import Question, QuestionSet
from weave_train.evaluate.report import results_markdown, results_png
from weave_train.evaluate.results import lost_fraction, summarise
from weave_train.evaluate.scoring import check_metrics, score_open
from weave_train.evaluate.tasks.catalog import Task
from weave_train.evaluate.tasks.reading import TaskFiles
from weave_train.evaluate.weights import PinnedModel

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel

__all__ = ["Evaluation", "check_modes", "evaluate_task"]

EVALUATION_VERSION = 2


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and how.

    Attributes:
        pinned: The model's name in results, and what its weights are known by.
        data: Folder or URI of questions and videos.
        to: Folder of results; a task writes below `to/<task>`.
        modes: Without repeats; `frames` first is what results begin with.
        num_frames: T; None takes the run's.
        batch_size: Questions asked at once: also the size of a block.
        generates: Whether choices are answered in writing, too.
        max_lost: Share of rows that may be without an answer.
        limit: Only the first so many questions.
        seed: Of guesses.
        wordnet: Folder of WordNet, for WUPS.
    """

    pinned: PinnedModel
    data: str
    to: Path
    modes: tuple[Mode, ...] = ("frames", "blind")
    num_frames: int | None = None
    batch_size: int = 8
    generates: bool = True
    max_lost: float = 0.01
    limit: int | None = None
    seed: int = 7
    wordnet: Path | None = None


def evaluate_task(
    evaluation: Evaluation,
    task: Task,
    vlm: VideoLanguageModel,
    *,
    rank: int = 0,
    world_size: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> Mapping[str, Any] | None:
    """Answer this rank's share of one task's questions; publish when all are answered.

    Args:
        evaluation: What is asked.
        task: Of `tasks.catalog`.
        vlm: The model.
        rank: Of this process.
        world_size: Processes that share the task.
        tell: Says how far it is, in a line now and then.

    Returns:
        The results, or None where another rank still answers.

    Raises:
        ConflictError: The folder holds another evaluation.
        RejectLimitError: More rows are without an answer than `max_lost` allows; results are written before.
        WeaveError: Data, packages or the model are not what they must be.
    """
    root = open_source(evaluation.data)
    asked = _limited(task.read(TaskFiles(root)), evaluation.limit)
    if any(question.style == "open" for question in asked.questions):
        check_metrics(task.metrics, wordnet=evaluation.wordnet)
    num_frames = evaluation.num_frames or vlm.settings.num_frames
    journal = Journal(evaluation.to / task.name, _spec(evaluation, task, asked, num_frames))
    media = MediaFinder(root, vlm.settings)
    asker = Asker(vlm, task, media, num_frames, evaluation.batch_size, evaluation.generates)
    blocks = list(_blocks(asked.questions, evaluation))
    known = journal.blocks()
    ours = [block for block in blocks if block.place % world_size == rank and block.number not in known]
    try:
        for done, block in enumerate(ours, start=1):
            journal.add(block.number, _answered(block, asker, evaluation), rank=rank)
            tell(f"{task.name}: {done} of {len(ours)} blocks")
    finally:
        journal.close()
        media.close()
    known = journal.blocks()
    if any(block.number not in known for block in blocks):
        return None
    answers = {mode: [] for mode in evaluation.modes}  # type: dict[Mode, list[Answer]]
    for block in blocks:
        answers[block.mode] += known[block.number]
    return _publish(evaluation, task, asked, num_frames, journal, answers)


@dataclass(frozen=True)
class _Block:
    number: int
    place: int
    mode: Mode
    questions: Sequence[Question]


def _blocks(questions: Sequence[Question], evaluation: Evaluation) -> Iterator[_Block]:
    """The same questions in every mode, side by side: one rank has them all and decodes a video once."""
    size, number_of_modes = evaluation.batch_size, len(evaluation.modes)
    for place, start in enumerate(range(0, len(questions), size)):
        for index, mode in enumerate(evaluation.modes):
            yield _Block(place * number_of_modes + index, place, mode, questions[start : start + size])


def _answered(block: _Block, asker: Asker, evaluation: Evaluation) -> list[Answer]:
    if block.mode == "random":
        return [guess(question, seed=evaluation.seed) for question in block.questions]
    return asker.answer(block.questions, block.mode)


def _limited(asked: QuestionSet, limit: int | None) -> QuestionSet:
    if limit is None:
        return asked
    return QuestionSet(asked.questions[:limit], asked.lost, asked.sha256)


def _spec(evaluation: Evaluation, task: Task, asked: QuestionSet, num_frames: int) -> dict[str, Any]:
    """What fixes the answers; the same weights may be called by another path."""
    return {
        "version": EVALUATION_VERSION,
        "task": task.name,
        "weights": evaluation.pinned.weights,
        "modes": list(evaluation.modes),
        "num_frames": num_frames,
        "batch_size": evaluation.batch_size,
        "generates": evaluation.generates,
        "limit": evaluation.limit,
        "seed": evaluation.seed,
        "questions_sha256": asked.sha256,
        "num_questions": len(asked.questions),
    }


def _publish(
    evaluation: Evaluation,
    task: Task,
    asked: QuestionSet,
    num_frames: int,
    journal: Journal,
    answers: Mapping[Mode, list[Answer]],
) -> Mapping[str, Any]:
    scored = {
        mode: score_open(of_mode, task.metrics, wordnet=evaluation.wordnet)
        for mode, of_mode in answers.items()
    }
    seen: Mode = next(
        (mode for mode in evaluation.modes if mode not in ("blind", "random")), evaluation.modes[0]
    )
    lost = lost_fraction(scored[seen], len(asked.lost))
    results = {
        "version": EVALUATION_VERSION,
        "task": task.name,
        "model": evaluation.pinned.model,
        "weights": evaluation.pinned.weights,
        "num_frames": num_frames,
        "questions_sha256": asked.sha256,
        "lost_rows": dict(sorted(Counter(row.reason for row in asked.lost).items())),
        "lost_fraction": lost,
        "has_failed": lost > evaluation.max_lost,
        "modes": {mode: summarise(of_mode) for mode, of_mode in scored.items()},
    }
    lines = [answer.to_line() + "\n" for of_mode in scored.values() for answer in of_mode]
    journal.write("answers.jsonl", "".join(lines))
    problems = [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in asked.lost]
    problems += [
        {"id": a.id, "reason": str(a.reason), "detail": (a.problem or "").partition(": ")[2]}
        for a in scored[seen]
        if a.problem is not None
    ]
    journal.write("lost.jsonl", "".join(json.dumps(problem) + "\n" for problem in problems))
    journal.write("results.md", results_markdown(results))
    journal.write("results.png", results_png(results))
    journal.write("results.json", json.dumps(results, indent=1))
    if results["has_failed"]:
        first = problems[0]
        raise RejectLimitError(
            f"{task.name}: {lost:.1%} of the rows have no answer, --max-lost is {evaluation.max_lost:.1%}; "
            f"first: {first['id']}, {first['reason']}: {first['detail']}; all: {journal.folder}/lost.jsonl"
        )
    return results


def check_modes(modes: Sequence[str]) -> tuple[Mode, ...]:
    """Modes by name.

    Raises:
        ConfigError: An unknown one, or none.
    """
    known: tuple[Mode, ...] = ("frames", "blind", "center", "random")
    chosen = tuple(mode for mode in known if mode in modes)
    unknown = [mode for mode in modes if mode not in known]
    if unknown or not chosen:
        raise ConfigError(
            f"modes: {unknown[0] if unknown else ''!r} is none of {', '.join(known)}", origin="command line"
        )
    return tuple(sorted(chosen, key=list(modes).index))
