"""`weave-data explain OUTPUT SAMPLE_ID`."""

from __future__ import annotations

from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, Json, OutputArgument, escape, one_line_errors, out, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="explain")(_explain)


def _explain(
    output: OutputArgument,
    sample_id: Annotated[str, typer.Argument(help="A sample id, or the beginning of one.")],
    *,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Which recipe; all by default.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say where every frame and sentence of a sample came from, and with which settings."""
    with one_line_errors(debug=debug):
        from weave_data.storage import open_store
        from weave_data.upkeep import explain_sample

        store = open_store(output, readonly=True)
        store.check()
        found = explain_sample(store, sample_id, recipe=recipe)
        if as_json:
            print_json(found.to_json())
        else:
            for line in found.lines():
                out.print(escape(line))
