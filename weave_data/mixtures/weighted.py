"""Several files of records as one, by weight."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

from weave_data.errors import ConfigError
from weave_data.mixtures.spool import RowSpool, read_rows

__all__ = ["mix_weighted", "weighted_counts"]


def mix_weighted(
    inputs: Sequence[tuple[Path, float]], path: Path, *, seed: int, num_rows: int | None = None
) -> list[int]:
    """Draw records of several files in proportion to weights, and shuffle them.

    Within a file records are drawn without repetition. Each file has random numbers of its own, so which of
    its records are drawn depends on the seed, its place and how many are drawn, not on the others.

    Args:
        inputs: (file, weight), weights above 0.
        path: The JSON array to write.
        seed: Decides which records, and their order.
        num_rows: Records in all; None: as many as the scarcest file allows.

    Returns:
        Records taken of each input.

    Raises:
        ConfigError: A weight is not above 0, or a file holds fewer records than its share.
        SourceError: A file can't be read.
    """
    with RowSpool(path.parent) as spool:
        ranges = [spool.extend(read_rows(name)) for name, _ in inputs]
        counts = weighted_counts(
            [(str(name), weight, len(rows)) for (name, weight), rows in zip(inputs, ranges, strict=True)],
            num_rows=num_rows,
        )
        order: list[int] = []
        for place, (rows, count) in enumerate(zip(ranges, counts, strict=True)):
            order += random.Random(f"{seed}:{place}").sample(rows, count)  # noqa: S311  (seeded on purpose)
        random.Random(seed).shuffle(order)  # noqa: S311
        spool.write(path, order)
        return counts


def weighted_counts(inputs: Sequence[tuple[str, float, int]], *, num_rows: int | None) -> list[int]:
    """How many records of each input: shares rounded down, what is left to the largest fractions.

    Args:
        inputs: (name, weight, records it holds).
        num_rows: Records in all; None: the most for which every input has enough.

    Raises:
        ConfigError: As for `mix_weighted`.
    """
    for name, weight, _ in inputs:
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"{name}: weight {weight:g}; weights are above 0, leave out what is not wanted")
    total = sum(weight for _, weight, _ in inputs)
    if num_rows is None:
        # the epsilon keeps 0.7 / (0.7 + 0.3) of 10 records from being 6.999...
        num_rows = min(math.floor(held * total / weight + 1e-9) for _, weight, held in inputs)
    shares = [num_rows * weight / total for _, weight, _ in inputs]
    counts = [math.floor(share + 1e-9) for share in shares]
    by_fraction = sorted(range(len(shares)), key=lambda place: (counts[place] - shares[place], place))
    for place in by_fraction[: num_rows - sum(counts)]:
        counts[place] += 1
    for (name, weight, held), count in zip(inputs, counts, strict=True):
        if count > held:
            raise ConfigError(
                f"{name}: holds {held} records, {count} of {num_rows} are its share at weight {weight:g}; "
                "lower --rows or its weight"
            )
    return counts
