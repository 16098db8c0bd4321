"""`weave-data diff A B`."""

from __future__ import annotations

from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, Json, escape, one_line_errors, out, print_json

__all__ = ["register"]

_SIDE = "An output, or one of its manifests: OUTPUT/RECIPE/manifests/FINGERPRINT.json."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="diff")(_diff)


def _diff(
    a: Annotated[str, typer.Argument(help=_SIDE)],
    b: Annotated[str, typer.Argument(help=_SIDE)],
    *,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Which recipe; all by default.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what differs between two outputs or builds: settings, counts, samples. Exit 0: equal, 1: not."""
    with one_line_errors(debug=debug):
        from weave_data.upkeep import diff_outputs

        found = diff_outputs(a, b, recipe=recipe)
        if as_json:
            print_json(found.to_json())
        else:
            for line in found.lines():
                out.print(escape(line))
    if not found.is_equal:
        raise typer.Exit(1)
