"""`weave-train evaluate`: a stored model answers a benchmark's questions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weave_data.errors import ConfigError, IncompleteError, RejectLimitError, SourceError, VerificationError
from weave_data.foreign_text import visible
from weave_train.commands.ask import Model, NumFrames, Token

if TYPE_CHECKING:
    from weave_train.evaluate.run import Evaluation
    from weave_train.evaluate.tasks.catalog import Task
    from weave_train.evaluate.weights import PinnedModel

__all__ = ["evaluate"]


def evaluate(
    model: Model,
    *,
    task: Annotated[str, typer.Option(help="videomme, nextqa, mvbench, questions, ...; several by comma.")],
    data: Annotated[str, typer.Option(help="Folder or URI with question files and videos.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder of results; default: RUN/evaluations/step-<n>.")
    ] = None,
    num_frames: NumFrames = None,
    modes: Annotated[
        str, typer.Option(help="What is seen: frames, blind, center; random guesses.")
    ] = "frames,blind",
    num_ranks: Annotated[
        int, typer.Option("--num-ranks", "--num_ranks", min=1, help="Processes on this machine.")
    ] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", "--batch_size", min=1)] = 8,
    generate: Annotated[
        bool, typer.Option(help="Answer choices in writing, too, not by likelihood alone.")
    ] = True,
    max_lost: Annotated[
        float,
        typer.Option("--max-lost", "--max_lost", min=0.0, max=1.0, help="Share of rows without answer."),
    ] = 0.01,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Only the first so many questions, and rows lost before the last."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of guesses.")] = 7,
    wordnet: Annotated[Path | None, typer.Option(help="Folder of WordNet, for WUPS.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Every checkpoint as the run publishes it, to its last step.")
    ] = False,
    every_steps: Annotated[
        int, typer.Option("--every-steps", "--every_steps", min=1, help="With --follow: multiples only.")
    ] = 1,
    hf_token: Token = None,
) -> None:
    """Ask a stored model a benchmark's questions; a killed evaluation goes on with the same command."""
    from weave_train.evaluate.following import step_folder
    from weave_train.evaluate.run import Evaluation, check_modes
    from weave_train.evaluate.tasks.catalog import find_task
    from weave_train.evaluate.weights import pin_model, run_folder
    from weave_train.overseer import leave_with_parent

    leave_with_parent()
    tasks = [find_task(name.strip()) for name in task.split(",") if name.strip()]
    if not tasks:
        raise ConfigError("task: required, e.g. --task questions", origin="command line")
    asked = partial(
        Evaluation,
        data=data,
        modes=check_modes([mode.strip() for mode in modes.split(",") if mode.strip()]),
        num_frames=num_frames,
        batch_size=batch_size,
        generates=generate,
        max_lost=max_lost,
        limit=limit,
        seed=seed,
        wordnet=wordnet,
    )

    def evaluate_pinned(pinned: PinnedModel, folder: Path) -> None:
        evaluation = asked(pinned=pinned, to=folder)
        if num_ranks > 1 and "RANK" not in os.environ:
            _start(evaluation, tasks, num_ranks, hf_token)
        else:
            _answer(evaluation, tasks, hf_token)

    if follow:
        _follow(model, to or run_folder(model), [each.name for each in tasks], every_steps, evaluate_pinned)
        return
    pinned = pin_model(model)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and pinned.step is not None and "checkpoints/" not in model:
        raise ConfigError(
            "model: under a launcher each rank would look for the newest checkpoint by itself; name one, "
            f"{pinned.model}, or give --num-ranks",
            origin="command line",
        )
    evaluate_pinned(pinned, to or step_folder(run_folder(model), pinned.step))


def _follow(
    run: str,
    folder: Path,
    tasks: Sequence[str],
    every_steps: int,
    evaluate_pinned: Callable[[PinnedModel, Path], None],
) -> None:
    from weave_train.evaluate.following import (
        answered_steps,
        failure_of_steps,
        is_removed,
        new_checkpoints,
        step_folder,
        write_curve,
    )
    from weave_train.evaluate.weights import pin_checkpoint

    if "RANK" in os.environ:
        raise ConfigError("follow: it starts its own ranks; give --num-ranks instead of a launcher")
    done = answered_steps(folder, tasks)
    if folder.is_dir():  # somebody may have removed a step's results
        write_curve(folder, tasks)
    for checkpoint in new_checkpoints(run, done=done, every_steps=every_steps, tell=_say):
        _say(f"step {checkpoint.step}")
        try:
            evaluate_pinned(pin_checkpoint(checkpoint), step_folder(folder, checkpoint.step))
        except (RejectLimitError, IncompleteError) as error:
            _say(f"step {checkpoint.step}: {visible(str(error))}")  # it has a score; the others get theirs
        except (ConfigError, SourceError, VerificationError, _RanksFailed):
            if not is_removed(checkpoint):
                raise
            _say(f"step {checkpoint.step}: the run removed it before it was read; left out")
        write_curve(folder, tasks)
    if failure := failure_of_steps(folder, tasks):
        raise failure


