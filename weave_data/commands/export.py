"""`weave-data export OUTPUT DIR --format ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, OutputArgument, err, escape, one_line_errors, out

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="export")(_export)


def _export(
    output: OutputArgument,
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="An empty folder or s3://bucket/prefix for the export.")
    ],
    *,
    export_format: Annotated[
        str, typer.Option("--format", help="videoweave, webdataset, sharegpt or captions.")
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Which recipe; needed where there are several.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a recipe in the form that another tool reads; the same command finishes what was interrupted."""
    with one_line_errors(debug=debug):
        from weave_data.errors import ConfigError
        from weave_data.export import export_recipe
        from weave_data.shard import list_recipes, open_dataset
        from weave_data.storage import open_store

        store = open_store(output, readonly=True)
        store.check()
        names = list_recipes(store)
        if recipe is None and len(names) != 1:
            raise ConfigError(
                f"{output}: published recipes: {', '.join(names) or 'none'}; choose one with --recipe"
            )
        dataset = open_dataset(f"{output.rstrip('/')}/{recipe or names[0]}")

        def show(stage: str, done: int, total: int, unit: str) -> None:
            err.print(f"{stage}: {done} of {total} {unit}")

        report = export_recipe(dataset, open_store(directory), export_format, on_progress=show)
        for line in report.lines():
            out.print(escape(line))
