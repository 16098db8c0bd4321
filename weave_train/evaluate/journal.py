"""Answers as they come, kept so that a killed evaluation goes on where it was.

    TO/<task>/spec.json                     what is evaluated; another spec is refused
              parts/<rank>-<start>.jsonl    a line a block: its number, its round and its answers

A block is a fixed run of questions. A line that broke off is a block that was not answered. Ranks take
blocks by number, so two of them never answer the same one, however many there were before. A block that is
to be asked again gets a line of the next round without answers: until there are some, it counts as not
answered.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weave_data.errors import ConflictError
from weave_train.evaluate.answer import Answer
from weave_train.evaluate.question import ASKED_AGAIN
from weave_train.whole_files import write_whole

__all__ = ["Journal", "ask_lost_again"]


@dataclass(frozen=True)
class _Line:
    block: int
    round: int
    answers: list[Answer] | None

    @property
    def standing(self) -> tuple[int, bool, int]:
        """The highest of a block's lines counts: of the last round, answered, with the fewest losses."""
        num_lost = sum(answer.problem is not None for answer in self.answers or ())
        return self.round, self.answers is not None, -num_lost


def ask_lost_again(folder: Path, is_ours: Callable[[int], bool] = lambda _: True) -> None:
    """Have the blocks asked again that lost a question to what may be gone by now; see `ASKED_AGAIN`.

    Args:
        folder: Of one task; nothing happens where no evaluation began.
        is_ours: Which blocks, by number.
    """
    lost = [
        line
        for line in _newest(folder / "parts").values()
        if is_ours(line.block) and any(answer.reason in ASKED_AGAIN for answer in line.answers or ())
    ]
    if lost:
        with (folder / "parts" / f"again-{uuid.uuid4().hex[:12]}.jsonl").open("ab") as file:
            for line in lost:
                file.write(
                    f'{{"block": {line.block}, "round": {line.round + 1}, "answers": null}}\n'.encode()
                )
            file.flush()
            os.fsync(file.fileno())


def _newest(parts: Path) -> dict[int, _Line]:
    """The line of each block that counts."""
    found: dict[int, _Line] = {}
    for line in _lines(parts):
        if line.block not in found or line.standing > found[line.block].standing:
            found[line.block] = line
    return found


def _lines(parts: Path) -> Iterator[_Line]:
    for path in sorted(parts.glob("*.jsonl")):
        for text in path.read_bytes().split(b"\n"):
            try:
                values = json.loads(text)
                given = values["answers"]
                answers = None if given is None else [Answer.from_json(answer) for answer in given]
                line = _Line(int(values["block"]), int(values.get("round", 0)), answers)
            except (ValueError, TypeError, KeyError):
                continue  # killed while it wrote
            yield line


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
        self._rounds: dict[int, int] = {}

    def blocks(self) -> dict[int, list[Answer]]:
        """Answered blocks by number."""
        newest = _newest(self._parts)
        self._rounds = {number: line.round for number, line in newest.items()}
        return {number: line.answers for number, line in newest.items() if line.answers is not None}

    def add(self, block: int, answers: Sequence[Answer], *, rank: int) -> None:
        """Keep one block's answers, in the round that `blocks` found it in: on disk when this returns."""
        if self._file is None:
            name = f"{rank:05d}-{uuid.uuid4().hex[:12]}.jsonl"
            self._file = (self._parts / name).open("ab")
        lines = ",".join(answer.to_line() for answer in answers)
        number = self._rounds.get(block, 0)
        self._file.write(f'{{"block": {block}, "round": {number}, "answers": [{lines}]}}\n'.encode())
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
        write_whole(path, content)
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
