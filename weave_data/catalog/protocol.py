"""What a kind of source has to offer; `kinds` maps names to them, `build` does the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from weave_data.catalog.parts import CutCatalog

__all__ = ["ClipSource", "Unit"]


@dataclass(frozen=True)
class Unit:
    """A piece of a source that is read at once: a CSV, a tar, a listing.

    Attributes:
        name: Relative to the source, so that it does not say where that lies; unique in it.
        sha256: Of its bytes, or of what stands for them (keys and sizes of a listing).
        rows: One row per clip that it speaks of, in its order; columns are the source's own affair.
    """

    name: str
    sha256: str
    rows: pa.Table = field(repr=False, compare=False)


class ClipSource(Protocol):
    """One kind of source, opened with its settings. Every method may raise SourceError."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the catalog besides its units; JSON-able, part of the catalog's key.

        Raises:
            ConfigError: A setting is wrong.
        """
        ...

    def check(self) -> None:
        """Make sure, before any work, that the clips' files can be listed."""
        ...

    def identities(self) -> Iterator[tuple[str, str]]:
        """Names and sums of the units, in catalog order, as cheaply as they can be had.

        Clips' files are not listed for it where a unit does not consist of them.
        """
        ...

    def units(self) -> Iterator[Unit]:
        """The same units in the same order, read."""
        ...

    def cut(self, units: Sequence[tuple[str, pa.Table]]) -> CutCatalog:
        """Decide what every row is and cut clips into parts.

        Args:
            units: (name, rows) as `units` gave them; at least one row in all.
        """
        ...

    def count_rows(self) -> int:
        """Rows of all units; estimated where reading them means reading the clips."""
        ...
