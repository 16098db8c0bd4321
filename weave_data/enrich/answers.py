"""Answers: which count, and where they are kept so that nothing is asked twice.

`enrich/<key>/<xx>/<name>.parquet` holds a batch of answers and is committed once; its name is the
hash of the ids in it. The key holds everything that shapes an answer (model, parameters, prompts,
rules), never where the model runs.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from weave_data.config.enrich import AnswersConfig
from weave_data.records import canonical_json
from weave_data.storage import Store, commit_first
from weave_data.tables import read_table_bytes, table_bytes

__all__ = ["ANSWER_SCHEMA", "Answer", "AnswerReason", "check_answer", "commit_answers", "read_answers"]

_DETAIL_CHARS = 200
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)

ANSWER_SCHEMA = pa.schema(
    [
        pa.field("ask_id", pa.string(), nullable=False),
        pa.field("answer", pa.string()),  # null: rejected
        pa.field("reason", pa.string(), nullable=False),  # "": accepted
        pa.field("detail", pa.string(), nullable=False),
        pa.field("prompt_tokens", pa.int64(), nullable=False),  # of all tries; 0 where nobody counts
        pa.field("completion_tokens", pa.int64(), nullable=False),
    ]
)


class AnswerReason(str, enum.Enum):
    """Why an answer was refused."""

    EMPTY = "empty_answer"
    CUT_OFF = "cut_off"
    TOO_LONG = "too_long"
    REFUSAL = "refusal"
    NOT_JSON = "not_json"
    WRONG_FIELDS = "wrong_fields"
    REQUEST_REFUSED = "request_refused"


@dataclass(frozen=True)
class Answer:
    """One answer; `text` is None when it was refused for `reason`."""

    ask_id: str
    text: str | None
    reason: str = ""
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def after(self, earlier: Answer | None) -> Answer:
        """This answer with the tokens of an earlier try added."""
        if earlier is None:
            return self
        return replace(
            self,
            prompt_tokens=self.prompt_tokens + earlier.prompt_tokens,
            completion_tokens=self.completion_tokens + earlier.completion_tokens,
        )

    def row(self) -> dict[str, Any]:
        """Values of ANSWER_SCHEMA."""
        names = ("ask_id", "reason", "detail", "prompt_tokens", "completion_tokens")
        return {"answer": self.text} | {name: getattr(self, name) for name in names}


def check_answer(ask_id: str, kind: str, text: str, *, is_cut_off: bool, config: AnswersConfig) -> Answer:
    """Accept what a model said, or say why not.

    Args:
        ask_id: What it was asked.
        kind: `caption`, or the type of a question: then the answer is a JSON object with the texts
            `question` and `answer`, perhaps inside a code fence.
        text: What it said.
        is_cut_off: It had more to say.
        config: The rules.

    Returns:
        The stripped caption, or canonical JSON of the question and its answer.
    """
    text = text.strip()
    fields: tuple[str, ...] = ()
    reason = None
    if not text:
        reason = AnswerReason.EMPTY
    elif is_cut_off:
        reason = AnswerReason.CUT_OFF
    elif len(text) > config.max_chars:
        reason = AnswerReason.TOO_LONG
    elif any(re.search(pattern, text) for pattern in config.refusals):
        reason = AnswerReason.REFUSAL
    elif kind != "caption":
        fields, reason = _question(text)
    if reason is not None:
        return Answer(ask_id, None, reason.value, text[:_DETAIL_CHARS])
    if fields:
        text = canonical_json(dict(zip(("question", "answer"), fields, strict=True))).decode()
    return Answer(ask_id, text)


def _question(text: str) -> tuple[tuple[str, ...], AnswerReason | None]:
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except ValueError:
        return (), AnswerReason.NOT_JSON
    if not isinstance(value, dict) or set(value) != {"question", "answer"}:
        return (), AnswerReason.WRONG_FIELDS
    fields = tuple(
        value[name].strip() if isinstance(value[name], str) else "" for name in ("question", "answer")
    )
    return (fields, None) if all(fields) else ((), AnswerReason.WRONG_FIELDS)


def commit_answers(store: Store, key: str, answers: Sequence[Answer]) -> None:
    """Commit a batch; whoever asked the same things first wins."""
    rows = [answer.row() for answer in sorted(answers, key=lambda answer: answer.ask_id)]
    content = "\n".join(f"{row['ask_id']} {row['answer'] is None}" for row in rows)
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    table = pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)
    commit_first(store, f"enrich/{key}/{name[:2]}/{name}.parquet", table_bytes(table))


def read_answers(store: Store, key: str) -> pa.Table:
    """Every committed answer: ANSWER_SCHEMA, distinct ids, ascending.

    Of several answers to one question an accepted one counts, and of those the first by file name.
    """
    paths = [info.key for info in store.list(f"enrich/{key}/") if info.key.count("/") == 3]
    batches = [read_table_bytes(store.get(path), schema=ANSWER_SCHEMA) for path in paths]
    if not batches:
        return ANSWER_SCHEMA.empty_table()
    table = pa.concat_tables(batches).combine_chunks()
    ranked = table.append_column("is_refused", table["answer"].is_null())
    ranked = ranked.append_column("place", pa.array(np.arange(table.num_rows)))
    order = [("ask_id", "ascending"), ("is_refused", "ascending"), ("place", "ascending")]
    ranked = ranked.sort_by(order)
    ids = np.asarray(ranked["ask_id"].to_pylist(), dtype="S32")
    is_first = np.concatenate([[True], ids[1:] != ids[:-1]])
    return ranked.filter(pa.array(is_first)).select(ANSWER_SCHEMA.names)
