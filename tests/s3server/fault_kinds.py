"""What a store may do to a request, planned or at random; `s3server.faults` does it."""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping
from dataclasses import dataclass, field


class Fault(enum.Enum):
    REFUSE = "refuse"
    DROP_REPLY = "drop_reply"
    CUT_BODY = "cut_body"
    RESET = "reset"
    SILENT = "silent"
    DRIP = "drip"
    SHORTEN = "shorten"
    STALL = "stall"


@dataclass
class Storm:
    """Faults at random.

    Attributes:
        rates: Share of all requests that suffer each fault, in the long run.
        seed: Of the draws; which request meets which draw is up to the clients.
        burst: Refusals come so many in a row, as a busy server gives them.
    """

    rates: Mapping[Fault, float]
    seed: int
    burst: int = 3
    _left: int = 0
    _draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    def next_fault(self) -> Fault | None:
        """Of the next request; None: it is served."""
        if self._left:
            self._left -= 1
            return Fault.REFUSE
        drawn = self._draw.random()
        for fault, rate in self.rates.items():
            drawn -= rate / self.burst if fault is Fault.REFUSE else rate
            if drawn < 0:
                self._left = self.burst - 1 if fault is Fault.REFUSE else 0
                return fault
        return None


@dataclass(frozen=True)
class Refusal:
    """What every request is answered."""

    status: int
    code: str
