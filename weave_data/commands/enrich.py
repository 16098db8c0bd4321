"""`weave-data enrich CONFIG.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, err, escape, one_line_errors, out

__all__ = ["register"]

_STEP = 100


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="enrich")(_enrich)


def _enrich(
    config: Annotated[Path, typer.Argument(help="YAML configuration; docs/captions.md has examples.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as dotted.path=value.")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked; ask nothing.")] = False,
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Ask again what was refused before.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Have a language model rewrite captions or write questions with answers; nothing is asked twice."""
    with one_line_errors(debug=debug):
        from weave_data.config.enrich import load_enrich_config
        from weave_data.pipeline.enrichment import enrich

        loaded = load_enrich_config(config, tuple(overrides or ()))
        result = enrich(loaded, dry_run=dry_run, retry_rejected=retry_rejected, on_progress=_progress)
        for line in result.lines():
            out.print(escape(line))


def _progress(stage: str, done: int, total: int, unit: str) -> None:
    if done == total or done % _STEP == 0:
        err.print(f"{stage}: {done} of {total} {unit}")
