"""Two evaluations of the same questions, question by question."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from weave_data.errors import ConfigError, SourceError
from weave_train.evaluate.answer import Answer, Mode, read_answers
from weave_train.evaluate.intervals import Interval, paired_difference
from weave_train.evaluate.results import group_of

__all__ = ["Comparison", "Difference", "compare"]


@dataclass(frozen=True)
class Difference:
    """A minus B over the questions both answered.

    Attributes:
        tag: None over all questions, else `tag=value`.
        count: Questions.
        ours: Mean of A.
        theirs: Mean of B.
        difference: With its interval.
        p_value: Two-sided, of no difference.
    """

    tag: str | None
    count: int
    ours: float
    theirs: float
    difference: Interval
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Of one mode and metric.

    Attributes:
        num_unpaired: Questions that have an answer in one evaluation only.
        num_without_metric: Questions that both answered, and that do not have the metric in both.
        is_of_other_files: The two were asked from different question files that share ids.
        differences: Over all questions first, then by tag.
    """

    mode: Mode
    metric: str
    num_unpaired: int
    num_without_metric: int
    is_of_other_files: bool
    differences: Sequence[Difference]


def compare(
    ours: Path | str, theirs: Path | str, *, mode: Mode = "frames", metric: str | None = None
) -> Comparison:
    """Compare two finished tasks.

    Args:
        ours: Folder `TO/<task>` of A.
        theirs: Of B.
        mode: Of both.
        metric: None takes `likelihood` where a question has it in both, else what most of them have.

    Returns:
        The difference over all questions first, then by tag.

    Raises:
        ConfigError: No question, or no metric, is in both.
        SourceError: A file is damaged.
    """
    ours_by_id, theirs_by_id = _answered(ours, mode), _answered(theirs, mode)
    shared = [id_ for id_ in ours_by_id if id_ in theirs_by_id]
    if not shared:
        raise ConfigError(
            f"{ours} and {theirs} share no answered question in mode {mode!r}; compare evaluations of the "
            "same task and modes"
        )
    differing = next((id_ for id_ in shared if not _same_question(ours_by_id[id_], theirs_by_id[id_])), None)
    if differing is not None:
        raise ConfigError(
            f"question {differing} has another right answer in {ours} than in {theirs}; evaluate both with "
            "the same question file"
        )
    paired = [(ours_by_id[id_], theirs_by_id[id_]) for id_ in shared]
    chosen = _metric(metric, paired)
    pairs = [pair for pair in paired if all(chosen in answer.scores for answer in pair)]
    by_tag: dict[str, list[tuple[Answer, Answer]]] = {}
    for pair in pairs:
        for tag, value in pair[0].tags.items():
            by_tag.setdefault(f"{tag}={value}", []).append(pair)
    differences = [_difference(None, pairs, chosen)]
    differences += [_difference(tag, of_tag, chosen) for tag, of_tag in sorted(by_tag.items())]
    return Comparison(
        mode,
        chosen,
        num_unpaired=len(ours_by_id.keys() ^ theirs_by_id.keys()),
        num_without_metric=len(paired) - len(pairs),
        is_of_other_files=_questions(ours) != _questions(theirs),
        differences=differences,
    )


def _questions(folder: Path | str) -> str | None:
    """Hash of the question files; None where answers were kept without `results.json`."""
    path = Path(folder) / "results.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return str(found["questions_sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: damaged ({error!r}); evaluate again") from error


def _answered(folder: Path | str, mode: Mode) -> Mapping[str, Answer]:
    return {a.id: a for a in read_answers(folder) if a.mode == mode and a.problem is None}


def _same_question(one: Answer, other: Answer) -> bool:
    return (one.answer, one.references) == (other.answer, other.references)


def _metric(asked: str | None, pairs: Sequence[tuple[Answer, Answer]]) -> str:
    shared = Counter(name for ours, theirs in pairs for name in ours.scores if name in theirs.scores)
    if asked is None:
        if not shared:
            raise ConfigError("metric: the two evaluations have none in common")
        return "likelihood" if "likelihood" in shared else shared.most_common(1)[0][0]
    if asked not in shared:
        raise ConfigError(f"metric: {asked!r} is not in both; they share {', '.join(shared) or 'none'}")
    return asked


def _difference(tag: str | None, pairs: Sequence[tuple[Answer, Answer]], metric: str) -> Difference:
    ours = [one.scores[metric] for one, _ in pairs]
    theirs = [other.scores[metric] for _, other in pairs]
    interval, p_value = paired_difference(ours, theirs, [group_of(one) for one, _ in pairs])
    count = len(pairs)
    return Difference(tag, count, sum(ours) / count, sum(theirs) / count, interval, p_value)
