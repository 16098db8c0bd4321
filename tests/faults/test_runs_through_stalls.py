"""A run whose store answers nothing for half a minute, while rows are read or a checkpoint is written."""

from __future__ import annotations

import pytest
from build_runs import ENDPOINT
from expected_ledgers import expected_ledgers
from s3server.faults import Fault, FaultProxy
from servers import S3Server
from training_runs import Training, column, wait_for_steps

pytestmark = [pytest.mark.server, pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 40


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_stall_of_30_s_costs_a_run_no_row(
    s3: S3Server, training: Training, own_bucket: str, method: str
) -> None:
    run_id = f"stalled-{method}"
    flags = (
        *("--max_steps", str(STEPS), "--save_every_steps", "2", "--checkpoint.uri", f"{own_bucket}/run"),
        *("--feed.max_memory_mib", "1"),  # row groups are read all the time
    )
    with FaultProxy(s3.endpoint, stall_seconds=30.0) as proxy:
        process = training.begin(run_id, *flags, **{ENDPOINT: proxy.endpoint})
        wait_for_steps(training.root / run_id, 3, process)
        proxy.plan(Fault.STALL, only=method)
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
        assert proxy.happened[Fault.STALL] == 1
    assert column(training.root / run_id, "Step") == list(range(1, STEPS + 1))
    assert column(training.root / run_id, "Ledger") == expected_ledgers(training, *flags, num_steps=STEPS)
