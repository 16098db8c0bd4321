"""Look at a folder or prefix and say which kind of source it is, in settings that build as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from weave_data.catalog.folder_captions import CAPTION_COLUMNS, PATH_COLUMNS
from weave_data.catalog.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from weave_data.catalog.row_files import RowFile
from weave_data.catalog.tars import index_tar
from weave_data.errors import SourceError
from weave_data.storage import SourceRoot, open_source

__all__ = ["SourceGuess", "guess_source"]

MAX_LISTED = 20_000
SAMPLE_ROWS = 20
WEBVID_COLUMNS = ("videoid", "name")
ID_COLUMNS = ("id", "clip_id", "video_id", "videoid")
TABLE_SUFFIXES = ("csv", "parquet", "jsonl", "ndjson")
TEMPLATES = (None, "{page_dir}/{videoid}.mp4", "{videoid}.mp4", "videos/{page_dir}/{videoid}.mp4")
FOLDERS = ("", "videos", "images")


@dataclass(frozen=True)
class SourceGuess:
    """What a source seems to be.

    Attributes:
        settings: The `source` section, in the order it is written.
        found: What was seen, for people.
        num_clips: Clips seen; there may be more.
        is_images: Its clips are images.
    """

    settings: Mapping[str, Any]
    found: str
    num_clips: int
    is_images: bool = False


@dataclass(frozen=True)
class _Look:
    """A source as listed: its files up to a limit."""

    root: str
    source: SourceRoot
    sizes: Mapping[str, int]
    refused: list[str] = field(default_factory=list)  # what was looked at and did not fit
    addressed: list[str] = field(default_factory=list)  # tables of web addresses, and what to do about them

    def with_suffix(self, *suffixes: str) -> list[str]:
        return [key for key in self.sizes if key.lower().rpartition(".")[2] in suffixes]


def guess_source(source: str) -> SourceGuess:
    """Find out what lies below an address: tars, a table with its videos, or plain videos.

    Raises:
        SourceError: Nothing fits; the message lists what was looked at.
    """
    root = source.rstrip("/")
    opened = open_source(root)
    listed = {info.key: info.size_bytes for info in islice(opened.list(""), MAX_LISTED)}
    look = _Look(root, opened, listed)
    for guess in (_tars(look), _tables(look), _videos(look)):
        if guess is not None:
            return guess
    if look.addressed:
        raise SourceError(f"{source}: {look.addressed[0]}")
    seen = "; ".join(look.refused[:5]) or f"no tar, table or video among {len(listed)} files"
    raise SourceError(
        f"{source}: found no tars, no table with the columns {', '.join(WEBVID_COLUMNS)} (or a path and a "
        f"caption) whose videos are below it, and no videos ({seen}); write the configuration by hand, see "
        "the README"
    )


def _tars(look: _Look) -> SourceGuess | None:
    tars = look.with_suffix("tar")
    for key in tars[:3]:
        rows = index_tar(look.source, key, look.sizes[key]).to_pylist()
        good = [row for row in rows if row["reason"] is None]
        if good:
            found = (
                f"{len(tars)} WebDataset tars; {key} holds {len(good)} clips, {len(rows) - len(good)} broken"
            )
            is_images = all(row["media"] == "image" for row in good)
            settings = {"kind": "webdataset", "videos": look.root}
            return SourceGuess(settings, found, len(good) * len(tars), is_images)
        look.refused.append(f"{key} holds no pair of a video and a caption")
    return None


def _tables(look: _Look) -> SourceGuess | None:
    for key in look.with_suffix(*TABLE_SUFFIXES):
        file = RowFile(key, "", look.source.read(key))
        try:
            columns = file.column_names()
            guess = _webvid(look, file, columns) or _manifest(look, file, columns)
        except SourceError as error:
            look.refused.append(str(error))
            continue
        if guess is not None:
            return guess
        look.refused.append(f"{key} has the columns {', '.join(columns)}")
        address = _web_address(file, columns)
        if address is not None:
            look.addressed.append(
                f"{key} lists web addresses, as {address!r}, and the videos are not here; a build downloads "
                "none: fetch them with video2dataset (images with img2dataset), then run init on its tars"
            )
    return None


def _web_address(file: RowFile, columns: list[str]) -> str | None:
    unique = [name for name in columns if columns.count(name) == 1]
    for row in file.read(unique).slice(0, SAMPLE_ROWS).to_pylist():
        for value in row.values():
            if str(value).startswith(("http://", "https://")):
                return str(value)
    return None


def _webvid(look: _Look, file: RowFile, columns: list[str]) -> SourceGuess | None:
    if any(name not in columns for name in WEBVID_COLUMNS) or file.form not in ("CSV", "Parquet file"):
        return None
    table = file.read([name for name in columns if columns.count(name) == 1])
    rows = table.slice(0, SAMPLE_ROWS).to_pylist()
    layouts = ((path, folder) for path in TEMPLATES for folder in FOLDERS)
    counted = [(_count_found(look, rows, path, folder), path, folder) for path, folder in layouts]
    number, path, folder = max(counted, key=lambda item: item[0])
    if not number:
        return None
    settings = {"kind": "webvid", "catalog": f"{look.root}/{file.name}", "videos": _below(look.root, folder)}
    if path is not None:
        settings["path"] = path
    found = f"{look.root}/{file.name}: {number} of the first {len(rows)} videos found"
    return SourceGuess(settings, found, len(table))


def _manifest(look: _Look, file: RowFile, columns: list[str]) -> SourceGuess | None:
    caption = next((name for name in CAPTION_COLUMNS if name in columns), None)
    if caption is None:
        return None
    for path in (name for name in (*PATH_COLUMNS, "image") if name in columns):
        table = file.read([path])
        keys = [key.removeprefix(f"{look.root}/").removeprefix("./") for key in table[path].to_pylist()]
        first = keys[:SAMPLE_ROWS]
        for folder in FOLDERS:
            there = [key for key in first if _is_there(look, folder, key)]
            if not there:
                continue
            names = {"path": path, "caption": caption}
            named = next((name for name in ID_COLUMNS if name in columns), None)
            settings: dict[str, Any] = {"kind": "manifest", "catalog": f"{look.root}/{file.name}"}
            settings |= {
                "videos": _below(look.root, folder),
                "columns": names | ({"id": named} if named else {}),
            }
            found = f"{look.root}/{file.name}: {len(there)} of the first {len(first)} files found"
            is_images = all(key.lower().rpartition(".")[2] in IMAGE_SUFFIXES for key in there)
            return SourceGuess(settings, found, len(table), is_images)
    return None


def _videos(look: _Look) -> SourceGuess | None:
    videos = look.with_suffix(*VIDEO_SUFFIXES)
    if not videos:
        return None
    texts = set(look.with_suffix("txt"))
    captioned = sum(f"{key.rpartition('.')[0]}.txt" in texts for key in videos)
    captions = "txt" if captioned else "names"
    found = f"{len(videos)} videos, {captioned} with a .txt beside them"
    if not captioned:
        found += f": captions are their names, as {videos[0].rpartition('/')[2]!r}"
    if look.refused:
        found += f" (not used: {'; '.join(look.refused[:3])})"
    settings = {"kind": "folder", "videos": look.root, "captions": captions}
    return SourceGuess(settings, found, len(videos))


def _count_found(look: _Look, rows: list[dict[str, str]], path: str | None, folder: str) -> int:
    return sum(_is_there(look, folder, key) for key in _keys(rows, path))


def _keys(rows: list[dict[str, str]], path: str | None) -> Iterator[str]:
    for row in rows:
        try:
            yield row["contentUrl"] if path is None else path.format(**row)
        except KeyError:
            return


def _is_there(look: _Look, folder: str, key: str) -> bool:
    if not key or "://" in key or key.startswith("/") or ".." in key.split("/"):
        return False
    whole = f"{folder}/{key}" if folder else key
    if whole in look.sizes:
        return True
    return len(look.sizes) >= MAX_LISTED and look.source.size(whole) is not None


def _below(root: str, folder: str) -> str:
    return f"{root}/{folder}" if folder else root
