"""Orders and data sets by flag: whole runs of one process, whose ledger says which rows they took."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import write_woven_dataset
from listed import write_list, write_media
from training_runs import Training, column

from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags
from weave_train.feed import FeedLimits, RowFeed
from weave_train.train.data import open_data
from weave_train.train.totals import ledger_entry

NUM_STEPS = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flags")
    write_media(root / "media")
    write_list(root / "list.json")
    write_woven_dataset(root / "one", rows=30, clips_per_sample=2, frames_per_sample=4)
    write_woven_dataset(root / "two", rows=9, clips_per_sample=1, frames_per_sample=2, seed=8)
    return root


def flags(root: Path, *extra: str) -> list[str]:
    return [
        *(
            "--model.type",
            "tiny",
            "--model.num_frames",
            "4",
            "--num_workers",
            "1",
            "--max_steps",
            str(NUM_STEPS),
        ),
        *("--model.finetune_global_batch_size", "6", "--model.finetune_per_device_batch_size", "3"),
        *("--run_root_dir", str(root / "runs"), *extra),
    ]


def listed(root: Path) -> list[str]:
    components = json.dumps(["list.json", "media"])
    return ["--dataset.dataset_root_dir", str(root), "--dataset.finetune_stage_components", components]


def mixture(root: Path) -> str:
    return json.dumps(
        [
            {"name": "one", "slots": 3, "manifest": str(root / "one/l4/manifest.json")},
            {"name": "two", "slots": 2, "manifest": str(root / "two/l4/manifest.json")},
            {"name": "three", "slots": 1, "type": "video-llava-v15"},
        ]
    )


def run(root: Path, run_id: str, *extra: str) -> Path:
    done = Training("", root).command("pretrain", *flags(root, *extra, "--run_id", run_id))
    assert done.returncode == 0, done.stderr
    return root / "runs" / run_id


def expected_ledger(arguments: Sequence[str]) -> list[str]:
    """Brute force: the hash chain over the ids that the order names."""
    config = load_pretrain_config(parse_flags(list(arguments), model=PretrainConfig))
    data = open_data(config, world_size=1)
    feed = RowFeed(
        data.sources,
        data.order,
        slots=range(6),
        encode=lambda row: row["sample_id"],
        stop_step=NUM_STEPS,
        limits=FeedLimits(num_workers=0),
    )
    ledger, chain = "", []
    for step in range(NUM_STEPS):
        slots = data.order.slots_at(step, range(6))
        total = sum(ledger_entry(slot, name) for slot, name in zip(slots, feed.batch(step), strict=True))
        ledger = hashlib.sha256(f"{ledger}/{total}".encode()).hexdigest()
        chain.append(ledger[:16])
    return chain


@pytest.mark.process
def test_the_legacy_order_is_trained_in_by_flag(root) -> None:
    asked = ["--dataset.manifest", str(root / "one/l4/manifest.json"), "--order", "legacy"]
    ledger = column(run(root, "legacy", *asked), "Ledger")
    assert ledger == expected_ledger(flags(root, *asked))
    assert ledger != expected_ledger(flags(root, *asked[:2]))


@pytest.mark.process
def test_a_json_list_is_trained_on_by_its_id(root) -> None:
    asked = ["--dataset.type", "webvid", *listed(root), "--dataset.frame_policy", "linspace"]
    directory = run(root, "listed", *asked)
    assert column(directory, "Ledger") == expected_ledger(flags(root, *asked))
    stored = json.loads((directory / "config.json").read_text())
    assert stored["model"]["frame_policy"] == "linspace"
    assert stored["dataset"]["recipe"] == "webvid"


@pytest.mark.process
def test_a_mixture_goes_on_where_it_was_stopped(root) -> None:
    asked = ["--dataset.mixture", mixture(root), *listed(root)]
    run(root, "mixture", *asked, "--stop_after_steps", "5")
    directory = run(root, "mixture", *asked)
    assert column(directory, "Ledger") == expected_ledger(flags(root, *asked))
    assert json.loads((directory / "config.json").read_text())["dataset"]["recipe"] == "one+two+three"


@pytest.mark.process
def test_a_changed_list_is_refused_on_resume(root) -> None:
    asked = ["--dataset.type", "webvid", *listed(root)]
    run(root, "changed", *asked, "--stop_after_steps", "1")
    whole = (root / "list.json").read_bytes()
    write_list(root / "list.json", json.loads(whole)[1:])
    try:
        done = Training("", root).command("pretrain", *flags(root, *asked, "--run_id", "changed"))
    finally:
        (root / "list.json").write_bytes(whole)
    assert done.returncode == 2
    assert "the data set changed since" in done.stderr
    assert "list.json" in done.stderr
