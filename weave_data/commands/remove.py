"""`weave-data remove OUTPUT --clips FILE`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, OutputArgument, escape, one_line_errors, out
from weave_data.errors import ConfigError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="remove")(_remove)


def _remove(
    output: OutputArgument,
    *,
    clips: Annotated[Path, typer.Option("--clips", help="Text file with one clip id a line.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said.")] = False,
    debug: Debug = False,
) -> None:
    """Take clips down: samples with them dropped, their frames, vectors and texts gone from every file."""
    with one_line_errors(debug=debug):
        from weave_data.storage import open_store
        from weave_data.upkeep import find_removal, remove_clips

        clip_ids = _read_ids(clips)
        store = open_store(output, readonly=not yes)
        store.check(write=yes)
        if not yes:
            for line in find_removal(store, clip_ids).lines():
                out.print(escape(line))
            out.print("nothing changed; --yes takes them down for good")
            return
        for line in remove_clips(store, clip_ids, now=time.time()).lines():
            out.print(escape(line))
        out.print(f"taken down; next: weave-data verify {escape(output)}")


def _read_ids(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--clips {path}: can't be read ({error}); give a UTF-8 text file") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