class _RanksFailed(SystemExit):
    """A rank ended with an exit code, having said why."""


def _say(line: str) -> None:
    print(line, flush=True)


def _start(evaluation: Evaluation, tasks: Sequence[Task], num_ranks: int, hf_token: str | None) -> None:
    from weave_train.evaluate.journal import ask_lost_again
    from weave_train.plugin import run_ranks

    for task in tasks:
        ask_lost_again(evaluation.to / task.name)  # before any rank looks what is left
    flags: dict[str, Any] = {
        "--task": ",".join(task.name for task in tasks),
        "--data": evaluation.data,
        "--to": evaluation.to,
        "--modes": ",".join(evaluation.modes),
        "--num-frames": evaluation.num_frames,
        "--batch-size": evaluation.batch_size,
        "--max-lost": evaluation.max_lost,
        "--limit": evaluation.limit,
        "--seed": evaluation.seed,
        "--wordnet": evaluation.wordnet,
        "--hf-token": hf_token,
    }
    words = [str(word) for flag in flags.items() if flag[1] is not None for word in flag]
    words.append("--generate" if evaluation.generates else "--no-generate")
    code = run_ranks(
        [sys.executable, "-m", "weave_train", "evaluate", evaluation.pinned.model, *words],
        num_ranks=num_ranks,
    )
    if code:
        raise _RanksFailed(code if code > 0 else 1)
    _end(evaluation, tasks)


def _answer(evaluation: Evaluation, tasks: Sequence[Task], hf_token: str | None) -> None:
    from weave_train.evaluate.run import evaluate_task
    from weave_train.launch import local_device
    from weave_train.loading import load
    from weave_train.overseer import PARENT_VARIABLE
    from weave_train.placement import choose_threads

    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        choose_threads(None)
    device = local_device(int(os.environ.get("LOCAL_RANK", "0")))
    vlm = load(evaluation.pinned.model, hf_token, num_frames=evaluation.num_frames, device=device)
    published = []
    for task in tasks:
        tell = _tell if rank == 0 else lambda _: None
        try:
            results = evaluate_task(evaluation, task, vlm, rank=rank, world_size=world_size, tell=tell)
        except (RejectLimitError, IncompleteError):
            published.append(task)  # the other tasks are answered all the same
        else:
            published += [task] if results is not None else []
    if world_size == 1 or PARENT_VARIABLE not in os.environ:  # else `_start` does, when all ranks are done
        _end(evaluation, published)


def _end(evaluation: Evaluation, tasks: Sequence[Task]) -> None:
    """Print scores of finished tasks; raise when one lost too much, naming each that did."""
    from weave_train.evaluate.publishing import failure_of, read_results

    folders = [evaluation.to / task.name for task in tasks]
    for folder in folders:
        _print(read_results(folder))
    found = [failure_of(folder, max_lost=evaluation.max_lost) for folder in folders]
    failures = [failure for failure in found if failure is not None]
    if failures:
        is_circumstance = all(isinstance(failure, IncompleteError) for failure in failures)
        raise (IncompleteError if is_circumstance else RejectLimitError)("\n".join(map(str, failures)))


def _tell(line: str) -> None:
    end = "\n" if not sys.stderr.isatty() else "\r"
    print(line, end=end, file=sys.stderr, flush=True)


def _print(results: Mapping[str, Any]) -> None:
    if missing := results.get("missing_kinds"):
        print(f"{results['task']}: the files of {', '.join(missing)} are not there: scores are of the others")
    for mode, found in results["modes"].items():
        scores = ", ".join(
            f"{name} {row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            for name, row in found["scores"].items()
        )
        lost = sum(found["lost"].values())
        print(f"{results['task']}, {mode}: {found['count']} questions, {lost} lost: {scores}")
