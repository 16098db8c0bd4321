"""`weave-data doctor CONFIG`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weave_data.commands.findings import print_report
from weave_data.commands.terminal import Debug, Json, one_line_errors

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="doctor")(_doctor)


def _doctor(
    config: Annotated[Path, typer.Argument(help="YAML configuration of a build.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as dotted.path=value.")] = None,
    *,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look whether a build has what it needs: store, clocks, versions, codecs, weights, GPUs, disk.

    One small object is written below the output and removed again. Ends with 0 when no check failed, else 3.
    """
    with one_line_errors(debug=debug):
        from weave_data.config import load_build_config
        from weave_data.doctor.build import examine_build

        report = examine_build(load_build_config(config, list(overrides or [])))
        print_report(report, as_json=as_json)
    if report.exit_code:
        raise typer.Exit(report.exit_code)
