"""The command: `python -m experiments.rendered_world clips DIR --clips 10000 --seed 1`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from experiments.rendered_world.training_set import write_clips

__all__ = ["main"]

console = Console(highlight=False, soft_wrap=True)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; see `--help`."""
    asked = _parser().parse_args(words)
    asked.run(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rendered_world", description="A rendered world, made from a seed.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    clips = _add(commands, "clips", _clips, "training clips with true captions, as a WebVid catalog")
    clips.add_argument("--clips", type=int, default=10_000)
    return parser


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument("directory", type=Path)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--processes", type=int, default=1)
    return command


def _clips(asked: argparse.Namespace) -> None:
    with _bar("clips", asked.clips) as notify:
        catalog = write_clips(
            asked.directory,
            num_clips=asked.clips,
            seed=asked.seed,
            num_processes=asked.processes,
            notify=notify,
        )
    console.print(f"{asked.clips} clips: {catalog}")


class _bar(AbstractContextManager[Callable[[], None]]):  # noqa: N801  used like a function
    def __init__(self, title: str, total: int) -> None:
        self._progress = Progress(console=console)
        self._task = self._progress.add_task(title, total=total)

    def __enter__(self) -> Callable[[], None]:
        self._progress.start()
        return lambda: self._progress.advance(self._task)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


if __name__ == "__main__":
    main()
