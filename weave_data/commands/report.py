"""`weave-data report OUTPUT`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, OutputArgument, escape, one_line_errors, out
from weave_data.errors import ConfigError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="report")(_report)


def _report(
    output: OutputArgument,
    *,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write the page here instead of beside the data.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Make report.html anew: samples, groups, measurements and refused clips in one page."""
    with one_line_errors(debug=debug):
        from weave_data.report import REPORT_KEY, publish_report, read_inputs, render_report
        from weave_data.storage import open_store

        if to is not None and not to.parent.is_dir():
            raise ConfigError(f"--to {to}: there is no folder {to.parent}; create it or choose another")
        store = open_store(output, readonly=to is not None)
        store.check()
        if to is None:
            publish_report(store)
            out.print(escape(f"{store.uri}/{REPORT_KEY}"))
        else:
            to.write_text(render_report(read_inputs(store)), encoding="utf-8")
            out.print(escape(str(to)))
