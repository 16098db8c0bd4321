"""Many epochs are told in few lines, and none is hidden that differs."""

from __future__ import annotations

from weave_data.records import StageCount
from weave_data.report.epochs import merge_epochs


def counted(stage: str, out: int) -> StageCount:
    return StageCount(stage, 10, out, filtered={"remainder": 10 - out})


def test_equal_neighbours_are_one_row_and_others_stay() -> None:
    totals = [
        counted("decode", 10),
        counted("weave a", 8),
        *(counted(f"weave a epoch {epoch}", 8) for epoch in (1, 2, 3)),
        counted("weave a epoch 4", 6),
        counted("weave b", 8),
        counted("weave b epoch 1", 8),
    ]
    merged = merge_epochs(totals)
    assert [count.stage for count in merged] == [
        "decode",
        "weave a",
        "weave a epochs 1-3, each",
        "weave a epoch 4",
        "weave b",
        "weave b epoch 1",
    ]
    assert [count.num_out for count in merged] == [10, 8, 8, 6, 8, 8]
