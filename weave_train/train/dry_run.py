"""`--dry_run`: everything a run needs is loaded, looked at and stepped through once; nothing is kept.

    sampled rows -> template     heaviest row -> a full micro-batch of it -> one step at rate 0

The heaviest row is that of the token index (`weave-train index`), else of the sampled rows.

What would end a run after an hour of loading, a row that does not fit or a batch that takes too much
memory, ends this in minutes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from weave_train.config import PretrainConfig
from weave_train.feed import heaviest_row, open_sources, summarize
from weave_train.launch import Launch
from weave_train.numbers import memory_bytes
from weave_train.rows.batch import EncodedRow, make_row
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID
from weave_train.train.objective import micro_batches, take_step
from weave_train.train.prepare import PreparedRun, prepare_run
from weave_train.train.token_lengths import stored_index
from weave_train.train.totals import RankState, batch_totals

__all__ = ["DryRunReport", "dry_run"]

_SAMPLED_STEPS = 16
_TEXT_CHARACTERS = 600


@dataclass(frozen=True)
class DryRunReport:
    """What a dry run found, on the first rank.

    Attributes:
        num_steps: Of the real run.
        epoch_steps: Global batches of its first epoch.
        template: One row's tokens as text; what is learnt between `[[` and `]]`.
        rows: Whose lengths are known.
        is_indexed: These are all rows of a token index; else a sample.
        mean_tokens: Of a row, visual ones included.
        heaviest: Sample id of the row with most tokens.
        heaviest_tokens: Its length.
        heaviest_frames: Its frames.
        room: `llm_max_length`.
        loss: Of the step, per supervised token.
        grad_norm: Of the step.
        step_seconds: Of one micro-step with a full batch of the heaviest row.
        memory_bytes: See `numbers.memory_bytes`, after the step.
        trained_parameters: Of all ranks together.
    """

    num_steps: int
    epoch_steps: int
    template: str
    rows: int
    is_indexed: bool
    mean_tokens: float
    heaviest: str
    heaviest_tokens: int
    heaviest_frames: int
    room: int
    loss: float
    grad_norm: float
    step_seconds: float
    memory_bytes: int
    trained_parameters: int

    def lines(self) -> list[str]:
        """For people."""
        gib = self.memory_bytes / 2**30
        origin = "in the token index" if self.is_indexed else "looked at (weave-train index counts all)"
        weight = f"{self.heaviest_tokens} tokens of {self.room}, {self.heaviest_frames} frames"
        outcome = f"loss {self.loss:.4f}, gradient norm {self.grad_norm:.4f}"
        return [
            f"steps        {self.num_steps}, {self.epoch_steps} an epoch",
            f"trained      {self.trained_parameters:,} parameters",
            f"rows         {self.rows} {origin}, {self.mean_tokens:.0f} tokens on average",
            f"heaviest     {self.heaviest}: {weight}",
            f"one step     {outcome}, {self.step_seconds:.2f} s, {gib:.2f} GiB",
            "template, what is learnt in [[ ]]:",
            *(f"    {line}" for line in self.template.splitlines()),
        ]


def dry_run(config: PretrainConfig, launch: Launch) -> DryRunReport:
    """Go through a run's first minutes on every rank alike; nothing is written.

    Raises:
        WeaveError: What the run itself would raise.
    """
    run = prepare_run(config, launch, is_dry=True)
    try:
        return _look(run)
    finally:
        run.feed.close()


def _look(run: PreparedRun) -> DryRunReport:
    rows = _sampled(run) or [_any_row(run)]
    indexed = _indexed(run)
    lengths = [len(row.input_ids) for row in rows]
    heaviest = indexed.heaviest if indexed else max(rows, key=_weight)
    micro_rows = run.engine.settings.micro_batch_rows
    batches = micro_batches([heaviest] * micro_rows, micro_rows=micro_rows, num_micro_steps=1, vlm=run.vlm)
    totals = batch_totals(
        [heaviest] * micro_rows, range(micro_rows), batches, state=RankState(), launch=run.launch
    )
    begin = time.perf_counter()
    outcome = take_step(
        run.engine,
        run.vlm,
        batches,
        supervised_tokens=totals.supervised_tokens,
        learning_rate=0.0,
        launch=run.launch,
    )
    epoch_steps = run.order.num_steps(1)
    return DryRunReport(
        num_steps=run.num_steps,
        epoch_steps=epoch_steps,
        template=_template(run, rows[0]),
        rows=indexed.rows if indexed else len(rows),
        is_indexed=indexed is not None,
        mean_tokens=indexed.tokens / indexed.rows if indexed else sum(lengths) / len(rows),
        heaviest=heaviest.sample_id,
        heaviest_tokens=len(heaviest.input_ids),
        heaviest_frames=len(heaviest.pixels),
        room=run.vlm.settings.llm_max_length,
        loss=outcome.loss,
        grad_norm=outcome.grad_norm,
        step_seconds=time.perf_counter() - begin,
        memory_bytes=memory_bytes(run.launch.device),
        trained_parameters=sum(math.prod(shape) for shape in run.engine.shapes.values()),
    )


@dataclass(frozen=True)
class _Indexed:
    rows: int
    tokens: int
    heaviest: EncodedRow


def _indexed(run: PreparedRun) -> _Indexed | None:
    """From the token indexes, where each data set has one.

    Raises:
        ConfigError: A row does not fit; names it.
    """
    tokenizer, settings = run.vlm.tokenizer, run.vlm.settings
    summaries, heaviest = [], []
    for source in open_sources(run.config.dataset, config=run.config):
        index = stored_index(
            source, tokenizer=tokenizer, settings=settings, to=run.config.dataset.token_index
        )
        if index is None:
            return None
        line = index.slice(heaviest_row(index), 1).to_pylist()[0]
        epoch = line["data_epoch"]
        group = source.read(epoch, line["shard_index"], line["group_index"], epoch=epoch)
        row = group.slice(line["row_index"], 1).to_pylist()[0]
        heaviest.append(make_row(row, tokenizer=tokenizer, settings=settings))
        summaries.append(summarize(index))
    rows, tokens = (sum(getattr(summary, name) for summary in summaries) for name in ("rows", "tokens"))
    return _Indexed(rows, tokens, max(heaviest, key=_weight))


def _weight(row: EncodedRow) -> tuple[int, int]:
    return len(row.input_ids), len(row.pixels)


def _sampled(run: PreparedRun) -> list[EncodedRow]:
    """Rows of steps spread over the first epoch."""
    steps = run.order.num_steps(1)
    chosen = sorted({index * steps // _SAMPLED_STEPS for index in range(min(steps, _SAMPLED_STEPS))})
    return [row for step in chosen for row in run.feed.batch(step)]


def _any_row(run: PreparedRun) -> EncodedRow:
    """For a rank that has no row in these steps, as there are more ranks than rows: it steps all the same."""
    source = open_sources(run.config.dataset, config=run.config)[0]
    shard = next(index for index, count in enumerate(source.shard_rows[0]) if count)
    row = source.read(0, shard, 0, epoch=0).slice(0, 1).to_pylist()[0]
    return make_row(row, tokenizer=run.vlm.tokenizer, settings=run.vlm.settings)


def _template(run: PreparedRun, row: EncodedRow) -> str:
    """Tokens as the model gets them; runs of visual tokens as their number."""
    pieces: list[str] = []
    ids, labels = row.input_ids.tolist(), row.labels.tolist()
    at = 0
    while at < len(ids):
        stop = at
        is_visual, is_learnt = ids[at] == VISUAL_TOKEN_ID, labels[at] != IGNORE_INDEX
        while (
            stop < len(ids)
            and (ids[stop] == VISUAL_TOKEN_ID) == is_visual
            and (labels[stop] != IGNORE_INDEX) == is_learnt
        ):
            stop += 1
        text = f"<{stop - at} visual>" if is_visual else str(run.vlm.tokenizer.decode(ids[at:stop]))
        pieces.append(f"[[{text}]]" if is_learnt else text)
        at = stop
    whole = "".join(pieces)
    return whole if len(whole) <= _TEXT_CHARACTERS else whole[:_TEXT_CHARACTERS] + " ..."
