"""A global batch is counted over all ranks, and what one rank knows reaches the others."""

from __future__ import annotations

import torch

from weave_train.launch import Launch
from weave_train.rows.batch import EncodedRow, collate
from weave_train.rows.prompt import VISUAL_TOKEN_ID
from weave_train.train.totals import BatchTotals, RankState, batch_totals, ledger_entry

ALONE = Launch(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))
FINE = RankState()


def make_rows(count: int) -> list[EncodedRow]:
    """Rows of 3, 4, 5, ... tokens, the second of which is visual."""
    rows = []
    for index in range(count):
        ids = torch.arange(index + 3)
        ids[1] = VISUAL_TOKEN_ID
        rows.append(EncodedRow(f"sample-{index}", ids, ids.clone(), torch.zeros((1, 3, 32, 32))))
    return rows


def totals_of(rows: list[EncodedRow], slots: list[int], state: RankState = FINE) -> BatchTotals:
    batches = [collate(rows, pad_id=0)] if rows else []
    return batch_totals(rows, slots, batches, state=state, launch=ALONE)


def test_totals_count_what_enters_the_loss_and_what_is_computed_in_vain() -> None:
    totals = totals_of(make_rows(3), [4, 5, 7])
    assert (totals.rows, totals.tokens, totals.supervised_tokens, totals.visual_tokens) == (3, 12, 12, 3)
    assert totals.padded_tokens == 3 * 5 - 12


def test_a_rank_says_that_it_failed_or_was_asked_to_stop() -> None:
    totals = totals_of([], [], RankState(has_failed=True, stop_requested=True))
    assert (totals.rows, totals.failed_ranks, totals.stop_requests) == (0, 1, 1)
    assert totals_of([], []).failed_ranks == 0


def test_the_ledger_knows_which_sample_lay_in_which_slot() -> None:
    rows = make_rows(3)
    cases = ((rows, [0, 1, 2]), (rows[::-1], [0, 1, 2]), (rows, [0, 1, 3]), (rows[:2], [0, 1]))
    assert len({totals_of(chosen, slots).ledger_sum for chosen, slots in cases}) == 4
    parts = [totals_of(rows[:1], [0]), totals_of(rows[1:], [1, 2])]
    assert sum(part.ledger_sum for part in parts) == totals_of(rows, [0, 1, 2]).ledger_sum
    assert ledger_entry(2**20, "x") * 2**20 < 2**63
