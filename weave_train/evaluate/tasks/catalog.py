"""Tasks by name, with how each is answered and scored."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from weave_data.errors import ConfigError
from weave_train.evaluate.asking_text import first_letter, letter_or_text
from weave_train.evaluate.question import QuestionSet
from weave_train.evaluate.tasks.mvbench import read_mvbench
from weave_train.evaluate.tasks.nextqa import read_nextqa, read_nextqa_open
from weave_train.evaluate.tasks.others import (
    read_activitynet_qa,
    read_captions,
    read_egoschema,
    read_mlvu,
    read_tempcompass,
)
from weave_train.evaluate.tasks.plain import read_plain
from weave_train.evaluate.tasks.reading import TaskFiles
from weave_train.evaluate.tasks.videomme import read_videomme

__all__ = ["TASKS", "Metric", "Task", "find_task"]

Metric = Literal["exact", "wups", "captions"]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: On the command line.
        read: Its files.
        parse: What an answer to a choice means: answer, options -> an option's number or None.
        max_new_tokens: Of an answer.
        metrics: Of open questions; choices are scored by `generated` and by `likelihood`.
    """

    name: str
    read: Callable[[TaskFiles], QuestionSet]
    parse: Callable[[str, Sequence[str]], int | None] = letter_or_text
    max_new_tokens: int = 16
    metrics: tuple[Metric, ...] = ()


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("videomme", read_videomme, parse=first_letter),
        Task("nextqa", read_nextqa),
        Task("nextqa-oe", read_nextqa_open, max_new_tokens=32, metrics=("exact", "wups")),
        Task("mvbench", read_mvbench),
        Task("activitynet-qa", read_activitynet_qa, max_new_tokens=32, metrics=("exact",)),
        Task("captions", read_captions, max_new_tokens=64, metrics=("captions",)),
        Task("tempcompass", read_tempcompass),
        Task("egoschema", read_egoschema),
        Task("mlvu", read_mlvu),
        Task("questions", read_plain, max_new_tokens=32, metrics=("exact",)),
    )
}


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        ConfigError: There is none; names the nearest.
    """
    if name in TASKS:
        return TASKS[name]
    close = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(TASKS)}"
    raise ConfigError(f"task: there is no {name!r} ({hint})", origin="command line")
