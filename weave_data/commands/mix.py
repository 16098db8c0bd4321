"""`weave-data mix ...`: files of records put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weave_data.commands.terminal import Debug, escape, one_line_errors, out

__all__ = ["register"]

_Base = Annotated[Path, typer.Argument(help="llava_v1_5_mix665k.json.")]
_To = Annotated[Path, typer.Option("--to", help="Folder the result goes to.")]
_Images = Annotated[Path | None, typer.Option("--images", help="Stop if an added image is not below here.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    mix = typer.Typer(help="Put files of records together: the published merges, or by weight.")
    mix.command(name="lvis4v")(_lvis4v)
    mix.command(name="lrv")(_lrv)
    mix.command(name="stripped")(_stripped)
    mix.command(name="weighted")(_weighted)
    app.add_typer(mix, name="mix", no_args_is_help=True)


def _lvis4v(
    base: _Base,
    lvis: Annotated[Path, typer.Argument(help="lvis_instruct4v_220k.json.")],
    *,
    to: _To = Path(),
    images: _Images = None,
    debug: Debug = False,
) -> None:
    """Merge LLaVA-1.5's instruction records with LVIS-Instruct4V, in the published order (mix888k)."""
    with one_line_errors(debug=debug):
        from weave_data.mixtures import merge_lvis4v

        _say(*merge_lvis4v(base, lvis, _folder(to), images=images))


def _lrv(
    base: _Base,
    lvis4v_mix: Annotated[Path, typer.Argument(help="What `mix lvis4v` wrote.")],
    lrv: Annotated[Path, typer.Argument(help="Folder with LRV-Instruct's three JSON files.")],
    *,
    to: _To = Path(),
    images: _Images = None,
    debug: Debug = False,
) -> None:
    """Merge both with LRV-Instruct, in the published order (mix1008k and mix1231k)."""
    with one_line_errors(debug=debug):
        from weave_data.mixtures import merge_lrv

        for path, count in merge_lrv(base, lvis4v_mix, lrv, _folder(to), images=images):
            _say(path, count)


def _stripped(base: _Base, *, to: _To = Path(), debug: Debug = False) -> None:
    """Keep the records that name an image (stripped625k)."""
    with one_line_errors(debug=debug):
        from weave_data.mixtures import strip_text_only

        path, count, left_out = strip_text_only(base, _folder(to))
        _say(path, count)
        out.print(f"{left_out} text-only records left out")


def _weighted(
    inputs: Annotated[list[str], typer.Argument(metavar="FILE=WEIGHT...", help="At least one.")],
    *,
    to: Annotated[Path, typer.Option("--to", help="The file to write.")],
    seed: Annotated[int, typer.Option("--seed", min=0)] = 7,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="Records in all; what the scarcest file allows.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw records of several files by weight, without repetition, and shuffle them."""
    with one_line_errors(debug=debug):
        from weave_data.mixtures import mix_weighted

        pairs = [_weight(text) for text in inputs]
        _folder(to.parent)
        counts = mix_weighted(pairs, to, seed=seed, num_rows=rows)
        for (path, weight), count in zip(pairs, counts, strict=True):
            out.print(escape(f"{path}: {count} records at weight {weight:g}"))
        _say(to, sum(counts))


def _weight(text: str) -> tuple[Path, float]:
    from weave_data.errors import ConfigError

    path, _, weight = text.rpartition("=")
    try:
        return Path(path) if path else Path(weight), float(weight) if path else 1.0
    except ValueError as error:
        raise ConfigError(f"{text!r}: write FILE=WEIGHT, for example chat.json=0.3") from error


def _folder(path: Path) -> Path:
    from weave_data.errors import ConfigError

    if not path.is_dir():
        raise ConfigError(f"--to: {path} is no folder; make it, or choose another")
    return path


def _say(path: Path, count: int) -> None:
    out.print(escape(f"{path}: {count} records"))
