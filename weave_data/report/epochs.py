"""Accounting of many epochs in few lines."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence

from weave_data.records import StageCount

__all__ = ["merge_epochs"]

_EPOCH = re.compile(r"(?P<stage>.+) epoch (?P<epoch>\d+)")


def merge_epochs(totals: Sequence[StageCount]) -> tuple[StageCount, ...]:
    """Show neighbouring epochs with the same numbers as one row, `weave l4 epochs 1-35, each`."""
    return tuple(_merged(totals))


def _merged(totals: Sequence[StageCount]) -> Iterator[StageCount]:
    for _, found in itertools.groupby(totals, key=_without_epoch):
        run = list(found)
        names = [_EPOCH.fullmatch(count.stage) for count in run]
        first, last = names[0], names[-1]
        if len(run) == 1 or first is None or last is None:
            yield from run
        else:
            stage = f"{first['stage']} epochs {first['epoch']}-{last['epoch']}, each"
            yield dataclasses.replace(run[0], stage=stage)


def _without_epoch(count: StageCount) -> tuple[str, bool, str]:
    """Equal for epochs of one recipe after the first that count the same."""
    found = _EPOCH.fullmatch(count.stage)
    plain = count if found is None else dataclasses.replace(count, stage=found["stage"])
    return plain.stage, found is not None, str(sorted(plain.to_json().items(), key=str))
