"""`weave-data enrich`: clips -> questions to a model -> answers, kept -> a file by clip id."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption import read_caption_file
from weave_data.catalog import build_catalog
from weave_data.config.enrich import EndpointConfig, EnrichConfig, LocalModelConfig
from weave_data.enrich import (
    Answer,
    Endpoint,
    LocalModel,
    Prompt,
    answer_locally,
    ask_ids,
    commit_answers,
    distinct_asks,
    model_sha256,
    read_answers,
    read_prompts,
)
from weave_data.errors import AccountingError, IncompleteError, RejectLimitError, SourceError
from weave_data.execute import ActorPool, Executor, InProcessExecutor, RayExecutor, RayResources, Step
from weave_data.records import StageCount, content_key
from weave_data.storage import Store, commit_exact, open_source, open_store
from weave_data.tables import table_bytes
from weave_data.upkeep import catalog_round, removed_ids

__all__ = ["EnrichResult", "enrich"]

_CHARS_PER_TOKEN = 4  # of English text, for estimates only
_TOKEN_COLUMNS = ("prompt_tokens", "completion_tokens")
_MIN_ANSWERS = 100  # fewer say nothing about a model

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class EnrichResult:
    """What came out; `path` and `rejects_path` are relative to the output, None after a dry run."""

    task: str
    count: StageCount | None
    path: str | None
    rejects_path: str | None
    num_requests: int
    num_open: int
    prompt_tokens: int
    completion_tokens: int
    output: str

    def lines(self) -> list[str]:
        """For the terminal."""
        if self.count is None:
            tokens = (
                f"{self.prompt_tokens} prompt tokens and at most {self.completion_tokens} completion tokens"
            )
            return [f"{self.num_open} requests to make, about {tokens}; nothing was asked"]
        rejected = ", ".join(f"{reason} {number}" for reason, number in sorted(self.count.rejected.items()))
        tokens = f"{self.prompt_tokens} prompt and {self.completion_tokens} completion tokens"
        lines = [
            f"{self.count.num_in} asked for, {self.count.num_out} answered, rejected: {rejected or 'none'}",
            f"{self.num_requests} requests now; {tokens} in all answers of this key",
            f"wrote {self.path}",
        ]
        if self.rejects_path:
            lines.append(f"rejects in {self.rejects_path}")
        return [*lines, f"use it in a recipe: {self.task}: {{file: {self.output}/{self.path}}}"]


def enrich(
    config: EnrichConfig,
    *,
    dry_run: bool = False,
    retry_rejected: bool = False,
    on_progress: Progress = lambda *_: None,
    transport: Any = None,
) -> EnrichResult:
    """Ask what has no answer yet and write the file of all answers.

    Args:
        config: Whose captions, which model, which rules.
        dry_run: Only say what would be asked; writes nothing but the source's catalog.
        retry_rejected: Ask again what was refused before.
        on_progress: Called with stage, done, total and unit.
        transport: Another way to send requests (tests).

    Raises:
        SourceError: Captions, prompts, model or endpoint can't be used.
        RejectLimitError: More than `answers.max_rejected` were refused.
        IncompleteError: Some questions got no answer; those that did are kept.
    """
    store = open_store(config.output)
    store.check(write=True)
    clips = _clips(config, store)
    kinds = ["caption"] if config.task == "captions" else list(config.types)
    origin = config.prompts or "prompts.yaml"
    prompts = read_prompts(_prompt_text(config.prompts), kinds, origin=origin)
    key = _key(config, prompts)
    known = read_answers(store, key)
    settled = known.filter(known["answer"].is_valid()) if retry_rejected else known
    asks = distinct_asks(clips["caption"], kinds, settled["ask_id"].combine_chunks())
    if dry_run:
        return _estimate(config, asks, prompts)
    num_requests, num_failed = _ask(
        config, asks, prompts, _Keeper(config, store, key, on_progress), transport
    )
    if num_failed:
        raise IncompleteError(
            f"{num_failed} of {asks.num_rows} questions got no answer in {_attempts(config)} attempts each; "
            "answers so far are kept, the same command asks the rest"
        )
    return _write(config, store, key, clips, prompts, num_requests)


def _clips(config: EnrichConfig, store: Store) -> pa.Table:
    """`clip_id` and `caption`, ascending ids."""
    if config.captions is not None:
        given = config.captions
        file = read_caption_file(given.file, id_column=given.id_column, caption_column=given.column)
        clips = file.table
    else:
        assert config.source is not None
        catalog = build_catalog(
            config.source, store, removed=removed_ids(store), listing_round=catalog_round(store)
        )
        parts = [catalog.read_part(store, part).select(["clip_id", "caption"]) for part in catalog.parts]
        clips = pa.concat_tables(parts) if parts else None
    if clips is None or clips.num_rows == 0:
        raise SourceError("no clip has a caption; correct source or captions.file")
    return clips.sort_by("clip_id")


def _prompt_text(uri: str | None) -> str | None:
    if uri is None:
        return None
    folder, _, name = uri.rpartition("/")
    return open_source(folder or ("/" if uri.startswith("/") else ".")).read(name).decode("utf-8", "replace")


def _key(config: EnrichConfig, prompts: dict[str, Prompt]) -> str:
    """Everything that shapes an answer; not where the model runs, nor how many requests there are."""
    answers = config.answers.model_dump(mode="json", exclude={"batch", "max_rejected"})
    identity: dict[str, Any]
    match config.model:
        case EndpointConfig() as model:
            identity = {"name": model.name, "revision": model.revision, "json_schema": model.json_schema}
        case LocalModelConfig() as model:
            identity = {"sha256": model_sha256(model.path), "batch_size": model.batch_size}
    sums = {kind: prompt.sha256 for kind, prompt in prompts.items()}
    return content_key("enrich", model=identity, answers=answers, prompts=sums)


def _attempts(config: EnrichConfig) -> int:
    return config.model.attempts if isinstance(config.model, EndpointConfig) else 1


class _Keeper:
    """Takes answers as they come and commits them in batches; stops a run that refuses too many."""

    def __init__(self, config: EnrichConfig, store: Store, key: str, on_progress: Progress) -> None:
        self.store, self.key = store, key
        self._rules, self._on_progress = config.answers, on_progress
        self._waiting: list[Answer] = []
        self._num_done = self._num_refused = 0
        self.total = 0

    def add(self, answer: Answer) -> None:
        self._waiting.append(answer)
        self.count(1, int(answer.text is None))
        if len(self._waiting) >= self._rules.batch:
            self.flush()

    def count(self, num_answers: int, num_refused: int) -> None:
        self._num_done += num_answers
        self._num_refused += num_refused
        self._on_progress("enrich", self._num_done, self.total, "answers")
        if self._num_done >= _MIN_ANSWERS and self._num_refused > self._rules.max_rejected * self._num_done:
            raise RejectLimitError(_too_many(self._num_refused, self._num_done, self._rules.max_rejected))

    def flush(self) -> None:
        if self._waiting:
            commit_answers(self.store, self.key, self._waiting)
            self._waiting = []


def _too_many(num_refused: int, num_answers: int, limit: float) -> str:
    return (
        f"{num_refused} of {num_answers} answers were refused, answers.max_rejected is {limit:g}; "
        "look at the prompt and the model, or raise it"
    )


def _ask(
    config: EnrichConfig, asks: pa.Table, prompts: dict[str, Prompt], keeper: _Keeper, transport: Any
) -> tuple[int, int]:
    """Requests made, and questions that nobody answered."""
    if not asks.num_rows:
        return 0, 0
    keeper.total = asks.num_rows
    if isinstance(config.model, LocalModelConfig):
        return _ask_locally(config, config.model, asks, prompts, keeper), 0
    endpoint = Endpoint(config.model, config.answers, prompts, transport)
    try:
        num_failed = endpoint.ask(_rows(asks), keeper.add)
    finally:
        keeper.flush()  # an interrupted run asks none of them again
    return endpoint.num_requests, num_failed


def _rows(asks: pa.Table) -> Iterator[dict[str, str]]:
    for batch in asks.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _ask_locally(
    config: EnrichConfig, model: LocalModelConfig, asks: pa.Table, prompts: dict[str, Prompt], keeper: _Keeper
) -> int:
    """Prompts of like length go through the model together; an actor commits what it answered."""
    lengths = pc.utf8_length(asks["caption"])
    ordered = asks.append_column("length", lengths).sort_by(
        [("length", "descending"), ("ask_id", "ascending")]
    )
    step = config.answers.batch
    items = [ordered.slice(start, step).to_pylist() for start in range(0, ordered.num_rows, step)]
    execution = config.execution
    actors = ActorPool(
        functools.partial(LocalModel, model, config.answers, prompts, keeper.store, keeper.key),
        num_actors=model.actors,
        num_gpus_per_actor=execution.gpus_per_actor if execution.gpus else 0.0,
    )
    executor: Executor = InProcessExecutor()
    if not execution.in_process:
        executor = RayExecutor(RayResources(execution.ray_address, execution.num_cpus, execution.gpus))
    try:
        executor.prepare()
        for num_answers, num_refused in executor.run(Step("enrich", items, answer_locally, actors)):
            keeper.count(num_answers, num_refused)
    finally:
        executor.close()
    return asks.num_rows


def _estimate(config: EnrichConfig, asks: pa.Table, prompts: dict[str, Prompt]) -> EnrichResult:
    around = {kind: len(prompt.system) + len(prompt.user) for kind, prompt in prompts.items()}
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(asks["kind"]).to_pylist()}
    chars = sum(around[kind] * number for kind, number in counts.items())
    chars += pc.sum(pc.utf8_length(asks["caption"]), min_count=0).as_py()
    limit = asks.num_rows * config.answers.max_tokens
    return EnrichResult(
        config.task, None, None, None, 0, asks.num_rows, chars // _CHARS_PER_TOKEN, limit, config.output
    )


def _write(
    config: EnrichConfig,
    store: Store,
    key: str,
    clips: pa.Table,
    prompts: dict[str, Prompt],
    num_requests: int,
) -> EnrichResult:
    answers = read_answers(store, key)
    model = config.model.name if isinstance(config.model, EndpointConfig) else model_sha256(config.model.path)
    tables = [_joined(clips, kind, prompt, answers, model) for kind, prompt in prompts.items()]
    table = pa.concat_tables(tables).combine_chunks()
    is_good = table["answer"].is_valid()
    good, refused = table.filter(is_good), table.filter(pc.invert(is_good))
    reasons = pc.value_counts(refused["reason"]).to_pylist()
    count = StageCount(
        f"enrich {config.task}",
        num_in=clips.num_rows * len(prompts),
        num_out=good.num_rows,
        rejected={entry["values"]: entry["counts"] for entry in reasons},
    )
    if not count.is_balanced:
        raise AccountingError(f"enrich: {count.to_json()} does not add up; delete enrich/{key} and run again")
    if refused.num_rows > config.answers.max_rejected * count.num_in:
        raise RejectLimitError(_too_many(refused.num_rows, count.num_in, config.answers.max_rejected))
    path = _commit(
        store, key, config.task, _as_captions(good) if config.task == "captions" else _as_questions(good)
    )
    rejects_path = None
    if refused.num_rows:
        columns = ["clip_id", "kind", "reason", "detail", "model", "prompt_sha256", "input_sha256"]
        rejects_path = _commit(store, key, "rejects", refused.select(columns))
    spent, written = (pc.sum(answers[name], min_count=0).as_py() for name in _TOKEN_COLUMNS)
    return EnrichResult(
        config.task, count, path, rejects_path, num_requests, 0, spent, written, config.output
    )


def _joined(clips: pa.Table, kind: str, prompt: Prompt, answers: pa.Table, model: str) -> pa.Table:
    """Every clip with its answer of one kind, and where that comes from."""
    captions = clips["caption"].combine_chunks()
    rows = pc.index_in(ask_ids(captions, kind), value_set=answers["ask_id"].combine_chunks())
    if rows.null_count:
        raise AccountingError(
            f"enrich: {rows.null_count} clips have neither an answer nor a reject; run it again"
        )
    texts = captions.cast(pa.binary()).to_pylist()
    constants = {"kind": kind, "model": model, "prompt_sha256": prompt.sha256}
    columns = {
        "clip_id": clips["clip_id"],
        **{name: answers[name].take(rows) for name in ("answer", "reason", "detail")},
        **{name: pa.repeat(pa.scalar(value), clips.num_rows) for name, value in constants.items()},
        "input_sha256": pa.array([hashlib.sha256(text).hexdigest() for text in texts], pa.string()),
    }
    return pa.table(columns)


def _as_captions(table: pa.Table) -> pa.Table:
    renamed = table.rename_columns([{"answer": "caption"}.get(name, name) for name in table.column_names])
    return renamed.select(["clip_id", "caption", "model", "prompt_sha256", "input_sha256"])


def _as_questions(table: pa.Table) -> pa.Table:
    pairs = [json.loads(text) for text in table["answer"].to_pylist()]
    columns = {name: pa.array([pair[name] for pair in pairs], pa.string()) for name in ("question", "answer")}
    base = {"clip_id": table["clip_id"], "type": table["kind"], **columns}
    provenance = {name: table[name] for name in ("model", "prompt_sha256", "input_sha256")}
    # the types of a clip stand together
    order = np.lexsort((np.arange(table.num_rows), np.asarray(table["clip_id"].to_pylist(), dtype=object)))
    return pa.table(base | provenance).take(pa.array(order))


def _commit(store: Store, key: str, name: str, table: pa.Table) -> str:
    data = table_bytes(table)
    path = f"enrich/{key}/{name}-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    commit_exact(store, path, data)
    return path
