"""`weave-data ...`: the only place that prints.

Exit codes: 0 done, 2 configuration or usage, 3 source, credentials or device (before any work),
4 rejected-fraction limit, 5 verification failed, 6 incomplete, 130 interrupted (the same command
resumes).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from weave_data.commands import register_all
from weave_data.commands.interruption import interruptible
from weave_data.commands.terminal import (
    Debug,
    Json,
    OutputArgument,
    err,
    escape,
    json_visible,
    one_line_errors,
    out,
)
from weave_data.errors import ConfigError
from weave_data.foreign_text import redact, visible

__all__ = ["app", "main"]

app = typer.Typer(
    name="weave-data",
    help="Compile short captioned clips into woven training shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the console script."""
    app()


class _Bars:
    """Progress of a build on the terminal; a line per stage where there is no terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            console=err,
        )
        self._tasks: dict[str, object] = {}
        self._counts: dict[str, str] = {}

    def __enter__(self) -> _Bars:
        if err.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        self._counts[stage] = f"{stage} {done:,} of {total:,} {unit}"
        if not err.is_terminal:
            if done == total:
                err.print(f"{stage}: {done} {unit}")
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, unit=unit)
        self._progress.update(self._tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

    def farewell(self) -> str:
        """What an interrupted build leaves, and how it goes on."""
        counts = ", ".join(self._counts.values()) or "nothing yet; what just ended may be"
        command = shlex.join(["weave-data", *sys.argv[1:]])
        return (
            f"interrupted; known to be committed: {counts}. It stays, and the same command resumes: {command}"
        )


@app.command()
def build(
    config: Annotated[Path, typer.Argument(help="YAML configuration; `weave-data init` writes one.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as dotted.path=value.")] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be built; write nothing.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Publish over a recipe built with other settings.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first clips of the catalog: a preview.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Build the woven data set a configuration describes, or what is missing of it."""
    bars = _Bars()
    with one_line_errors(debug=debug), interruptible(bars.farewell):
        from weave_data.config import load_build_config
        from weave_data.pipeline import BuildOptions
        from weave_data.pipeline import build as run_build

        settings = list(overrides or [])
        if limit is not None:
            settings.append(f"source.limit={limit}")
        loaded = load_build_config(config, settings)
        with bars:
            result = run_build(loaded, BuildOptions(replace=replace, dry_run=dry_run), on_progress=bars)
        for line in result.lines():
            out.print(escape(line))


@app.command()
def verify(
    output: OutputArgument,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Checksums, layout and rows, without decoding every JPEG.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Check every shard of every recipe against its manifest, byte by byte and row by row."""
    with one_line_errors(debug=debug):
        from weave_data.shard import verify_output
        from weave_data.storage import open_store

        store = open_store(output, readonly=True)
        store.check()
        report = verify_output(store, quick=quick)
        for line in report.lines():
            out.print(escape(line))


@app.command()
def inspect(
    output: OutputArgument,
    *,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Which recipe; all by default.")] = None,
    sample: Annotated[str | None, typer.Option("--sample", help="A sample id, or the start of one.")] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="Write a contact sheet (PNG) of a few samples here.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at what was built: recipes and totals, one sample, or a picture of a few."""
    with one_line_errors(debug=debug):
        from weave_data.report import inspect_output
        from weave_data.storage import open_store

        store = open_store(output, readonly=True)
        store.check()
        text = inspect_output(store, recipe=recipe, sample=sample, image=image, as_json=as_json)
        text = json_visible(text) if as_json else redact(visible(text))
        sys.stdout.write(text.rstrip("\n") + "\n")


@app.command()
def init(
    source: Annotated[
        str,
        typer.Argument(help="Folder or s3:// prefix: plain videos, WebVid-style tables, tars or a manifest."),
    ],
    *,
    output: Annotated[
        str | None,
        typer.Option("--output", help="Where the build should write; beside the source by default."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="The configuration file to write.")] = Path("weave.yaml"),
    debug: Debug = False,
) -> None:
    """Write a commented configuration that builds as it is."""
    with one_line_errors(debug=debug):
        from weave_data.starter import write_starter

        if to.exists():
            raise ConfigError(f"{to} exists already; choose another name with --to, or remove it")
        for line in write_starter(source, output=output, to=to):
            out.print(escape(line))


register_all(app)
