"""`weave-data retry OUTPUT --reason REASON`."""

from __future__ import annotations

from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, OutputArgument, escape, one_line_errors, out

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="retry")(_retry)


def _retry(
    output: OutputArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", help="As in the card: corrupt, truncated, missing, ...")],
    debug: Debug = False,
) -> None:
    """Have the next build try again the clips that were refused for a reason."""
    with one_line_errors(debug=debug):
        from weave_data.storage import open_store
        from weave_data.upkeep import retry_clips

        store = open_store(output)
        store.check(write=True)
        for line in retry_clips(store, reason=reason).lines():
            out.print(escape(line))
