"""What the commands share: where to print, common options, errors in one line with their exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich import markup
from rich.console import Console
from rich.text import Text

from weave_data.errors import WeaveError
from weave_data.foreign_text import redact, visible

__all__ = [
    "INTERRUPTED",
    "Debug",
    "Json",
    "OutputArgument",
    "err",
    "escape",
    "json_visible",
    "one_line_errors",
    "out",
    "plain",
    "print_json",
]

out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

INTERRUPTED = 130
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
OutputArgument = Annotated[str, typer.Argument(help="What a build wrote: a folder or s3://bucket/prefix.")]


def escape(line: str) -> str:
    """A line in which nothing is markup, nothing acts on the terminal, and no address tells a password."""
    return markup.escape(redact(visible(line)))


def plain(text: str, *, style: str = "") -> Text:
    """The same for a cell of a table."""
    return Text(redact(visible(text)), style=style)


def print_json(values: object) -> None:
    """Indented JSON; what would act on a terminal is escaped as JSON does it."""
    text = json.dumps(values, ensure_ascii=False, sort_keys=True, indent=2)
    out.file.write(json_visible(text) + "\n")


def json_visible(text: str) -> str:
    r"""JSON text with acting characters as `\uXXXX`: they can only stand inside strings."""
    return redact("".join(one if visible(one) == one else f"\\u{ord(one):04x}" for one in text))


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
