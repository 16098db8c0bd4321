"""A model answers a block of questions: by what it writes, and by how likely it finds each option.

    questions --media--> frames --one batch--> generated, log_probs --scoring--> Answer

Everything goes through `generate` and `score_answers`, in the prompt format of the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from weave_train.evaluate.answer import Answer, Mode
from weave_train.evaluate.asking_text import LETTERS
from weave_train.evaluate.media import MediaFinder, Sampling
from weave_train.evaluate.question import LostQuestionError, Question
from weave_train.evaluate.tasks.catalog import Task
from weave_train.models.decoding import AnswerOptions
from weave_train.models.generate import generate_texts
from weave_train.models.likelihood import AnswerScore, score_answers
from weave_train.towers import num_visual_tokens

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel
    from weave_train.rows.prompt import PromptBuilder

__all__ = ["Asker", "guess"]


def guess(question: Question, *, seed: int) -> Answer:
    """A guess that depends on the question's id and the seed alone: the floor of every score.

    An open question is answered with nothing.
    """
    if not question.options:
        return _answer(question, "random", generated="")
    digest = hashlib.sha256(f"{seed} {question.id}".encode()).digest()
    index = int.from_bytes(digest[:8], "big") % len(question.options)
    return _answer(question, "random", generated=LETTERS[index], parsed=index)


@dataclass(frozen=True)
class Asker:
    """Asks one model the questions of one task.

    Attributes:
        vlm: In eval mode.
        task: How answers are read.
        media: Where videos are.
        num_frames: T.
        batch_size: Questions that are asked at once.
        generates: Whether choices are answered in writing, too; open questions always are.
    """

    vlm: VideoLanguageModel
    task: Task
    media: MediaFinder
    num_frames: int
    batch_size: int
    generates: bool = True

    def answer(self, questions: Sequence[Question], mode: Mode) -> list[Answer]:
        """Answer questions in one mode.

        Raises:
            WeaveError: The data can't be reached, or the model can't answer anything.
        """
        ready: list[tuple[Question, list[bytes]]] = []
        lost: dict[str, Answer] = {}
        for question in questions:
            try:
                frames = self._frames(question, mode)
                self._check_room(question, frames)
                ready.append((question, frames))
            except LostQuestionError as error:
                lost[question.id] = _lost(question, mode, error)
        answered: dict[str, Answer] = {}
        for start in range(0, len(ready), self.batch_size):
            for answer in self._batch(ready[start : start + self.batch_size], mode):
                answered[answer.id] = answer
        return [lost.get(question.id) or answered[question.id] for question in questions]

    def _frames(self, question: Question, mode: Mode) -> list[bytes]:
        if mode == "blind":
            return []
        is_center = mode == "center"
        return self.media.frames(question, Sampling(1 if is_center else self.num_frames, is_center))

    def _check_room(self, question: Question, frames: Sequence[bytes]) -> None:
        num_visual = num_visual_tokens(len(frames), self.vlm.settings)
        prompt = self.vlm.prompts.encode_prompt(self._prompt(question), [num_visual] if num_visual else [])
        longest = max(map(len, self._token_ids(question)), default=1)
        room = self.vlm.settings.llm_max_length
        if len(prompt) + longest > room:
            raise LostQuestionError(
                "too-long",
                f"a prompt of {len(prompt)} tokens, {num_visual} of them visual, and an answer of {longest} "
                f"are more than llm_max_length {room}",
            )

    def _token_ids(self, question: Question) -> Iterable[Sequence[int]]:
        prompt = self._prompt(question)
        for text in _scored_texts(question):
            yield self.vlm.prompts.encode_answer(prompt, text, with_end=question.style == "texts")

    def _prompt(self, question: Question) -> PromptBuilder:
        builder = self.vlm.get_prompt_builder()
        builder.add_turn("human", question.prompt)
        return builder

    def _batch(self, batch: Sequence[tuple[Question, list[bytes]]], mode: Mode) -> list[Answer]:
        images = [list(frames) or None for _, frames in batch]
        prompts = [self._prompt(question) for question, _ in batch]
        written: dict[int, str] = {}
        asked = [row for row, (question, _) in enumerate(batch) if self._is_written(question)]
        if asked:
            options = [AnswerOptions(max_new_tokens=self.task.max_new_tokens)] * len(asked)
            texts = generate_texts(
                self.vlm, [images[row] for row in asked], [prompts[row] for row in asked], options
            )
            written = dict(zip(asked, texts, strict=True))
        return [
            self._made(question, mode, written.get(row), scores)
            for row, ((question, _), scores) in enumerate(
                zip(batch, self._likelihoods(batch, images, prompts), strict=True)
            )
        ]

    def _is_written(self, question: Question) -> bool:
        return question.style == "open" or self.generates

    def _likelihoods(
        self,
        batch: Sequence[tuple[Question, list[bytes]]],
        images: Sequence[list[bytes] | None],
        prompts: Sequence[PromptBuilder],
    ) -> list[list[AnswerScore]]:
        """Of letters, or of whole texts with what ends an answer: `blue` must not win inside `blue box`."""
        found: list[list[AnswerScore]] = [[] for _ in batch]
        for with_end in (False, True):
            rows = [
                row
                for row, (question, _) in enumerate(batch)
                if question.options and (question.style == "texts") == with_end
            ]
            if rows:
                scores = score_answers(
                    self.vlm,
                    [images[row] for row in rows],
                    [prompts[row] for row in rows],
                    [_scored_texts(batch[row][0]) for row in rows],
                    with_end=with_end,
                )
                for row, row_scores in zip(rows, scores, strict=True):
                    found[row] = row_scores
        return found

    def _made(
        self, question: Question, mode: Mode, written: str | None, scores: Sequence[AnswerScore]
    ) -> Answer:
        parsed = None
        if written is not None and question.options:
            parsed = self.task.parse(written, question.options)
        return _answer(question, mode, generated=written, parsed=parsed, likelihoods=scores)


def _lost(question: Question, mode: Mode, error: LostQuestionError) -> Answer:
    """What stands for an answer where there is none."""
    problem = f"{error.reason}: {' '.join(str(error).split())}"
    return Answer(question.id, mode, question.video, tags=dict(question.tags), problem=problem)


def _scored_texts(question: Question) -> Sequence[str]:
    return question.options if question.style == "texts" else LETTERS[: len(question.options)]


def _answer(
    question: Question,
    mode: Mode,
    *,
    generated: str | None = None,
    parsed: int | None = None,
    likelihoods: Sequence[AnswerScore] = (),
) -> Answer:
    scores: dict[str, float] = {}
    if question.options and generated is not None:
        scores["generated"] = _is_right(question, parsed)
    likeliest = None
    if likelihoods:
        likeliest = _first_highest([score.log_prob for score in likelihoods])
        scores["likelihood"] = _is_right(question, likeliest)
        if question.style == "texts":
            by_token = _first_highest([score.mean_log_prob for score in likelihoods])
            scores["likelihood_per_token"] = _is_right(question, by_token)
    return Answer(
        id=question.id,
        mode=mode,
        video=question.video,
        answer=question.answer_index,
        references=question.references or None,
        generated=generated,
        parsed=parsed,
        log_probs=tuple(score.log_prob for score in likelihoods) or None,
        num_tokens=tuple(score.num_tokens for score in likelihoods) or None,
        likeliest=likeliest,
        scores=scores,
        tags=dict(question.tags),
    )


def _is_right(question: Question, chosen: int | None) -> float:
    """1.0 for the right option, or another of the same text."""
    if chosen is None or question.answer_index is None:
        return 0.0
    return float(question.options[chosen] == question.options[question.answer_index])


def _first_highest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda index: (values[index], -index))
