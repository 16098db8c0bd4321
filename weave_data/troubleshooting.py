"""`docs/troubleshooting.md`: message, cause, remedy and the test that produces each.

    python -m weave_data.troubleshooting > docs/troubleshooting.md

Every error class of `errors` and every `RejectReason` has a row; a test holds the file to that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from weave_data import errors
from weave_data.records import CONTENT_REASONS, RejectReason
from weave_data.troubleshooting_rows import ERRORS, REASONS

__all__ = ["page"]


def page() -> str:
    """The whole file."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Troubleshooting"
    yield ""
    yield "Made by `python -m weave_data.troubleshooting`. Every row is produced by its test, in `tests/`."
    yield ""
    yield "## A command stops"
    yield ""
    yield "Each message is one line: what, value, rule, next action. `--debug` shows the traceback."
    yield ""
    yield "| error (exit code) | the message says | cause | remedy | test |"
    yield "|---|---|---|---|---|"
    for row in ERRORS:
        code = getattr(errors, row.subject).exit_code
        yield f"| {row.subject} ({code}) | ... {row.shown} ... | {row.cause} | {row.remedy} | `{row.test}` |"
    yield ""
    yield "## A clip is refused"
    yield ""
    yield "Refused clips lie with reason and detail in `rejects/<fingerprint>.parquet`. Reasons of kind"
    yield "*content* are in the bytes and stay; *circumstances* are tried again by the same command."
    yield ""
    yield "| reason | kind | cause | remedy | test |"
    yield "|---|---|---|---|---|"
    for row in REASONS:
        kind = "content" if RejectReason(row.subject) in CONTENT_REASONS else "circumstance"
        yield f"| `{row.subject}` | {kind} | {row.cause} | {row.remedy} | `{row.test}` |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
