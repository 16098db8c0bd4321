"""Question files as VideoWeave's generators write them: one Python literal, a list of dicts."""

from __future__ import annotations

import ast
import re
from typing import Any

from weave_data.config.captions import QUESTION_TYPES, QuestionsConfig
from weave_data.errors import SourceError

__all__ = ["MAX_LITERAL_BYTES", "read_literal_questions"]

MAX_LITERAL_BYTES = 64 << 20
"""Three times what 100,000 questions take; evaluating takes some ten times as much memory."""

_SHOWN = 80
_TYPE = re.compile(rf"(?<![a-z])({'|'.join(QUESTION_TYPES)})(?![a-z])")


def read_literal_questions(data: bytes, name: str, config: QuestionsConfig) -> list[dict[str, Any]]:
    """Records of one file, whose name tells their type.

    Args:
        data: The file: `[{'question': ..., 'answer': ..., 'file_paths': url}, ...]`. The video's id is the
            last part but two of its URL.
        name: Its name, as `video_questions_action_n=10-start=0.txt`.
        config: Names of the columns.

    Returns:
        The four columns that `config` names, one dict a question.

    Raises:
        SourceError: Too large, not a literal, of another form, or of no known type.

    Source:
        VideoWeave, which evaluates line 1. Differs: the whole file is the literal, and a question about
        several videos is an error.
    """
    kinds = set(_TYPE.findall(name.rpartition("/")[2].lower()))
    if len(kinds) != 1:
        raise SourceError(
            f"{name}: its name must hold one of {', '.join(QUESTION_TYPES)}, which says what its questions "
            "ask about; rename it as video_questions_action.txt"
        )
    records = _evaluate(data, name)
    if not isinstance(records, list):
        raise SourceError(f"{name}: holds a {type(records).__name__}; expected a list of questions")
    [kind] = kinds
    return [_row(record, f"{name}: entry {place}", kind, config) for place, record in enumerate(records)]


def _evaluate(data: bytes, name: str) -> Any:
    if len(data) > MAX_LITERAL_BYTES:
        raise SourceError(
            f"{name}: {len(data):,} bytes of Python literal, at most {MAX_LITERAL_BYTES:,} are evaluated; "
            "split the file, or write JSON lines"
        )
    try:
        return ast.literal_eval(data.decode("utf-8-sig").strip())
    except UnicodeDecodeError as error:
        raise SourceError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        why = str(error).partition("\n")[0][:_SHOWN] or type(error).__name__
        raise SourceError(
            f"{name}: not a Python literal ({why}); it must be a list of dicts of plain texts"
        ) from error


def _row(record: Any, where: str, kind: str, config: QuestionsConfig) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise SourceError(f"{where} is a {type(record).__name__}; expected a dict")
    values = {}
    for column in (config.question_column, config.answer_column):
        values[column] = record.get(column)
        if not isinstance(values[column], str):
            raise SourceError(
                f"{where} has {str(values[column])[:_SHOWN]!r} as {column!r}; expected text: name the right "
                "question_column and answer_column"
            )
    return {config.id_column: _video_id(record.get("file_paths"), where), config.type_column: kind, **values}


def _video_id(paths: Any, where: str) -> str:
    if isinstance(paths, (list, tuple)) and len(paths) == 1:
        paths = paths[0]
    if not isinstance(paths, str):
        said = f"{len(paths)} videos" if isinstance(paths, (list, tuple)) else repr(paths)[:_SHOWN]
        raise SourceError(f"{where} has {said} as 'file_paths'; expected the URL of one video")
    parts = paths.split("/")
    if len(parts) < 3 or not parts[-3]:
        raise SourceError(
            f"{where} has {paths[:_SHOWN]!r} as 'file_paths'; expected a URL that ends in ID/FOLDER/FILE"
        )
    return parts[-3]
