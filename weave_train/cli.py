"""`weave-train`: train on woven data, ask a trained model about a video.

Deliberate errors become one line and their exit code (see `weave_data.errors`); `--debug` shows the
traceback. Among several ranks only the first prints, unless a rank fails by itself.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from weave_data.errors import ConfigError, WeaveError
from weave_data.foreign_text import redact, visible
from weave_train.commands.ask import chat, generate
from weave_train.commands.compare import compare
from weave_train.commands.doctor import HELP as DOCTOR_HELP
from weave_train.commands.doctor import doctor
from weave_train.commands.evaluate import evaluate
from weave_train.commands.flags import pretrain_config
from weave_train.commands.launch import HELP as LAUNCH_HELP
from weave_train.commands.launch import launch
from weave_train.commands.ranks import start_ranks
from weave_train.commands.serve import serve
from weave_train.commands.sweep import HELP as SWEEP_HELP
from weave_train.commands.sweep import sweep
from weave_train.overseer import leave_with_parent, note_exit

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)

_PRETRAIN = """Train on a woven data set: weave-train pretrain --dataset.manifest URI --model.type tiny

Flags are written --name value, --name=value, or --switch; dotted names reach into sections:

\b
  --dataset.manifest URI          OUTPUT/<recipe>/manifest.json, local or s3://
  --model.type ID                 preset; every field can be set, e.g. --model.num_frames 16
  --model.finetune_*              epochs, max_steps, global_batch_size, per_device_batch_size,
                                  learning_rate, weight_decay, max_grad_norm, lr_scheduler_type,
                                  warmup_ratio, train_strategy
  --num_ranks N                   start N ranks on this machine; --launcher ray: as Ray Train workers
  --zero_stage 0|1|2|3            or --deepspeed FILE
  --stage align|finetune|full-finetune, --model.init_from_model, --pretrained_checkpoint
  --run_root_dir, --run_id        where the run lies; --checkpoint.uri s3://... for its checkpoints
  --resume auto|never|DIR         auto continues the newest complete checkpoint of the run
  --max_steps, --save_every_steps, --stop_after_steps, --seed, --num_workers
  --val_dataset.split val         validate; --trackers jsonl wandb
  --dry_run                       load everything, show the heaviest row, take one step, write nothing
  --config FILE                   the same settings as YAML; flags win
"""


@app.callback()
def _root() -> None:
    """Train a video-language model on woven data, and ask it about videos."""


@app.command(help=_PRETRAIN, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def pretrain(context: typer.Context) -> None:
    """Parse flags, train, say where the run lies."""
    config = pretrain_config(context.args)
    if config.num_ranks is not None and "RANK" not in os.environ:
        leave_with_parent()
        start_ranks(config, num_ranks=config.num_ranks)
        return
    from weave_train.engine.engine import leave_process_group
    from weave_train.launch import detect_launch
    from weave_train.train.dry_run import dry_run
    from weave_train.train.loop import train

    this = detect_launch(num_threads=config.num_threads, interface=config.network_interface)
    if config.dry_run:
        report = dry_run(config, this)
        leave_process_group()
        if this.is_first:
            print("\n".join(report.lines()))
        return
    result = train(config, this)
    leave_process_group()
    if this.is_first:
        print(f"step {result.final_step}, loss {result.final_loss:.4f}, run {result.run_dir}")


_INDEX = """Count the tokens of every row: weave-train index MANIFEST --model.type tiny

Texts are read, pixels are not. The index lies beside the manifest, or where --to says; what it holds depends
on tokenizer, prompt format, patches of a frame and --model.llm_max_length, and one made with others is not
taken. --dry_run and weave-train estimate use it. Flags are those of weave-train pretrain; without MANIFEST
each data set of the configuration is indexed. An index made with --to is found by --dataset.token_index.
"""


@app.command(help=_INDEX, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def index(
    context: typer.Context,
    to: Annotated[str | None, typer.Option(help="Directory or URI; default: beside the manifest.")] = None,
) -> None:
    """Write the token index of each data set and say what is in it."""
    words = list(context.args)
    if words and not words[0].startswith("--"):
        words[:1] = ["--dataset.manifest", words[0]]
    if to is not None:
        words += ["--dataset.token_index", to]
    config = pretrain_config(words)
    from weave_train.train.token_lengths import index_data_sets

    for indexed in index_data_sets(config):
        print("\n".join([indexed.name, *(f"  {line}" for line in indexed.lines())]))


_ESTIMATE = """Say what a run takes: weave-train estimate --dataset.manifest URI --num_ranks 8 --gpu H100

