"""`weave-data gc OUTPUT`."""

from __future__ import annotations

import re
import time
from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, OutputArgument, one_line_errors, out, plain
from weave_data.errors import ConfigError

__all__ = ["register"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="gc")(_gc)


def _gc(
    output: OutputArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it; without this it is only listed.")] = False,
    min_age: Annotated[
        str, typer.Option("--min-age", help="Leave alone what is younger: 90m, 24h, 7d.")
    ] = "24h",
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also builds that another one replaced.")
    ] = False,
    debug: Debug = False,
) -> None:
    """List, and with --yes delete, what no manifest refers to; never what is young or in use."""
    with one_line_errors(debug=debug):
        from rich.table import Table

        from weave_data.storage import open_store
        from weave_data.upkeep import collect_garbage, delete_garbage

        store = open_store(output, readonly=not yes)
        store.check()
        now = time.time()
        report = collect_garbage(store, now=now, min_age_seconds=_seconds(min_age), superseded=superseded)
        table = Table("kind", "bytes", "objects", "first")
        for kind, count, size in report.by_kind():
            first = next((item.key for item in report.garbage if item.kind == kind), "")
            table.add_row(kind, f"{size:,}", f"{count:,}", plain(first))
        out.print(f"{report.num_bytes:,} bytes that no manifest refers to; {report.kept_bytes:,} bytes stay")
        if report.garbage or report.hidden:
            out.print(table)
        if report.young:
            out.print(
                f"left alone: {report.young:,} objects ({report.young_bytes:,} bytes) younger than {min_age}"
            )
        if yes:
            out.print(f"{delete_garbage(store, report, now=time.time()):,} objects deleted")
        elif report.garbage or report.hidden:
            out.print("nothing deleted; --yes deletes them")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise ConfigError(f"--min-age {text!r}: write a number and s, m, h or d, as in 24h")
    return float(match[1]) * _UNITS[match[2]]
