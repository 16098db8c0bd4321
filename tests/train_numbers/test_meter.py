"""A step's numbers, as the loop puts them together."""

from __future__ import annotations

import math

import pytest
import torch
from step_reports import make_report
from tiny_vlm import SETTINGS, make_batch, make_row, make_vlm

from weave_train.config import load_pretrain_config
from weave_train.engine.stages import apply_stage
from weave_train.feed import FeedStats
from weave_train.launch import Launch
from weave_train.numbers import Flops
from weave_train.rows.batch import dummy_batch
from weave_train.train.meter import StepMeter
from weave_train.train.totals import RankState, batch_totals

ALONE = Launch(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))
CONFIG = load_pretrain_config([("dataset.manifest", "unused"), ("model.type", "tiny")])


def test_a_steps_work_and_reading_are_in_its_report() -> None:
    vlm = make_vlm()
    apply_stage(vlm, "finetune")
    meter = StepMeter.over(vlm, config=CONFIG, launch=ALONE)
    rows = [make_row(2), make_row(0)]
    batches = [make_batch(vlm, [2, 0]), dummy_batch(pad_id=0, settings=SETTINGS)]
    flops = meter.flops_of(batches)
    totals = batch_totals(rows, [0, 1], batches, state=RankState(), launch=ALONE, flops=flops)
    assert totals.flops.model == pytest.approx(flops.model, abs=1e6)
    assert flops == meter.flops.of_batch(batches[0]) + Flops(0.0, meter.flops.of_batch(batches[1]).hardware)

    measured = StepMeter(meter.flops, peak=totals.flops.model, launch=ALONE)
    stats = FeedStats(read_seconds=1.5, read_bytes=7, encode_seconds=2.5)
    report = make_report(1, **measured.fields(totals, step_seconds=4.0, stats=stats))
    assert report.mfu == pytest.approx(0.25), "as many FLOPs as the peak makes in a second, in four"
    assert report.hfu > report.mfu
    assert (report.read_seconds, report.read_bytes, report.encode_seconds) == (1.5, 7, 2.5)
    assert (report.rows, report.visual_tokens) == (2, 8)
    assert report.padded_tokens == totals.padded_tokens > 0
    assert report.memory_bytes > 0


def test_on_a_cpu_mfu_is_not_known() -> None:
    meter = StepMeter.over(make_vlm(), config=CONFIG, launch=ALONE)
    totals = batch_totals([], [], [], state=RankState(), launch=ALONE)
    assert math.isnan(meter.fields(totals, step_seconds=1.0, stats=FeedStats())["mfu"])
