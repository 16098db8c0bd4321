"""What a finished task leaves behind, and how it ends.

answers + rows that were none -> answers.jsonl, lost.jsonl, results.md, results.png, results.json (last)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weave_data.errors import IncompleteError, RejectLimitError
from weave_train.evaluate.answer import Answer, Mode
from weave_train.evaluate.journal import Journal
from weave_train.evaluate.question import CIRCUMSTANCE, QuestionSet
from weave_train.evaluate.report import results_markdown, results_png
from weave_train.evaluate.results import lost_fraction, summarise

__all__ = ["failure_of", "publish", "read_results"]


def publish(
    journal: Journal,
    head: Mapping[str, Any],
    asked: QuestionSet,
    answers: Mapping[Mode, Sequence[Answer]],
    *,
    max_lost: float,
) -> Mapping[str, Any]:
    """Write the results of a task.

    Args:
        journal: Of its folder.
        head: What results begin with: task, model and so on.
        asked: Its questions, and what was lost of them before any was asked.
        answers: Scored, by mode in the order asked for.
        max_lost: Share of rows that may be without an answer.

    Returns:
        `results.json`.
    """
    seen = next((of_mode for mode, of_mode in answers.items() if mode not in ("blind", "random")), None)
    seen = next(iter(answers.values())) if seen is None else seen
    lost = lost_fraction(seen, len(asked.lost))
    kept = [answer for answer in seen if answer.reason != CIRCUMSTANCE]
    has_failed = lost > max_lost
    results = {
        **head,
        "question_files": dict(asked.files),
        "missing_kinds": list(asked.missing_kinds),
        "left_out": dict(sorted(asked.left_out.items())),
        "lost_rows": dict(sorted(Counter(row.reason for row in asked.lost).items())),
        "lost_fraction": lost,
        "has_failed": has_failed,
        "is_circumstance": has_failed and lost_fraction(kept, len(asked.lost)) <= max_lost,
        "modes": {mode: summarise(of_mode) for mode, of_mode in answers.items()},
    }
    lines = [answer.to_line() + "\n" for of_mode in answers.values() for answer in of_mode]
    journal.write("answers.jsonl", "".join(lines))
    problems = [{"id": row.id, "reason": row.reason, "detail": row.detail} for row in asked.lost]
    problems += [
        {"id": a.id, "reason": str(a.reason), "detail": (a.problem or "").partition(": ")[2]}
        for a in seen
        if a.problem is not None
    ]
    journal.write("lost.jsonl", "".join(json.dumps(problem) + "\n" for problem in problems))
    journal.write("results.md", results_markdown(results))
    journal.write("results.png", results_png(results))
    journal.write("results.json", json.dumps(results, indent=1))
    return results


def read_results(folder: Path) -> dict[str, Any]:
    """`results.json` of a finished task."""
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return results


def failure_of(folder: Path, *, max_lost: float) -> RejectLimitError | IncompleteError | None:
    """Why a finished task counts as failed: more rows are without an answer than `max_lost` allows.

    Args:
        folder: `TO/<task>`.
        max_lost: As it was finished with; named in the message.

    Returns:
        An `IncompleteError` where it would not have failed but for circumstances.
    """
    results = read_results(folder)
    if not results["has_failed"]:
        return None
    problems = [json.loads(line) for line in (folder / "lost.jsonl").open(encoding="utf-8")]
    is_circumstance = results.get("is_circumstance", False)
    first = next((p for p in problems if is_circumstance == (p["reason"] == CIRCUMSTANCE)), problems[0])
    said = (
        f"{results['task']}: {results['lost_fraction']:.1%} of the rows have no answer, --max-lost is "
        f"{max_lost:.1%}; first: {first['id']}, {first['reason']}: {first['detail']}; "
        f"all: {folder}/lost.jsonl"
    )
    if is_circumstance:
        return IncompleteError(f"{said}; decoding was cut short: the same command asks these again")
    return RejectLimitError(said)
