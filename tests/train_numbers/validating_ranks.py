"""Started by a test as every rank: two training steps, with validation passes between if asked.

Arguments: ZeRO stage, file for the first rank's result, `pass` or `none`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from tiny_vlm import make_row, make_vlm

from weave_data.errors import StoreError
from weave_train.config import PretrainConfig, load_pretrain_config
from weave_train.engine.deepspeed_config import EngineSettings
from weave_train.engine.engine import TrainEngine, init_process_group, leave_process_group
from weave_train.engine.stages import apply_stage
from weave_train.feed import FeedLimits
from weave_train.launch import detect_launch
from weave_train.order import rank_slots
from weave_train.rows.batch import EncodedRow
from weave_train.train.objective import micro_batches, take_step
from weave_train.train.validation import validate, validation_set

NUM_ROWS = 11
GROUP_ROWS = 3
MICRO_ROWS = 2
FRAMES = (4, 0, 1, 2, 0, 3, 0, 0, 1, 2, 4)
"""Of each row; some ranks see text only."""


@dataclass(frozen=True)
class NumberedRows:
    """Rows that are their own number; one of them can't be read, if asked."""

    broken_group: int | None = None
    fingerprint: str = "numbered"
    split: str = "val"
    group_rows: int = GROUP_ROWS
    shard_rows: tuple[tuple[int, ...], ...] = ((NUM_ROWS,),)

    def read(self, data_epoch: int, shard_index: int, group_index: int, *, epoch: int) -> pa.Table:
        if group_index == self.broken_group:
            raise StoreError(f"shard-00000.parquet: row group {group_index}: gone")
        numbers = range(group_index * GROUP_ROWS, min((group_index + 1) * GROUP_ROWS, NUM_ROWS))
        return pa.table({"sample_id": [str(number) for number in numbers]})

    def describe(self) -> dict[str, Any]:
        return {}


def encode(row: Mapping[str, Any]) -> EncodedRow:
    number = int(row["sample_id"])
    return make_row(FRAMES[number], name=f"row-{number}", seed=number, text=6 + 2 * number)


def main() -> None:
    zero_stage, result, mode = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    launch = detect_launch()
    init_process_group(launch)
    vlm = make_vlm()
    apply_stage(vlm, "finetune")
    settings = EngineSettings(
        zero_stage=zero_stage,
        precision="fp32",
        micro_batch_rows=MICRO_ROWS,
        micro_steps=2,
        max_grad_norm=1.0,
        weight_decay=0.1,
    )
    engine = TrainEngine(vlm.core, settings, launch)
    config: PretrainConfig = load_pretrain_config([("dataset.manifest", "unused"), ("model.type", "tiny")])
    source = NumberedRows(broken_group=3 if mode == "broken" else None)
    rows = validation_set(
        source,
        config=config,
        encode=encode,
        limits=FeedLimits(num_workers=1),
        rank_rows=MICRO_ROWS,
        world_size=launch.world_size,
    )

    training = [make_row(n % 3, name=str(n), seed=100 + n, text=8 + n) for n in range(6)]
    slots = rank_slots(launch.rank, world_size=launch.world_size, batch_rows=6)
    ours = training[slots.start : slots.stop]
    num_micro_steps = math.ceil(math.ceil(6 / launch.world_size) / MICRO_ROWS)

    def step() -> tuple[float, float]:
        batches = micro_batches(ours, micro_rows=MICRO_ROWS, num_micro_steps=num_micro_steps, vlm=vlm)
        outcome = take_step(
            engine,
            vlm,
            batches,
            supervised_tokens=sum(row.num_supervised for row in training),
            learning_rate=1e-2,
            launch=launch,
        )
        return outcome.loss, outcome.grad_norm

    told: list[str] = []

    def check() -> list[Any]:
        if mode == "none":
            return []
        report = validate(
            rows,
            engine=engine,
            vlm=vlm,
            launch=launch,
            on_step=lambda taken: told.extend(row.sample_id for row in taken),
        )
        assert vlm.core.training
        return [report.loss, report.supervised_tokens, report.rows]

    values = {"before": check(), "first": step(), "between": check(), "second": step(), "after": check()}
    values["again"] = check()
    values["told"] = told
    if launch.is_first:
        result.write_text(json.dumps(values))
    leave_process_group()


if __name__ == "__main__":
    try:
        main()
    except StoreError as error:
        sys.stderr.write(f"OWN {error}\n")
        raise SystemExit(3) from error
