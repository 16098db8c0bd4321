"""Answers as they come, kept so that a killed evaluation goes on where it was.

    TO/<task>/spec.json                     what is evaluated; another spec is refused
              parts/<rank>-<start>.jsonl    a line a block: its number and its answers

A block is a fixed run of questions. A line that broke off is a block that was not answered. Ranks take
blocks by number, so two of them never answer the same one, however many there were before.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weave_data.errors import ConflictError
from weave_train.evaluate.answer import Answer

__all__ = ["Journal"]


class Journal:
    """The folder of one task.

    Args:
        folder: Created when missing.
        spec: What is evaluated: must be that of an evaluation that began here.

    Raises:
        ConflictError: Another evaluation began here.
    """

    def __init__(self, folder: Path, spec: Mapping[str, Any]) -> None:
        self.folder = folder
        self._parts = folder / "parts"
        self._parts.mkdir(parents=True, exist_ok=True)
        self._agree(spec)
        self._file: Any = None

    def blocks(self) -> dict[int, list[Answer]]:
        """Answered blocks by number."""
        found: dict[int, list[Answer]] = {}
        for path in sorted(self._parts.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    values = json.loads(line)
                    answers = [Answer.from_json(answer) for answer in values["answers"]]
                except (ValueError, TypeError, KeyError):
                    continue  # killed while it wrote
                found[int(values["block"])] = answers
        return found

    def add(self, block: int, answers: Sequence[Answer], *, rank: int) -> None:
        """Keep one block's answers: on disk when this returns."""
        if self._file is None:
            name = f"{rank:05d}-{uuid.uuid4().hex[:12]}.jsonl"
            self._file = (self._parts / name).open("ab")
        lines = ",".join(answer.to_line() for answer in answers)
        self._file.write(f'{{"block": {block}, "answers": [{lines}]}}\n'.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more blocks."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a result whole or not at all; several ranks may write the same."""
        path = self.folder / name
        unfinished = self.folder / f".{name}.{uuid.uuid4().hex[:12]}"
        data = content.encode() if isinstance(content, str) else content
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        return path

    def _agree(self, spec: Mapping[str, Any]) -> None:
        path = self.folder / "spec.json"
        text = json.dumps(spec, indent=1, sort_keys=True)
        if not path.exists():
            self.write("spec.json", text)
        stored = json.loads(path.read_text(encoding="utf-8"))
        given = json.loads(text)
        differing = sorted(name for name in stored | given if stored.get(name) != given.get(name))
        if differing:
            name = differing[0]
            raise ConflictError(
                f"{self.folder} holds an evaluation with {name} {stored.get(name)!r}, this one has "
                f"{given.get(name)!r}; give another --to, or remove that folder"
            )