Memory of a rank (model states, buffers, activations of the heaviest micro-batch), tokens, FLOPs, hours and
storage, for the flags of weave-train pretrain. No weights are loaded: --model.llm_weights random asks no hub
for a named model's sizes, with a tokenizer trained on the data in place of its own.
"""


@app.command(help=_ESTIMATE, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def estimate(
    context: typer.Context,
    gpu: Annotated[str | None, typer.Option(help="H100, H200, A100, L40S, ...: hours on it.")] = None,
    mfu: Annotated[float, typer.Option(help="Share of its peak that is used; an assumption.")] = 0.3,
    tokens_per_second: Annotated[
        float | None, typer.Option("--tokens_per_second", help="As measured, of all ranks; wins.")
    ] = None,
) -> None:
    """Print memory, tokens, hours and storage."""
    config = pretrain_config(context.args)
    from weave_train.train.estimate import estimate as estimate_run
    from weave_train.train.estimate_report import Speed

    print("\n".join(estimate_run(config, Speed(gpu, mfu, tokens_per_second)).lines()))


_SHOW_BATCH = """Show what is learnt: weave-train show-batch --dataset.manifest URI --model.type tiny

The first rows of a global batch, for the flags of weave-train pretrain: tokens in turns of colour, control
tokens apart, frames as <patches visual x frames>, what is learnt in [[ ]]. --to FILE writes their frames as
the vision tower gets them, under the sample ids. No weights are read.
"""


@app.command(
    "show-batch",
    help=_SHOW_BATCH,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def show_batch(
    context: typer.Context,
    rows: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 4,
    step: Annotated[int, typer.Option(min=0, help="Of which global step.")] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Token ids, too.")] = False,
    to: Annotated[Path | None, typer.Option(help="PNG file for the frames.")] = None,
) -> None:
    """Print rows as coloured tokens."""
    config = pretrain_config(context.args)
    from rich.console import Console

    from weave_train.train.batch_view import frame_sheet, row_text
    from weave_train.train.first_rows import first_rows

    first = first_rows(config, num_rows=rows, step=step)
    console = Console(highlight=False, markup=False, emoji=False)
    for row in first.rows:
        console.print(
            row_text(row, tokenizer=first.tokenizer, settings=first.settings, with_ids=ids), soft_wrap=True
        )
        console.print()
    if to is not None:
        try:
            frame_sheet(first.rows).save(to, format="PNG")
        except OSError as error:
            raise ConfigError(f"to: can't write {to}: {error.strerror}", origin="command line") from error
        console.print(f"frames: {to}", soft_wrap=True)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Run directory or URI, or one of its checkpoints/step-<n>.")],
    to: Annotated[Path, typer.Option(help="A new directory; for prismatic also a .pt file.")],
    format: Annotated[  # noqa: A002  the flag's name
        Literal["prismatic", "hf", "hf-remote"],
        typer.Option(help="prismatic: VideoWeave's run; hf: transformers' LLaVA; hf-remote: any model."),
    ] = "prismatic",
    dtype: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of the weights written.")] = "fp32",
) -> None:
    """Write a run's weights for other programs: VideoWeave, or transformers and what builds on it."""
    from weave_train.exports.export import export_run

    for line in export_run(run, to, kind=format, dtype=dtype):
        print(line)


app.command(help=LAUNCH_HELP, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    launch
)
app.command(help=DOCTOR_HELP, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    doctor
)

app.command(help=SWEEP_HELP)(sweep)

for _command in (generate, chat, serve, evaluate, compare):
    app.command()(_command)


def main() -> None:
    """Entry point of `weave-train`; a rank leaves its exit code to whoever started it."""
    try:
        _run()
    except SystemExit as ending:
        note_exit(ending.code if isinstance(ending.code, int) else int(ending.code is not None))
        raise
    except BaseException:
        note_exit(1)
        raise


def _run() -> None:
    arguments = sys.argv[1:]
    # the deepspeed launcher puts its own flag before ours; the environment says the same
    arguments = [word for word in arguments if not word.startswith("--local_rank=")]
    is_debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    try:
        app(args=arguments, prog_name="weave-train", standalone_mode=True)
    except WeaveError as error:
        _report(error, is_debug=is_debug)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _report(error: WeaveError, *, is_debug: bool) -> None:
    rank, is_alone = os.environ.get("RANK", "0"), not _has_group()
    if is_debug:
        traceback.print_exception(error)
    elif rank == "0" or not is_alone:
        prefix = "" if is_alone else f"rank {rank}: "
        for line in str(error).splitlines():
            print(f"weave-train: {prefix}{redact(visible(line))}", file=sys.stderr)


def _has_group() -> bool:
    """True once ranks have met: from then on an error may be one rank's own."""
    torch = sys.modules.get("torch")
    return bool(torch and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1)
