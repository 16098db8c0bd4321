"""`WeaveTrain`, the class that lmms-eval makes for `--model weave_train`. Needs lmms-eval 0.7.

--model_args pretrained=RUN_DIR,num_frames=16     as `weave-train evaluate RUN_DIR --num-frames 16`
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from tqdm import tqdm

from weave_data.errors import ConfigError
from weave_train.harness.generation_kwargs import answer_options
from weave_train.harness.visuals import VisualReader
from weave_train.launch import local_device
from weave_train.loading import load
from weave_train.models.generate import generate_texts
from weave_train.models.likelihood import AnswerScore, score_answers
from weave_train.rows.prompt import PromptBuilder

__all__ = ["WeaveTrain"]


class WeaveTrain(lmms):
    """A stored model as lmms-eval asks it.

    Args:
        pretrained: As `weave_train.load` takes it: a run directory or URI, one of its checkpoints,
            VideoWeave's `.pt`, a published id.
        num_frames: T, instead of the run's.
        batch_size: Requests answered at once; changes no answer.
        device: Default: this rank's GPU where there is one, else the CPU.
        hf_token: As `load` takes it.
        max_batch_size: For lmms-eval's sake; must be None.
        unknown: Anything else in `--model_args`.

    Raises:
        ConfigError: No `pretrained`, an unknown argument, or a batch size that is none.
        WeaveError: The model can't be loaded.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "",
        num_frames: int | None = None,
        batch_size: int | str = 1,
        device: str | None = None,
        hf_token: str | None = None,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise ConfigError(
                f"model_args: unknown {', '.join(sorted(unknown))}; known: pretrained, num_frames, hf_token"
            )
        if not pretrained:
            raise ConfigError("model_args: pretrained is missing; give --model_args pretrained=RUN_DIR")
        if max_batch_size is not None or not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise ConfigError(
                f"batch_size {batch_size}: sizes are not searched for; give --batch_size 8 or another number"
            )
        self._rank = int(os.environ.get("RANK", "0"))
        self._world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.batch_size = int(batch_size)
        self._vlm = load(
            str(pretrained),
            hf_token,
            num_frames=None if num_frames is None else int(num_frames),
            device=device or local_device(int(os.environ.get("LOCAL_RANK", "0"))),
        )
        self._visuals = VisualReader(self._vlm.settings)

    @property
    def device(self) -> torch.device:
        """Where the model is; lmms-eval gathers counts there."""
        return self._vlm.device

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers in writing, in the order of the requests."""
        texts: list[str] = []
        for batch in self._batches(requests, self.batch_size):
            asked = [_Asked.of(request) for request in batch]
            options = [answer_options(request.args[1]) for request in batch]
            images, prompts = self._frames(asked), self._prompts(asked)
            texts += generate_texts(self._vlm, images, prompts, options)
        return texts

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """How unlikely each continuation is, and whether it is what would be written.

        Returns:
            Per request (loss, is greedy): minus the mean log-probability of the continuation's tokens and
            what ends an answer, in nats. lmms-eval 0.7 takes the option with the lowest; a bare pair it would
            turn into text, so each comes as a result whose `text` is the pair.
        """
        pairs: list[GenerationResult] = []
        rows = _by_question(requests, self._continuation)
        for batch in self._batches(rows, self.batch_size):
            asked = [row for row, _ in batch]
            answers = [texts for _, texts in batch]
            images, prompts = self._frames(asked), self._prompts(asked)
            for scores in score_answers(self._vlm, images, prompts, answers, with_end=True):
                pairs += [_as_result(score) for score in scores]
        return pairs

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        """Not there: each question is asked once.

        Raises:
            NotImplementedError: Always; lmms-eval's own error for a kind of task a model can't do.
        """
        raise NotImplementedError(
            f"{len(requests)} requests of several rounds: weave_train answers a question once; choose tasks "
            "of output_type generate_until, multiple_choice or loglikelihood"
        )

    def clean(self) -> None:
        """End the decoder's process and give the model back; called when all is answered."""
        self._visuals.close()
        self._vlm.core.to("cpu")
        self._vlm.tower.to("cpu")
        super().clean()

    def _batches(self, items: Sequence[Any], size: int) -> Iterator[list[Any]]:
        with tqdm(total=len(items), disable=self.rank != 0, desc="weave_train") as bar:
            rest = iter(items)
            while batch := list(islice(rest, size)):
                yield batch
                bar.update(len(batch))

    def _document(self, asked: _Asked) -> Any:
        return self.task_dict[asked.task][asked.split][asked.doc_id]

    def _frames(self, asked: Sequence[_Asked]) -> list[Any]:
        return [
            self._visuals.frames(row.doc_to_visual(self._document(row)) if row.doc_to_visual else None)
            or None
            for row in asked
        ]

    def _prompts(self, asked: Sequence[_Asked]) -> list[PromptBuilder]:
        builders = [self._vlm.get_prompt_builder() for _ in asked]
        for builder, row in zip(builders, asked, strict=True):
            builder.add_turn("human", row.text)
        return builders

    def _continuation(self, request: Instance) -> str:
        target = request.args[1]
        if callable(target):
            target = target(self._document(_Asked.of(request)))
        return str(target)


@dataclass(frozen=True)
class _Asked:
    """What a request asks about; `args` without what is answered. Requests about text alone may end early."""

    text: str
    doc_to_visual: Callable[[Any], Any] | None = None
    doc_id: int = -1
    task: str = ""
    split: str = ""

    @classmethod
    def of(cls, request: Instance) -> _Asked:
        text, _, *rest = request.args
        return cls(text, *rest)


def _by_question(
    requests: Sequence[Instance], continuation: Callable[[Instance], str]
) -> list[tuple[_Asked, list[str]]]:
    """Neighbours that differ in their continuation alone are one question, read once."""
    rows: list[tuple[_Asked, list[str]]] = []
    for request in requests:
        asked = _Asked.of(request)
        if not rows or rows[-1][0] != asked:
            rows.append((asked, []))
        rows[-1][1].append(continuation(request))
    return rows


def _as_result(score: AnswerScore) -> GenerationResult:
    return GenerationResult((-score.mean_log_prob, score.is_greedy))
