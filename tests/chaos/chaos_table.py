"""What rounds of chaos found, and the one table they end in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """Of one round.

    Attributes:
        faults: Injected: kills, broken requests, outages, hostile files.
        rows: That had to be there in the end.
        lost: Of them, those that are not, or have other bytes.
        duplicated: Rows that are there more often than they should.
        problems: Anything else that should not be.
        skipped: Why there was nothing to break; empty where there was.
    """

    faults: int
    rows: int = 0
    lost: int = 0
    duplicated: int = 0
    problems: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def has_survived(self) -> bool:
        """Nothing lost, nothing twice, nothing wrong."""
        return not (self.lost or self.duplicated or self.problems)

    def line(self) -> str:
        """For the terminal."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.has_survived:
            return f"survived {self.faults} faults, {self.rows} rows as undisturbed"
        named = "; ".join(self.problems)
        return f"NOT SURVIVED: {self.lost} rows lost, {self.duplicated} duplicated; {named}"


@dataclass
class Table:
    """All rounds."""

    outcomes: dict[str, list[tuple[int, Outcome]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, seed: int, outcome: Outcome) -> None:
        self.outcomes[kind].append((seed, outcome))

    @property
    def is_clean(self) -> bool:
        """Every round survived."""
        return all(outcome.has_survived for found in self.outcomes.values() for _, outcome in found)

    def lines(self) -> Iterator[str]:
        """One line a kind, a sum, what was skipped, and how to see again what did not survive."""
        columns = ("rounds", "survived", "faults injected", "rows", "rows lost", "rows duplicated")
        yield f"{'':24}" + "".join(f"{name:>17}" for name in columns)
        sums = [0] * len(columns)
        for kind, found in sorted(self.outcomes.items()):
            outcomes = [outcome for _, outcome in found if not outcome.skipped]
            counts = [
                len(outcomes),
                sum(outcome.has_survived for outcome in outcomes),
                sum(outcome.faults for outcome in outcomes),
                sum(outcome.rows for outcome in outcomes),
                sum(outcome.lost for outcome in outcomes),
                sum(outcome.duplicated for outcome in outcomes),
            ]
            sums = [total + count for total, count in zip(sums, counts, strict=True)]
            yield f"{kind:24}" + "".join(f"{count:17,}" for count in counts)
        yield f"{'all':24}" + "".join(f"{count:17,}" for count in sums)
        for kind, found in sorted(self.outcomes.items()):
            for seed, outcome in found:
                if outcome.skipped:
                    yield f"skipped: {kind}: {outcome.skipped}"
                if not outcome.has_survived:
                    yield f"again: python tests/chaos --rounds 1 --only {kind} --seed {seed}"
