"""Files of questions, from a folder or an object store; what is wrong in them is counted row by row."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weave_data.errors import ConfigError, SourceError
from weave_data.json_rows import BrokenRow, json_rows
from weave_data.storage import SourceRoot
from weave_train.evaluate.question import LostQuestion, Question, QuestionSet

__all__ = ["BadRowError", "TaskFiles", "collect", "option_index", "rows_by_id", "text_field"]


class BadRowError(Exception):
    """A row that is no question; its text says why."""


@dataclass
class TaskFiles:
    """The files of one task below `--data`, each looked for under the names it is published with.

    Attributes:
        root: What `--data` names.
    """

    root: SourceRoot
    _read: dict[str, str] = field(default_factory=dict)

    def find(self, names: Sequence[str]) -> str | None:
        """The first of these keys that is there."""
        return next((name for name in names if self.root.size(name) is not None), None)

    def need(self, names: Sequence[str]) -> str:
        """As `find`.

        Raises:
            ConfigError: None of them is there.
        """
        found = self.find(names)
        if found is None:
            raise ConfigError(
                f"data: {self.root.uri} holds no {' or '.join(names)}; put the published file there",
                origin="command line",
            )
        return found

    def bytes_of(self, key: str) -> bytes:
        """A file; its hash becomes part of the evaluation's identity."""
        data = self.root.read(key)
        self._read[key] = hashlib.sha256(data).hexdigest()
        return data

    def json(self, key: str) -> Any:
        """A JSON file.

        Raises:
            SourceError: It is none.
        """
        try:
            return json.loads(self.bytes_of(key))
        except ValueError as error:
            raise SourceError(f"{self.root.uri}/{key}: not JSON ({error}); fetch it again") from error

    def json_object(self, key: str) -> dict[str, Any]:
        """A JSON file that holds one object.

        Raises:
            SourceError: It holds none.
        """
        values = self.json(key)
        if not isinstance(values, dict):
            raise self.misshapen(key, f"holds a {type(values).__name__}, not one JSON object")
        return values

    def misshapen(self, key: str, problem: str) -> SourceError:
        """That a file is not as it was published."""
        return SourceError(f"{self.root.uri}/{key}: {problem}; give the file as it was published")

    def rows(self, key: str) -> Iterator[Any]:
        """Rows of a JSON array or of JSON lines, a `BrokenRow` for a line that is none."""
        yield from json_rows(io.BytesIO(self.bytes_of(key)), name=f"{self.root.uri}/{key}")

    def csv(self, key: str, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
        """Rows of a CSV with a header.

        Raises:
            SourceError: It is no UTF-8, lacks a column, or has a quote that is not closed where it should be:
                what follows might be questions or the text of one.
        """
        try:
            text = self.bytes_of(key).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.root.uri}/{key}: not UTF-8 ({error}); fetch it again") from error
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        line = 1
        try:
            self._check_columns(key, reader.fieldnames or (), columns)
            for row in reader:
                line = reader.line_num + 1
                yield row
        except csv.Error as error:
            raise SourceError(
                f"{self.root.uri}/{key}: the row that begins in line {line} is no CSV ({error}); "
                "close its quotes, or fetch the file again"
            ) from error

    def parquet(self, key: str, columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Rows of a Parquet file.

        Raises:
            SourceError: It is none, or lacks a column.
        """
        try:
            table = pq.read_table(io.BytesIO(self.bytes_of(key)))
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{self.root.uri}/{key}: no Parquet file ({error}); fetch it again") from error
        self._check_columns(key, table.column_names, columns)
        yield from table.select(list(columns)).to_pylist()

    def digests(self) -> dict[str, str]:
        """sha256 of each file that was read, by its key."""
        return dict(sorted(self._read.items()))

    def sha256(self) -> str:
        """Of all files that were read, by name."""
        listing = "".join(f"{key} {digest}\n" for key, digest in self.digests().items())
        return hashlib.sha256(listing.encode()).hexdigest()

    def _check_columns(self, key: str, found: Sequence[str], wanted: Sequence[str]) -> None:
        missing = [name for name in wanted if name not in found]
        if missing:
            raise SourceError(
                f"{self.root.uri}/{key}: has no column {', '.join(missing)} (it has {', '.join(found)}); "
                "give the file as it was published"
            )


def collect(
    files: TaskFiles, rows: Iterator[tuple[str, Any]], make: Callable[[str, Any], Question]
) -> QuestionSet:
    """Questions of rows, and rows that are none with the reason.

    Args:
        files: Whose hash identifies the set.
        rows: (id, row); a later row with an id that was there is lost as `repeated-id`.
        make: From id and row.

    Raises:
        SourceError: There is no row at all.
    """
    questions: list[Question] = []
    lost: list[LostQuestion] = []
    seen: set[str] = set()

    def lose(row_id: str, reason: str, detail: str) -> None:
        lost.append(LostQuestion(row_id, reason, detail, place=len(questions)))

    for row_id, row in rows:
        if row_id in seen:
            lose(row_id, "repeated-id", "an earlier row has the same id")
            continue
        seen.add(row_id)
        if isinstance(row, BrokenRow):
            lose(row_id, "unreadable-row", row.detail)
            continue
        try:
            questions.append(make(row_id, row))
        except (BadRowError, KeyError, TypeError, ValueError, AttributeError) as error:
            lose(row_id, "unreadable-row", f"no {error}" if isinstance(error, KeyError) else str(error))
    if not seen:
        raise SourceError(f"{files.root.uri}: the question file has no row; fetch it again")
    return QuestionSet(tuple(questions), tuple(lost), files.sha256(), files=files.digests())


def text_field(row: Mapping[str, Any], name: str) -> str:
    """A field that must hold text.

    Raises:
        BadRowError: It is empty or something else.
    """
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise BadRowError(f"{name} {value!r} is no text")
    return value.strip()


def option_index(answer: Any, options: Sequence[str]) -> int:
    """Which option an answer names: by index, by letter or by its text.

    Options may be the same, as in nine published questions of NExT-QA and MVBench: the first is meant, and
    either is right.

    Raises:
        BadRowError: None.
    """
    if not 1 <= len(options) <= 26:  # five published questions of MVBench have one
        raise BadRowError(f"{len(options)} options; a choice has 1 to 26")
    if isinstance(answer, bool):
        raise BadRowError(f"answer {answer!r} is none of the options")
    if isinstance(answer, int) or (isinstance(answer, str) and answer.strip().isdecimal()):
        index = int(answer)
        if isinstance(answer, str) and answer.strip() in options:
            return list(options).index(answer.strip())  # options that are numbers
        if not 0 <= index < len(options):
            raise BadRowError(f"answer {answer!r} is none of 0 to {len(options) - 1}")
        return index
    if isinstance(answer, str):
        text = answer.strip()
        if text in options:
            return list(options).index(text)
        if len(text) == 1 and "A" <= text.upper() <= chr(ord("A") + len(options) - 1):
            return ord(text.upper()) - ord("A")
    raise BadRowError(f"answer {answer!r} is none of the options")


def rows_by_id(rows: Iterator[Any], name: str) -> Iterator[tuple[str, Any]]:
    """Rows by their own id; one that has none goes by its number."""
    for number, row in enumerate(rows):
        has_id = isinstance(row, dict) and not isinstance(row, BrokenRow) and row.get(name) is not None
        yield (str(row[name]) if has_id else f"row-{number + 1}"), row
