"""What the demo prints at its end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from layout import PROMPT, Demo
from looking import Answered, Looking, table_rows
from rich.console import Console
from rich.table import Table

__all__ = ["print_report"]


def print_report(
    console: Console, *, demo: Demo, looking: Looking, example: Answered, seconds: Mapping[str, float]
) -> None:
    """Print what was made, where, whether the model looked, and how to look and ask further.

    Args:
        console: Where to.
        demo: What was run.
        looking: Scores of the held-out samples.
        example: The answer to show beside its truth.
        seconds: Wall time of each step.
    """
    console.rule("[bold]what there is now", align="left")
    console.print(_files_table(demo))
    console.print(_seconds_table(seconds))
    console.print(_looking_table(looking))
    console.print(f"truth   {' '.join(example.question.captions)}\nanswer  {example.answer.strip()}\n")
    for label, command in _next_commands(demo).items():
        console.print(f"{label}  {command}", soft_wrap=True)


def _files_table(demo: Demo) -> Table:
    table = Table("what", "where", "bytes", title_justify="left")
    table.columns[2].justify = "right"
    places = {
        "rendered clips": demo.work_dir / "world",
        "woven l4 and l4-epochs": demo.train_output,
        "woven real clips": demo.real_output,
        "woven held-out clips": demo.heldout_output,
        "trained model": demo.run_dir,
        "loss curve": demo.run_dir / "loss.png",
        "contact sheet": demo.sheet,
    }
    for what, path in places.items():
        table.add_row(what, str(path), f"{_num_bytes(path):,}")
    return table


def _num_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _seconds_table(seconds: Mapping[str, float]) -> Table:
    table = Table("step", "seconds")
    table.columns[1].justify = "right"
    for step, value in seconds.items():
        table.add_row(step, f"{value:.0f}")
    table.add_row("together", f"{sum(seconds.values()):.0f}", style="bold")
    return table


def _looking_table(looking: Looking) -> Table:
    table = Table("did it look?", "colour", "direction", "mean")
    for row in table_rows(looking):
        table.add_row(*row)
    return table


def _next_commands(demo: Demo) -> dict[str, str]:
    """Commands that run as they are from where the demo ran."""
    video = min((demo.work_dir / "world" / "heldout" / "videos").rglob("*.mp4"))
    scripts = Path(sys.executable).parent
    tools = scripts.relative_to(Path.cwd()) if scripts.is_relative_to(Path.cwd()) else scripts
    return {
        "look further": f"{tools}/weave-data inspect {demo.train_output} --recipe l4",
        "ask further ": (
            f"{tools}/weave-train generate {demo.run_dir} --video {video} --prompt {shlex.quote(PROMPT)}"
        ),
    }
