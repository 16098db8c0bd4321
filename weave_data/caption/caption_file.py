"""Captions and questions that somebody else wrote, by clip id."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption.literal_questions import read_literal_questions
from weave_data.caption.text_file import read_records
from weave_data.config.captions import QUESTION_TYPES, QuestionsConfig
from weave_data.errors import SourceError

__all__ = ["CaptionFile", "QuestionFile", "read_caption_file", "read_question_file"]


@dataclass(frozen=True)
class CaptionFile:
    """Captions of a file.

    Attributes:
        table: `clip_id` (distinct) and `caption` (never blank), string, in file order.
        sha256: Stands for the file's content, whatever its name.
        num_blank: Records left out because their caption is blank.
    """

    table: pa.Table
    sha256: str
    num_blank: int


@dataclass(frozen=True)
class QuestionFile:
    """Questions of a file.

    Attributes:
        table: `clip_id`, `type`, `question`, `answer`: string, none blank, in file order.
        sha256: Stands for the file's content, whatever its name.
    """

    table: pa.Table
    sha256: str


def read_caption_file(
    uri: str, *, id_column: str = "clip_id", caption_column: str = "caption"
) -> CaptionFile:
    """Read captions.

    Args:
        uri: CSV, Parquet, JSON lines, or JSON: a list of records, a mapping whose values are records
            (as VideoWeave's cleaned captions), or a mapping of ids to captions; or a folder of such.
        id_column: Holds the clip id; whole numbers are read as text.
        caption_column: Holds the caption.

    Raises:
        SourceError: Not readable, another form, or two different captions for one clip.
    """
    records, sha256 = read_records(uri, (id_column, caption_column))
    table = records.rename_columns(["clip_id", "caption"])
    is_blank = pc.equal(pc.utf8_trim_whitespace(table["caption"]), "")
    kept = table.filter(pc.invert(is_blank))
    distinct = kept.group_by(["clip_id", "caption"], use_threads=False).aggregate([])
    if pc.count_distinct(distinct["clip_id"]).as_py() < distinct.num_rows:
        counted = pc.value_counts(distinct["clip_id"])
        twice = counted.filter(pc.greater(counted.field("counts"), 1))[0]["values"].as_py()
        raise SourceError(f"{uri}: clip {twice} has two different captions; keep one record of it")
    return CaptionFile(distinct, sha256, table.num_rows - kept.num_rows)


def read_question_file(uri: str, config: QuestionsConfig) -> QuestionFile:
    """Read questions with their answers.

    Args:
        uri: As for `read_caption_file`, or Python literals as VideoWeave's generators write them (`.txt`).
        config: Names of the columns.

    Raises:
        SourceError: Not readable, a blank question or answer, or a type that is not one of the four.
    """
    columns = (config.id_column, config.type_column, config.question_column, config.answer_column)
    literals = {".txt": lambda data, name: read_literal_questions(data, name, config)}
    records, sha256 = read_records(uri, columns, readers=literals)
    table = records.rename_columns(["clip_id", "type", "question", "answer"])
    for name in ("question", "answer"):
        is_blank = pc.equal(pc.utf8_trim_whitespace(table[name]), "")
        if pc.any(is_blank).as_py():
            clip_id = table["clip_id"].filter(is_blank)[0].as_py()
            raise SourceError(f"{uri}: clip {clip_id} has a blank {name}; fill it in or drop the record")
    is_known = pc.is_in(table["type"], value_set=pa.array(QUESTION_TYPES))
    if not pc.all(is_known, min_count=0).as_py():
        other = table["type"].filter(pc.invert(is_known))[0].as_py()
        raise SourceError(f"{uri}: {other!r} is not one of the types {', '.join(QUESTION_TYPES)}; rename it")
    return QuestionFile(table, sha256)
