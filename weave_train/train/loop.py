"""The training loop: rows, totals, one optimizer step, a report, now and then validation and a checkpoint."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace

from weave_data.errors import TrainingError, WeaveError
from weave_data.trainers import RunResult
from weave_train.config import PretrainConfig
from weave_train.launch import Launch
from weave_train.numbers import StepReport, ValidationReport, last_loss, open_trackers
from weave_train.order import rank_slots
from weave_train.rows.batch import EncodedRow
from weave_train.train.agreement import raise_together
from weave_train.train.nonfinite import NonFiniteError
from weave_train.train.objective import StepTotals, micro_batches, take_step
from weave_train.train.prepare import PreparedRun, prepare_run
from weave_train.train.saving import save_run
from weave_train.train.schedule import learning_rate_at
from weave_train.train.stop import StopRequest
from weave_train.train.totals import RankState, batch_totals
from weave_train.train.validation import is_validation_step, validate
from weave_train.train.watchdog import Watchdog

__all__ = ["train", "train_step"]


def train(config: PretrainConfig, launch: Launch) -> RunResult:
    """Train a run to its end, or until `stop_after_steps`; called on every rank alike.

    Returns:
        The same on every rank, save that only the first knows the loss of a run that was finished
        before.

    Raises:
        WeaveError: See `prepare_run` and `take_step`.
    """
    limit = config.watch.resolved_load_timeout_s
    with Watchdog(None, launch, limit, setting="watch.load_timeout_s") as watch:
        run = prepare_run(config, launch, watch=watch)
    stop_step = run.num_steps
    if config.stop_after_steps is not None:
        stop_step = min(stop_step, run.step + config.stop_after_steps)
    loss = last_loss(run.run_dir, stage=config.stage)
    with ExitStack() as closing:
        closing.callback(run.feed.close)
        closing.callback(run.writer.close)
        watch = closing.enter_context(Watchdog(run.run_dir, launch, config.watch.step_timeout_s))
        stop = closing.enter_context(StopRequest())
        tell = closing.enter_context(_trackers(run)) if launch.is_first else _nobody
        is_stopped = False
        while run.step < stop_step and not is_stopped:
            report, is_stopped = train_step(run, stop, watch)
            loss = loss if report.was_skipped else report.loss
            validation, failure = None, None
            if not is_stopped:  # who asks a run to stop does not wait for long
                validation, failure, is_stopped = _validate(run, watch, stop)
            if run.claim is None or run.claim.holds:  # else metrics.jsonl is somebody else's by now
                tell(replace(report, validation=validation))
            if run.step == stop_step or is_stopped or failure or _is_save_step(run):
                watch.enter("save", step=run.step)
                save_run(run)
            if failure is not None:  # the steps before it are worth keeping
                watch.enter("last save", step=run.step)
                run.writer.finish()
                raise failure
        watch.enter("last save", step=run.step)
        run.writer.finish()
    return RunResult(run_dir=str(run.run_dir), final_step=run.step, final_loss=loss)


def train_step(
    run: PreparedRun, stop: StopRequest | None = None, watch: Watchdog | None = None
) -> tuple[StepReport, bool]:
    """Take the next optimizer step of a run and advance it.

    Args:
        run: As prepared, on every rank.
        stop: Of this rank, if anybody may ask it to stop.
        watch: Of this rank, if it is watched.

    Returns:
        What happened, and whether some rank was asked to stop; equal on all ranks.

    Raises:
        WeaveError: Rows can't be had or the step can't be taken, on this rank or another.
    """
    begin = time.perf_counter()
    watch = watch or Watchdog(run.run_dir, run.launch, run.config.watch.step_timeout_s)
    watch.enter("rows", step=run.step)
    rows, failure = _rows(run)
    waited = time.perf_counter() - begin
    batches = micro_batches(
        rows,
        micro_rows=run.engine.settings.micro_batch_rows,
        num_micro_steps=_num_micro_steps(run),
        vlm=run.vlm,
    )
    slots = [] if failure is not None else run.order.slots_at(run.step, run.slots)
    state = RankState(failure is not None, stop is not None and stop.is_made)
    watch.enter("totals", sample_ids=[row.sample_id for row in rows])
    totals = batch_totals(
        rows, slots, batches, state=state, launch=run.launch, flops=run.meter.flops_of(batches)
    )
    if totals.failed_ranks:
        raise_together(failure, run.launch)
    rate = _learning_rate(run)
    if run.vlm.core.draws is not None:
        run.vlm.core.draws.step = run.step
    watch.enter("compute")
    try:
        outcome = take_step(
            run.engine,
            run.vlm,
            batches,
            supervised_tokens=totals.supervised_tokens,
            learning_rate=rate,
            launch=run.launch,
            with_module_norms=run.step % run.config.module_norms_every == 0,
        )
    except NonFiniteError as error:
        outcome = _skip(run, error)
    run.ledger = hashlib.sha256(f"{run.ledger}/{totals.ledger_sum}".encode()).hexdigest()
    epoch, _ = run.order.locate(run.step)
    run.step += 1
    seconds = time.perf_counter() - begin
    report = StepReport(
        step=run.step,
        num_steps=run.num_steps,
        epoch=epoch,
        loss=outcome.loss,
        learning_rate=rate,
        grad_norm=outcome.grad_norm,
        module_norms=outcome.module_norms,
        step_seconds=seconds,
        data_wait_seconds=waited,
        save_wait_seconds=_take_save_seconds(run),
        was_skipped=bool(outcome.skip_reason),
        skip_reason=outcome.skip_reason,
        ledger=run.ledger[:16],
        **run.meter.fields(totals, step_seconds=seconds, stats=run.feed.take_stats()),
    )
    return report, totals.stop_requests > 0


def _rows(run: PreparedRun) -> tuple[list[EncodedRow], WeaveError | None]:
    try:
        if run.claim is not None:
            run.claim.check()
        run.writer.check()
        return run.feed.batch(run.step), None
    except WeaveError as error:
        return [], error


def _num_micro_steps(run: PreparedRun) -> int:
    """Of the rank with most rows at this step; arithmetic, no communication."""
    size = run.order.batch_rows
    most = max(
        len(run.order.slots_at(run.step, rank_slots(rank, world_size=run.launch.world_size, batch_rows=size)))
        for rank in range(run.launch.world_size)
    )
    return max(1, -(-most // run.engine.settings.micro_batch_rows))


def _learning_rate(run: PreparedRun) -> float:
    hyper = run.config.hyper
    return learning_rate_at(
        run.step,
        schedule=hyper.lr_scheduler_type,
        peak=hyper.learning_rate,
        num_steps=run.num_steps,
        warmup_ratio=hyper.warmup_ratio,
    )


def _skip(run: PreparedRun, error: NonFiniteError) -> StepTotals:
    """Leave a step out and say so, or stop; on every rank alike."""
    if run.config.watch.nonfinite == "stop":
        raise error
    most = run.config.watch.max_skipped_steps
    if run.skipped_steps == most:
        raise TrainingError(
            f"step {run.step + 1}: {error.reason}; this run has skipped {most} steps, as many as "
            "watch.max_skipped_steps allows: lower the learning rate or look at these samples"
        ) from error
    run.skipped_steps += 1
    if run.launch.is_first:
        told = f"step {run.step + 1} skipped ({run.skipped_steps} of at most {most})"
        sys.stderr.write(f"weave-train: {told}: {error.reason}\n")
    return StepTotals(error.loss, error.grad_norm, skip_reason=error.reason)


def _is_save_step(run: PreparedRun) -> bool:
    """Every n steps if told so; else at the end of an epoch, unless the run counts in steps."""
    if run.config.save_every is not None:
        return run.step % run.config.save_every == 0
    if run.config.hyper.max_steps is not None:
        return False
    _, epoch_step = run.order.locate(run.step)
    return epoch_step == 0


def _validate(
    run: PreparedRun, watch: Watchdog, stop: StopRequest
) -> tuple[ValidationReport | None, WeaveError | None, bool]:
    """What a pass found if one is due, why it failed, whether some rank was asked to stop in it."""
    is_due = run.held_out is not None and is_validation_step(
        run.step, every=run.config.val_every_steps, num_steps=run.num_steps, order=run.order
    )
    if run.held_out is None or not is_due:
        return None, None, False

    def note(rows: list[EncodedRow]) -> None:
        watch.enter("validation", sample_ids=[row.sample_id for row in rows])

    watch.enter("validation", step=run.step)
    try:
        with run.engine.averaged_weights():
            report = validate(
                run.held_out,
                engine=run.engine,
                vlm=run.vlm,
                launch=run.launch,
                on_step=note,
                is_stopping=lambda: stop.is_made,
            )
    except WeaveError as error:  # on every rank, see `validate`
        return None, error, False
    return report, None, report is None


def _take_save_seconds(run: PreparedRun) -> float:
    """How long training stood still for checkpoints since the step before."""
    stats = run.writer.stats
    before, run.save_seconds = run.save_seconds, stats.copy_seconds + stats.wait_seconds
    return run.save_seconds - before


def _trackers(run: PreparedRun) -> AbstractContextManager[Callable[[StepReport], None]]:
    return open_trackers(run.config, run.run_dir, start_step=run.step, num_steps=run.num_steps)


def _nobody(report: StepReport) -> None:
    """Ranks but the first tell nothing."""
