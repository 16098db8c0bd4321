"""`weave-train compare`: two evaluations, question by question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weave_data.foreign_text import visible

__all__ = ["compare"]


def compare(
    ours: Annotated[Path, typer.Argument(metavar="A", help="Folder TO/<task> of an evaluation.")],
    theirs: Annotated[Path, typer.Argument(metavar="B", help="Of another one, of the same questions.")],
    *,
    mode: Annotated[str, typer.Option(help="Of both.")] = "frames",
    metric: Annotated[
        str | None, typer.Option(help="Default: likelihood, or what most questions have.")
    ] = None,
) -> None:
    """Compare two evaluations question by question: differences A - B with 95 % intervals."""
    from rich.console import Console
    from rich.table import Table

    from weave_train.evaluate.compare import compare as compare_folders
    from weave_train.evaluate.run import check_modes

    found = compare_folders(ours, theirs, mode=check_modes([mode])[0], metric=metric)
    table = Table(f"{found.mode}, {found.metric}", "questions", "A", "B", "A - B", "95 % interval", "p")
    for row in found.differences:
        table.add_row(
            "all" if row.tag is None else visible(row.tag),
            f"{row.count:,}",
            f"{row.ours:.3f}",
            f"{row.theirs:.3f}",
            f"{row.difference.mean:+.3f}",
            f"{row.difference.low:+.3f} to {row.difference.high:+.3f}",
            f"{row.p_value:.4f}",
        )
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(table)
    if found.num_unpaired:
        console.print(
            f"{found.num_unpaired} questions have an answer in one of the two only and are left out"
        )
    if found.num_without_metric:
        console.print(f"{found.num_without_metric} questions have no {found.metric} and are left out")
    if found.is_of_other_files:
        console.print(
            "warning: the two were asked from different question files; their shared ids are compared"
        )
