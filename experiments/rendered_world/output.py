"""Files of the world: rendered in many processes, each file complete or not there."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from examples.demo.encoding import encode_planes
from experiments.rendered_world.attributes import FPS
from experiments.rendered_world.drawing import draw_film
from experiments.rendered_world.records import Film

__all__ = ["WORLD_VERSION", "Maker", "claim_directory", "render_films", "write_json_lines", "write_table"]

WORLD_VERSION = 1
"""Raised by every change after which the same index means another film."""

Maker = Callable[[int], Film]
"""Film of an index; it is sent to other processes, so a partial of a function of a module."""

_CHUNK = 8


def claim_directory(directory: Path, **identity: Any) -> None:
    """Say what a directory holds, or check that it holds just that.

    Args:
        directory: Created if needed.
        identity: Kind of files, seed, and what else decides them.

    Raises:
        SystemExit: It holds something else.
    """
    values = {"world": WORLD_VERSION, **identity}
    path = directory / "world.json"
    directory.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != values:
            raise SystemExit(f"error: {directory} holds {found}, asked for {values}; give another directory")
        return
    _replace(path, json.dumps(values) + "\n")


def render_films(
    maker: Maker, places: Iterable[tuple[int, Path]], *, num_processes: int, notify: Callable[[], None]
) -> int:
    """Render films that are not there yet.

    A file gets its name once it is complete: what an interrupted run left can be trusted.

    Args:
        maker: Film of an index.
        places: Index and path of every file.
        num_processes: 1 renders in this process.
        notify: Called once for each file, rendered or found.

    Returns:
        How many were rendered.
    """
    num_rendered = 0
    task = partial(_render, maker)
    if num_processes == 1:
        for place in places:
            num_rendered += task(place)
            notify()
        return num_rendered
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        for is_new in pool.imap_unordered(task, places, chunksize=_CHUNK):
            num_rendered += is_new
            notify()
    return num_rendered


def _render(maker: Maker, place: tuple[int, Path]) -> bool:
    index, path = place
    if path.is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        encode_planes(unfinished, draw_film(maker(index)), fps=FPS)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return True


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file, complete or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    unfinished.replace(path)


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line, complete or not at all."""
    _replace(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
