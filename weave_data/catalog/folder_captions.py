"""Captions of a folder's videos, from where they are: text files, a table, or names."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.catalog.media import stems_of
from weave_data.catalog.row_files import read_row_files
from weave_data.config import ColumnsConfig, SourceConfig
from weave_data.errors import SourceError
from weave_data.records import RejectReason
from weave_data.storage import SourceRoot

__all__ = [
    "CAPTION_COLUMNS",
    "PATH_COLUMNS",
    "TABLE_SUFFIXES",
    "captions_of_names",
    "captions_of_table",
    "captions_of_texts",
    "choose_captions",
    "table_columns",
]

PATH_COLUMNS = ("file_name", "filename", "file", "path", "video", "video_path", "key")
CAPTION_COLUMNS = ("caption", "text", "name", "description", "title")
TABLE_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")

_THREADS = 16  # they wait for the store
_MAX_TEXT_BYTES = 1 << 16
_NOT_THERE = -1


def choose_captions(config: SourceConfig, root: str, keys: pa.ChunkedArray) -> tuple[str, str]:
    """Decide what `captions: auto` means for a folder, and which table has them.

    Text files beside videos come first, then a table (`source.catalog`, or the only CSV in the folder),
    then names.

    Args:
        config: With `captions` and perhaps `catalog`.
        root: The folder's address.
        keys: Its files and videos, by ascending key.

    Returns:
        `txt`, `csv` or `names`, and the table's address when it is `csv`.

    Raises:
        SourceError: A table is asked for and there is none, or several.
    """
    if config.captions in ("txt", "names"):
        return config.captions, ""
    if config.catalog:
        return "csv", config.catalog
    tables = keys.filter(pc.ends_with(pc.utf8_lower(keys), pattern=".csv")).to_pylist()
    if config.captions == "auto":
        is_text = pc.ends_with(keys, pattern=".txt")
        others = stems_of(keys.filter(pc.invert(is_text)))
        if pc.any(pc.is_in(stems_of(keys.filter(is_text)), value_set=others)).as_py():
            return "txt", ""
        if not tables:
            return "names", ""
    if len(tables) != 1:
        raise SourceError(
            f"source.captions: {root} holds {len(tables)} CSVs; name the one with the captions in "
            "source.catalog, or set source.captions to txt or names"
        )
    return "csv", f"{root}/{tables[0]}"


def captions_of_names(videos: pa.Table) -> pa.Table:
    """Caption videos by their own names, with spaces for `_`, `-` and `+`.

    Returns:
        `videos` with caption, reason and detail; names without a letter are refused.
    """
    names = pc.replace_substring_regex(stems_of(videos["key"]), r"^.*/", "")
    captions = pc.utf8_trim_whitespace(pc.replace_substring_regex(names, r"[\s_+-]+", " "))
    is_empty = pc.invert(pc.match_substring_regex(captions, r"\pL")).to_numpy()
    rows = videos.append_column("caption", captions)
    return _refuse(rows, [(is_empty, RejectReason.EMPTY_CAPTION, "the file's name has no letters")])


def captions_of_texts(source: SourceRoot, listing: pa.Table, videos: pa.Table) -> pa.Table:
    """Caption videos by `NAME.txt` beside `NAME.mp4`, without the space around it.

    Returns:
        `videos` with caption, reason and detail; without such a file, or if it is no text: refused.
    """
    wanted = pc.binary_join_element_wise(stems_of(videos["key"]), "txt", ".")
    index = pc.index_in(wanted, value_set=listing["key"])
    sizes = pc.fill_null(listing["size_bytes"].take(index), _NOT_THERE).to_numpy()

    def read(key: str, size: int) -> str | None:
        if not 0 < size <= _MAX_TEXT_BYTES:
            return ""
        try:
            return source.read_range(key, 0, size).decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            return None

    with ThreadPoolExecutor(_THREADS) as pool:
        texts = pa.array(pool.map(read, wanted.to_pylist(), sizes.tolist()), pa.string())
    rows = videos.append_column("caption", pc.fill_null(texts, ""))
    refused = [
        (sizes == _NOT_THERE, RejectReason.EMPTY_CAPTION, "no .txt of this name beside it"),
        (sizes > _MAX_TEXT_BYTES, RejectReason.BAD_RECORD, "its .txt is longer than 64 KiB"),
        (np.asarray(texts.is_null()), RejectReason.BAD_RECORD, "its .txt is not UTF-8"),
    ]
    return _refuse(rows, refused)


def captions_of_table(address: str, columns: ColumnsConfig | None, videos: pa.Table) -> pa.Table:
    """Caption videos by rows that name them, with or without suffix.

    Args:
        address: A CSV, JSON lines or Parquet file, or a folder of one form of them.
        columns: Which columns hold path and caption; None: the usual names are tried.
        videos: key, size_bytes.

    Returns:
        key, size_bytes, caption, reason and detail: the table's rows in order, -1 bytes where they name no
        video, then the videos that no row names, refused.

    Raises:
        SourceError: Not readable, or without these columns.
    """
    named = []
    for file in read_row_files(address, TABLE_SUFFIXES):
        path, caption = table_columns(file.name, file.column_names(), columns)
        named.append(file.read([path, caption]).rename_columns(["key", "caption"]))
    rows = pa.concat_tables(named)
    keys = pc.replace_substring_regex(rows["key"], r"^(\./)+", "")
    index = pc.index_in(keys, value_set=videos["key"])
    if index.null_count == len(index):
        index = pc.index_in(keys, value_set=stems_of(videos["key"]))
    keys = pc.coalesce(videos["key"].take(index), keys)
    sizes = pc.fill_null(videos["size_bytes"].take(index), _NOT_THERE)
    rows = pa.table({"key": keys, "size_bytes": sizes, "caption": rows["caption"]})
    is_unnamed = pc.invert(pc.is_in(videos["key"], value_set=keys))
    others = videos.filter(is_unnamed)
    others = others.append_column("caption", pa.repeat("", len(others)))
    rows = pa.concat_tables([rows, others.select(rows.column_names).cast(rows.schema)])
    is_other = np.arange(len(rows)) >= len(rows) - len(others)
    return _refuse(rows, [(is_other, RejectReason.EMPTY_CAPTION, "no row of the table names it")])


def table_columns(name: str, found: Sequence[str], columns: ColumnsConfig | None) -> tuple[str, str]:
    """Columns of path and caption.

    Raises:
        SourceError: They are not there.
    """
    if columns is not None:
        wanted = (columns.path, columns.caption)
        missing = [column for column in wanted if column not in found]
        if not missing:
            return wanted
        raise SourceError(
            f"{name}: no column {', '.join(missing)}; it has {', '.join(found)}. Correct source.columns"
        )
    path = next((column for column in PATH_COLUMNS if column in found), None)
    caption = next((column for column in CAPTION_COLUMNS if column in found), None)
    if path is None or caption is None:
        raise SourceError(
            f"{name}: the columns {', '.join(found)} don't say where a video and its caption are; set "
            "source.columns.path and source.columns.caption"
        )
    return path, caption


def _refuse(rows: pa.Table, refused: Sequence[tuple[npt.NDArray[np.bool_], RejectReason, str]]) -> pa.Table:
    """Add reason and detail: of the first condition that holds, null where none does."""
    masks = [mask for mask, _, _ in refused]
    chosen = pa.array(np.select(masks, range(len(masks)), default=len(masks)))
    reasons = pa.array([*(reason.value for _, reason, _ in refused), None], pa.string())
    details = pa.array([*(detail for _, _, detail in refused), None], pa.string())
    return rows.append_column("reason", reasons.take(chosen)).append_column("detail", details.take(chosen))
