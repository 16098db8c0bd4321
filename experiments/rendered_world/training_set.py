"""The training set on disk: a WebVid catalog, the clips, and their captions in other forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.rendered_world.attributes import WOVEN_CLIPS
from experiments.rendered_world.clips import clip_film
from experiments.rendered_world.output import claim_directory, render_films, write_table
from experiments.rendered_world.records import Film
from experiments.rendered_world.words import caption, rewritten

__all__ = ["write_clips"]

_PAGE = 1000
_COLUMNS = ("videoid", "contentUrl", "duration", "page_dir", "name")


def write_clips(
    directory: Path, *, num_clips: int, seed: int, num_processes: int = 1, notify: Callable[[], None]
) -> Path:
    """Render training clips numbered from 0.

    Beside `clips.csv` lie captions by clip id, for a recipe's `captions.file`: `rewritten.csv` says the same
    in other words, `repeated-l<L>.csv` says the same L times, as L captions are joined.

    Args:
        directory: Files that are there are kept; more clips change none of them.
        num_clips: At least 1.
        seed: Of the training set.
        num_processes: Renderers.
        notify: Called for each clip.

    Returns:
        Path of the catalog; videos lie in `videos/` beside it.

    Raises:
        SystemExit: The directory holds something else.
    """
    claim_directory(directory, kind="clips", seed=seed)
    make = partial(clip_film, seed)
    films = [make(index) for index in range(num_clips)]
    keys = [f"{_page(index)}/{film.film_id}.mp4" for index, film in enumerate(films)]
    places = ((index, directory / "videos" / key) for index, key in enumerate(keys))
    render_films(make, places, num_processes=num_processes, notify=notify)
    captions = [(film.film_id, caption(film.scenes[0])) for film in films]
    others = ((film.film_id, rewritten(film.scenes[0], seed=seed, index=i)) for i, film in enumerate(films))
    write_table(directory / "rewritten.csv", ("clip_id", "caption"), others)
    for clips in WOVEN_CLIPS[1:]:
        repeated = ((clip_id, ". ".join([text] * clips)) for clip_id, text in captions)
        write_table(directory / f"repeated-l{clips}.csv", ("clip_id", "caption"), repeated)
    catalog = directory / "clips.csv"
    rows = (
        (film.film_id, key, _duration(film), _page(index), caption(film.scenes[0]))
        for index, (film, key) in enumerate(zip(films, keys, strict=True))
    )
    write_table(catalog, _COLUMNS, rows)
    return catalog


def _page(index: int) -> str:
    start = index // _PAGE * _PAGE
    return f"{start:07d}_{start + _PAGE - 1:07d}"


def _duration(film: Film) -> str:
    return f"PT00H00M{round(film.seconds):02d}S"
