"""What went in must come out somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weave_data.errors import AccountingError, RejectLimitError
from weave_data.records import StageCount

__all__ = ["RejectBudget", "check_balance", "total"]


def check_balance(count: StageCount, *, where: str) -> None:
    """Refuse a stage that lost or invented clips.

    Raises:
        AccountingError: in != out + filtered + rejected + duplicates.
    """
    if not count.is_balanced:
        raise AccountingError(
            f"{where}: stage {count.stage} took {count.num_in} clips and accounts for "
            f"{count.num_out} out, {dict(count.filtered)} filtered, {dict(count.rejected)} rejected, "
            f"{count.duplicates} duplicates; clips were lost or invented, please report this"
        )


def total(stage: str, counts: Iterable[StageCount]) -> StageCount:
    """Sum of the counts of a stage's parts."""
    result = StageCount(stage, 0, 0)
    for count in counts:
        result = result + count
    return result


class RejectBudget:
    """Stops a run as soon as its rejected clips must end above the limit.

    Args:
        num_clips: Clips of the whole run, rejected ones included.
        max_fraction: Share of them that may be rejected.
    """

    def __init__(self, *, num_clips: int, max_fraction: float) -> None:
        self._num_clips = num_clips
        self._max_fraction = max_fraction
        self._rejected: dict[str, int] = {}

    def spend(self, rejected: Mapping[str, int]) -> None:
        """Count rejects.

        Raises:
            RejectLimitError: More than `max_fraction` of all clips are rejected by now.
        """
        for reason, count in rejected.items():
            self._rejected[reason] = self._rejected.get(reason, 0) + count
        num_rejected = sum(self._rejected.values())
        if num_rejected > self._max_fraction * self._num_clips:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self._rejected.items()))
            raise RejectLimitError(
                f"{num_rejected} of {self._num_clips} clips rejected so far ({reasons}); the limit is "
                f"{self._max_fraction:g} (rejects.max_fraction). Look at a few of them, or raise the limit"
            )
