"""What the commands share: where to print, common options, errors in one line with their exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from weave_data.errors import WeaveError

__all__ = ["INTERRUPTED", "Debug", "Json", "OutputArgument", "err", "escape", "one_line_errors", "out"]

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

INTERRUPTED = 130
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
OutputArgument = Annotated[str, typer.Argument(help="What a build wrote: a folder or s3://bucket/prefix.")]


@contextmanager
def one_line_errors(*, debug: bool) -> Iterator[None]:
    """Turn a deliberate error into its message and exit code; Ctrl-C into 130."""
    try:
        yield
    except WeaveError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            err.print(f"[bold red]error:[/] {escape(line)}")
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        err.print("interrupted: what is committed stays; the same command resumes")
        raise typer.Exit(INTERRUPTED) from error
