"""One evaluation: tasks, modes, blocks of questions over ranks, and what is published at the end.

    question file -> blocks of `batch_size` -> rank = place % world -> parts/*.jsonl
    every block there?  -> answers.jsonl, results.json, results.md, results.png, by whichever rank sees it

Ranks don't talk to each other, so none can hang another; the last to finish sees every block and publishes.
Each begins by having its blocks asked again that lost a question to what may be gone by now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weave_data.errors import ConfigError
from weave_data.storage import open_source
from weave_train.evaluate.answer import Answer, Mode
from weave_train.evaluate.answering import Asker, guess
from weave_train.evaluate.journal import Journal, ask_lost_again
from weave_train.evaluate.media import MediaFinder
from weave_train.evaluate.publishing import failure_of, publish
from weave_train.evaluate.question import Question, QuestionSet
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
        limit: Only the first so many questions; rows that were lost count where they stand before the last.
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
        IncompleteError: Likewise, and fewer would be but for circumstances.
        WeaveError: Data, packages or the model are not what they must be.
    """
    root = open_source(evaluation.data)
    asked = task.read(TaskFiles(root)).first(evaluation.limit)
    if any(question.style == "open" for question in asked.questions):
        check_metrics(task.metrics, wordnet=evaluation.wordnet)
    num_frames = evaluation.num_frames or vlm.settings.num_frames
    journal = Journal(evaluation.to / task.name, _spec(evaluation, task, asked, num_frames))
    media = MediaFinder(root, vlm.settings)
    asker = Asker(vlm, task, media, num_frames, evaluation.batch_size, evaluation.generates)
    blocks = list(_blocks(asked.questions, evaluation))
    shared = {block.number for block in blocks if block.place % world_size == rank}
    ask_lost_again(journal.folder, shared.__contains__)
    known = journal.blocks()
    ours = [block for block in blocks if block.number in shared and block.number not in known]
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
    scored = {
        mode: score_open(of_mode, task.metrics, wordnet=evaluation.wordnet)
        for mode, of_mode in answers.items()
    }
    head = {
        "version": EVALUATION_VERSION,
        "task": task.name,
        "model": evaluation.pinned.model,
        "weights": evaluation.pinned.weights,
        "num_frames": num_frames,
        "questions_sha256": asked.sha256,
    }
    results = publish(journal, head, asked, scored, max_lost=evaluation.max_lost)
    if failure := failure_of(journal.folder, max_lost=evaluation.max_lost):
        raise failure
    return results


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
