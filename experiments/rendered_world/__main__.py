"""The command: `python -m experiments.rendered_world clips DIR --clips 10000 --seed 1`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

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
    films = _add(commands, "films", _films, "test videos and their questions (questions.jsonl)")
    films.add_argument("--families", type=int, default=240, help="of three videos; 120 hold every kind once")
    asked = _add(commands, "asked", _asked, "clips with one question each (conversations.jsonl)")
    asked.add_argument("--clips", type=int, default=2_100)
    _add(commands, "language", _language, "configuration and tokenizer of a 3 M-parameter Llama")
    tower = _add(commands, "tower", _tower, "a vision tower trained on single frames (tower.safetensors)")
    tower.add_argument("--steps", type=int, default=4_000)
    _add(commands, "balance", _balance, "who could answer DIRECTORY's questions without looking")
    _add(commands, "sheet", _sheet, "a picture of clips and videos (sheet.png)")
    return parser


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> Any:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    command.add_argument("directory", type=Path)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--processes", type=int, default=1)
    return command


def _clips(asked: argparse.Namespace) -> None:
    from experiments.rendered_world.training_set import write_clips

    with _Bar("clips", asked.clips) as notify:
        catalog = write_clips(
            asked.directory,
            num_clips=asked.clips,
            seed=asked.seed,
            num_processes=asked.processes,
            notify=notify,
        )
    console.print(f"{asked.clips} clips: {catalog}")


def _films(asked: argparse.Namespace) -> None:
    from experiments.rendered_world.films import FAMILY_SIZE
    from experiments.rendered_world.questions import write_questions

    with _Bar("videos", asked.families * FAMILY_SIZE) as notify:
        path = write_questions(
            asked.directory,
            num_families=asked.families,
            seed=asked.seed,
            num_processes=asked.processes,
            notify=notify,
        )
    console.print(f"{asked.families * FAMILY_SIZE} videos: {path}")


def _asked(asked: argparse.Namespace) -> None:
    from experiments.rendered_world.single_clip_qa import write_asked_clips

    with _Bar("clips", asked.clips) as notify:
        path = write_asked_clips(
            asked.directory,
            num_clips=asked.clips,
            seed=asked.seed,
            num_processes=asked.processes,
            notify=notify,
        )
    console.print(f"{asked.clips} clips with a question each: {path}")


def _language(asked: argparse.Namespace) -> None:
    from experiments.rendered_world.language import write_language

    num_tokens = write_language(asked.directory, seed=asked.seed)
    console.print(f"{num_tokens} tokens: --model.llm_backbone_id hf:{asked.directory}")


def _tower(asked: argparse.Namespace) -> None:
    from experiments.rendered_world.tower import train_tower

    probes = train_tower(asked.directory, seed=asked.seed, num_steps=asked.steps, console=console)
    table = Table("linear probe", "right in unseen frames", "chance")
    for probe in probes:
        table.add_row(probe.name, f"{probe.score:.3f}", f"{probe.chance:.3f}")
    console.print(table)


def _balance(asked: argparse.Namespace) -> None:
    from experiments.rendered_world.balance import measure_balance

    lines = (asked.directory / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    table = Table(
        "type", "questions", "chance", "same place", "same text", "knows all answers' shares", "answers"
    )
    for balance in measure_balance(json.loads(line) for line in lines):
        shares = (balance.chance, balance.best_place, balance.best_text, balance.best_informed)
        texts = ", ".join(f"{text} {count}" for text, count in sorted(balance.texts.items())[:4])
        table.add_row(balance.type, str(balance.count), *(f"{share:.3f}" for share in shares), texts)
    console.print(table)


def _sheet(asked: argparse.Namespace) -> None:
    from experiments.rendered_world.clips import clip_film
    from experiments.rendered_world.films import draw_family
    from experiments.rendered_world.questions import family_questions
    from experiments.rendered_world.sheet import draw_sheet
    from experiments.rendered_world.words import caption

    rows = []
    for index in range(4):
        film = clip_film(asked.seed, index)
        rows.append((film, [caption(film.scenes[0])]))
    for index in (0, 9, 18, 27, 80):
        family = draw_family(asked.seed, index)
        questions = [q for q in family_questions(asked.seed, family) if q.film == 0]
        rows.append((family.films[0], [f"{q.text} {q.options[q.answer]}" for q in questions[:3]]))
    asked.directory.mkdir(parents=True, exist_ok=True)
    draw_sheet(asked.directory / "sheet.png", rows)
    console.print(f"{asked.directory / 'sheet.png'}")


class _Bar(AbstractContextManager[Callable[[], None]]):
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
