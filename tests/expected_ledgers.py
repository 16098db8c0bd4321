"""What the ledger of a run must be, worked out without running it: manifest, seed and flags -> hash chain."""

from __future__ import annotations

import hashlib

from training_runs import Training

from weave_train.config import PretrainConfig
from weave_train.config.flags import parse_flags
from weave_train.config.loading import load_pretrain_config
from weave_train.train.data import open_data
from weave_train.train.totals import ledger_entry


def expected_ledgers(training: Training, *flags: str, num_steps: int) -> list[str]:
    """Metric `Ledger` of each step: a hash over the sample ids in every slot up to it."""
    given = parse_flags(training.flags("nobody", *flags), model=PretrainConfig)
    data = open_data(load_pretrain_config(given), world_size=1)
    chain, told = "", []
    for step in range(num_steps):
        entries = 0
        for address in data.order.rows(step):
            _, data_epoch, shard_index, group_index = address.group
            group = data.sources[0].read(data_epoch, shard_index, group_index, epoch=address.epoch)
            entries += ledger_entry(address.slot, group["sample_id"][address.row_index].as_py())
        chain = hashlib.sha256(f"{chain}/{entries}".encode()).hexdigest()
        told.append(chain[:16])
    return told
