"""`weave-data download ID DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from weave_data.commands.terminal import Debug, err, escape, one_line_errors, out

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="download")(_download)


def _download(
    dataset_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Which data set; see --list.")
    ] = None,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where its files go.")] = None,
    *,
    show_list: Annotated[bool, typer.Option("--list", help="Show the files of all ids, or of ID.")] = False,
    debug: Debug = False,
) -> None:
    """Fetch, check and unpack a data set's files; the same command continues what was interrupted."""
    with one_line_errors(debug=debug):
        from weave_data.download import DATASETS, download_dataset, find_dataset
        from weave_data.errors import ConfigError

        if show_list:
            for name in [dataset_id] if dataset_id else list(DATASETS):
                for file in find_dataset(name):
                    where = file.name if file.unpack_to is None else f"{file.name} -> {file.unpack_to}/"
                    out.print(escape(f"{name}  {where}  {file.url}"))
            return
        if dataset_id is None or folder is None:
            raise ConfigError("download needs ID and DIR; `weave-data download --list` shows the ids")
        files = find_dataset(dataset_id)
        with _Bars() as bars:
            for done in download_dataset(files, folder, on_file=bars):
                unpacked = "" if done.num_unpacked is None else f", {done.num_unpacked} files unpacked"
                converted = f", {done.num_converted} JPEGs written" if done.num_converted else ""
                size = f"{done.size_bytes:,} bytes"
                out.print(escape(f"{done.name}: {size}, sha256 {done.sha256}{unpacked}{converted}"))


class _Bars:
    """One bar a file where there is a terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=err,
        )
        self._name = ""

    def __enter__(self) -> _Bars:
        if err.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, name: str, have: int, total: int | None) -> None:
        if name != self._name:
            self._name = name
            self._task = self._progress.add_task(escape(name), total=total)
        self._progress.update(self._task, completed=have, total=total)
