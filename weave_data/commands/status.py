"""`weave-data status OUTPUT`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from weave_data.commands.terminal import (
    Debug,
    Json,
    OutputArgument,
    escape,
    one_line_errors,
    out,
    plain,
    print_json,
)

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from weave_data.upkeep import OutputStatus

__all__ = ["register"]

REFRESH_SECONDS = 5.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="status")(_status)


def _status(
    output: OutputArgument,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 5 seconds while it runs.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say how far a build is, whether it is alive, and what it waits for; from the store alone."""
    with one_line_errors(debug=debug):
        from rich.live import Live

        from weave_data.storage import open_store
        from weave_data.upkeep import read_status

        store = open_store(output, readonly=True)
        store.check()
        status = read_status(store, now=time.time())
        if as_json:
            print_json(status.to_json())
        elif not watch:
            out.print(_show(status))
        else:
            with Live(_show(status), console=out, auto_refresh=False) as live:
                while status.state == "running":
                    time.sleep(REFRESH_SECONDS)
                    status = read_status(store, now=time.time())
                    live.update(_show(status), refresh=True)


def _show(status: OutputStatus) -> Group:
    from rich.console import Group
    from rich.table import Table

    stages = Table("stage", "done", "of", "per minute", "left")
    for stage in status.stages:
        stages.add_row(
            plain(stage.stage),
            f"{stage.done:,} {escape(stage.unit)}",
            "?" if stage.total is None else f"{stage.total:,}",
            "" if stage.per_minute is None else f"{stage.per_minute:,.1f}",
            "" if stage.eta_seconds is None else _duration(stage.eta_seconds),
        )
    shown: list[Table | Text] = [plain(status.headline())]
    if status.stages:
        shown.append(stages)
    if status.rejects:
        rejects = Table("refused by", "reason", "clips")
        for name, reasons in status.rejects.items():
            for reason, count in reasons.items():
                rejects.add_row(plain(name), plain(reason), f"{count:,}")
        shown.append(rejects)
    if status.unused:
        shown.append(plain(f"not used: {status.unused:,} conversations beyond the first of their records"))
    if status.binding is not None:
        shown.append(plain(status.binding.remedy))
    shown += [plain(f"published: {name}, {rows:,} samples") for name, rows in status.published.items()]
    return Group(*shown)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
