"""What a cell has done, without its weights: small enough to publish, enough for the table.

    DIR/<cell>.tar.xz    <stage>/config.json, metrics.jsonl, published.json (which steps it kept)
                         evaluations/<name>/step-<n>/asked.json, <task>/results.json, answers.jsonl, ...

A sweep that adopts it takes the cell for done, as its settings, data and questions are checked like those of
any other, and trains what is left. Equal cells give equal bytes.
"""

from __future__ import annotations

import io
import json
import lzma
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from weave_data.download import unpack
from weave_data.errors import ConfigError, SourceError
from weave_train.checkpoint.layout import complete_steps
from weave_train.sweep.cells import Cell
from weave_train.sweep.states import (
    PUBLISHED,
    checkpoint_store,
    evaluated_at,
    is_cell_done,
    published_steps,
    relative,
    steps_to_ask,
)

__all__ = ["adopt_cells", "publish_cells"]

_TOLD = ("results.json", "answers.jsonl", "lost.jsonl")


def publish_cells(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Write a file for each cell; paths below the working directory become relative in it.

    Args:
        cells: Those that are not done are left out.
        folder: Made when it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for cell in filter(is_cell_done, cells):
        path = folder / f"{cell.name}.tar.xz"
        draft = folder / f".{path.name}.part"
        with lzma.open(draft, "wb", preset=6) as sink, tarfile.open(fileobj=sink, mode="w") as tar:
            for name, data in sorted(_files(cell)):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        draft.replace(path)
        written.append(path)
    return written


def _files(cell: Cell) -> Iterator[tuple[str, bytes]]:
    for stage in cell.stages:
        kept = published_steps(stage)
        steps = complete_steps(checkpoint_store(stage)) if kept is None else kept
        yield f"{stage.name}/{PUBLISHED}", json.dumps({"steps": steps}).encode()
        for name in ("config.json", "metrics.jsonl"):
            yield f"{stage.name}/{name}", _told(stage.run_dir / name)
    for entry in cell.evaluations:
        for step in steps_to_ask(cell, entry):
            asked = evaluated_at(cell, entry, step)
            paths = [asked.directory / "asked.json", *(asked.results / name for name in _TOLD)]
            for path in paths:
                if path.is_file():
                    name = path.relative_to(cell.directory).as_posix()
                    yield name, _told(path)


def _told(path: Path) -> bytes:
    """A JSON file or JSON lines, paths below the working directory relative."""
    if path.suffix == ".json":
        return (json.dumps(relative(json.loads(path.read_bytes())), indent=1) + "\n").encode()
    lines = path.read_text(encoding="utf-8").splitlines()
    return "".join(json.dumps(relative(json.loads(line))) + "\n" for line in lines).encode()


def adopt_cells(cells: Sequence[Cell], folder: Path) -> list[Cell]:
    """Unpack the published files of cells that have no directory yet.

    Returns:
        The cells that were adopted; the others with a file there were begun here and stay as they are.

    Raises:
        ConfigError: The folder has none of these cells.
        SourceError: A file in it is damaged, or would be unpacked elsewhere; the cells before it are adopted.
    """
    found = [cell for cell in cells if (folder / f"{cell.name}.tar.xz").is_file()]
    if not found:
        raise ConfigError(f"adopt: {folder} has no <cell>.tar.xz of this sweep", origin="command line")
    adopted = [cell for cell in found if not cell.directory.exists()]
    for cell in adopted:
        path = folder / f"{cell.name}.tar.xz"
        draft = cell.directory.with_name(f".{cell.name}.part")
        try:
            unpack(path, draft)
        except SourceError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        draft.replace(cell.directory)
    return adopted
