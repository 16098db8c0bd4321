"""`weave-data train MANIFEST`: hand a woven data set to an installed trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from weave_data.commands.terminal import Debug, escape, one_line_errors, out

__all__ = ["register"]

_HELP = """Train on a woven data set: weave-data train OUTPUT/l4/manifest.json --trainer deepspeed OPTIONS

OPTIONS are the trainer's own, written --dotted.name value; those of `deepspeed` are the flags of weave-train
pretrain, with --run_id. With --launcher ray its ranks are workers of the Ray cluster, also in a
`ray job submit -- weave-data train ...`.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name="train", help=_HELP, context_settings=settings)(_train)


def _train(
    context: typer.Context,
    manifest: Annotated[str, typer.Argument(help="OUTPUT/<recipe>/manifest.json, local or s3://.")],
    *,
    trainer: Annotated[str, typer.Option("--trainer", help="Of those installed.")] = "deepspeed",
    num_ranks: Annotated[int, typer.Option("--num_ranks", min=1, help="Processes to train in.")] = 1,
    debug: Debug = False,
) -> None:
    with one_line_errors(debug=debug):
        from weave_data.trainers import find_trainer

        options = _options(context.args)
        result = find_trainer(trainer).run(manifest, options, num_workers=num_ranks)
        out.print(escape(f"step {result.final_step}, loss {result.final_loss:.4f}, run {result.run_dir}"))


def _options(words: Sequence[str]) -> dict[str, Any]:
    """`--a.b value`, `--a.b=value`, or a bare `--switch`; values are read as YAML."""
    from weave_data.config import parse_scalar
    from weave_data.errors import ConfigError

    options: dict[str, Any] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise ConfigError(f"{word!r}: write options as --dotted.name value", origin="command line")
        name, separator, text = word[2:].partition("=")
        if not separator:
            text = left.pop(0) if left and not left[0].startswith("--") else "true"
        options[name] = parse_scalar(text)
    return options
