"""Put hostile media through decoder processes and keep the books; also a command of `make chaos`.

    python tests/hostile_run.py [--variants 500] [--seed 1] [--decoder pyav] [--twice]

Prints a table by kind and one JSON line. Exit code 1 when an input is not accounted for, a clip outlived its
deadline, or a decoder process its memory.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hostile_media import Variant, load_bases, variants  # noqa: E402

from weave_data.decode.isolation import RETRY_FACTOR, IsolatedDecoder, LostClipError  # noqa: E402
from weave_data.decode.job import ClipFrames, ClipJob, PictureFormat  # noqa: E402
from weave_data.errors import DecodeError  # noqa: E402
from weave_data.frame_policy import FrameAsk  # noqa: E402
from weave_data.records import CONTENT_REASONS, RejectReason  # noqa: E402

__all__ = ["Books", "Limits", "run_variants"]

ASKS = (FrameAsk("linspace", 2), FrameAsk("linspace", 4), FrameAsk("fps", 4, 2.0))
CIRCUMSTANCES = frozenset((RejectReason.TIMEOUT.value, RejectReason.KILLED.value))
OVERSHOOT_BYTES = 512 << 20  # what a process may take between two looks at it
SLACK_SECONDS = 10.0  # starting processes, on a busy machine


@dataclass(frozen=True)
class Limits:
    """Of one attempt; the second one has `RETRY_FACTOR` times as much."""

    timeout_seconds: float = 10.0
    memory_bytes: int = 1 << 30
    decoder: str = "pyav"

    def open(self) -> IsolatedDecoder:
        """A decoder with these limits."""
        return IsolatedDecoder(
            decoder=self.decoder,
            picture=PictureFormat(64),
            timeout_seconds=self.timeout_seconds,
            memory_bytes=self.memory_bytes,
        )

    @property
    def clip_seconds(self) -> float:
        """Longest that one clip may hold its caller up."""
        return self.timeout_seconds * (1 + RETRY_FACTOR) + SLACK_SECONDS


@dataclass
class Books:
    """What became of every input."""

    limits: Limits
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    problems: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    peak_bytes: int = 0
    num_started: int = 0

    @property
    def num_inputs(self) -> int:
        """All of them, whatever became of them."""
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def total(self, *names: str) -> int:
        """Inputs with one of these outcomes."""
        return sum(counts[name] for counts in self.outcomes.values() for name in names)

    def note(self, variant: Variant, outcome: str, seconds: float) -> None:
        """One input is done."""
        self.outcomes[variant.kind][outcome] += 1
        self.longest_seconds = max(self.longest_seconds, seconds)
        if seconds > self.limits.clip_seconds:
            self.problems.append(f"{variant.kind} {variant.number}: {seconds:.1f} s, past the deadline")

    def lines(self) -> Iterator[str]:
        """A table by kind, and its sums."""
        for kind, counts in self.outcomes.items():
            listed = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            yield f"{kind:28} {sum(counts.values()):6}  {listed}"

    def summary(self) -> dict[str, Any]:
        """The figures, for `make chaos` and the documentation."""
        content = self.total(*(reason.value for reason in CONTENT_REASONS))
        return {
            "inputs": self.num_inputs,
            "decoded": self.total("decoded"),
            "rejected": content,
            "open": self.total(*CIRCUMSTANCES),
            "longest_seconds": round(self.longest_seconds, 1),
            "peak_mib": self.peak_bytes >> 20,
            "processes": self.num_started,
            "problems": self.problems,
        }


def run_variants(inputs: Iterable[Variant], limits: Limits, *, twice: bool = False) -> Books:
    """Decode every input, as a build's worker does, and say what became of it.

    Args:
        inputs: What to decode.
        limits: Of a decoder process.
        twice: Decode each again in another process: outcome and bytes must be the same.
    """
    books = Books(limits)
    with _watching(books), limits.open() as decoder, limits.open() as other:
        for variant in inputs:
            started = time.monotonic()
            outcome, clip = _outcome(decoder, variant)
            if clip is not None and (wrong := _wrong_in(clip)):
                books.problems.append(f"{variant.kind} {variant.number}: decoded, {wrong}")
            books.note(variant, outcome.partition(":")[0], time.monotonic() - started)
            if not twice:
                continue
            again, same = _outcome(other, variant)
            # a circumstance is none of the bytes' doing and may not come again
            if not CIRCUMSTANCES & {outcome, again} and (again, same) != (outcome, clip):
                books.problems.append(f"{variant.kind} {variant.number}: {outcome!r}, then {again!r}")
        books.num_started = decoder.num_started
    most = limits.memory_bytes * RETRY_FACTOR + OVERSHOOT_BYTES
    if books.peak_bytes > most:
        books.problems.append(f"a decoder process held {books.peak_bytes} bytes, {most} are allowed")
    return books


def _outcome(decoder: IsolatedDecoder, variant: Variant) -> tuple[str, ClipFrames | None]:
    """(`decoded`, frames), (`reason: detail`, None) of the bytes, or (`timeout` | `killed`, None)."""
    try:
        clip = decoder.decode(variant.data, ClipJob(ASKS, media=variant.media, measure=True))
    except DecodeError as error:
        return f"{RejectReason(error.reason).value}: {error.detail}", None
    except LostClipError as error:
        return error.reason.value, None
    return "decoded", clip


def _wrong_in(clip: ClipFrames) -> str:
    """What no later stage could take, though the clip passed; empty when all is well."""
    indices, seconds = [frame[0] for frame in clip.frames], [frame[1] for frame in clip.frames]
    numbers = [clip.source_seconds, *seconds, *(clip.quality or {"": 0.0}).values()]
    if not indices or not all(0 <= index < clip.source_frames for index in indices):
        return f"frames {indices} of {clip.source_frames}"
    if not all(math.isfinite(value) for value in numbers if isinstance(value, float)):
        return f"not all of {numbers} are finite"
    if min(seconds) < 0 or [second for _, second in sorted(zip(indices, seconds, strict=True))] != sorted(
        seconds
    ):
        return f"seconds {seconds} do not ascend"
    for _, _, data in clip.frames:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    return ""


@contextmanager
def _watching(books: Books) -> Iterator[None]:
    """Note the largest resident set of any child, fifty times a second."""
    stop = threading.Event()

    def watch() -> None:
        this = psutil.Process()
        while not stop.wait(0.02):
            for child in this.children():
                try:
                    books.peak_bytes = max(books.peak_bytes, child.memory_info().rss)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variants", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--decoder", default="pyav")
    parser.add_argument("--twice", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    inputs = variants(load_bases(), seed=options.seed, count=options.variants, first=options.first)
    books = run_variants(inputs, Limits(decoder=options.decoder), twice=options.twice)
    for line in books.lines():
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(json.dumps(books.summary()) + "\n")
    return 1 if books.problems else 0


if __name__ == "__main__":
    sys.exit(main())
