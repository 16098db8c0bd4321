"""The curve, the progress line, W&B, and all of them together."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from step_reports import make_report

from weave_data.errors import DeviceError
from weave_train.config import PretrainConfig, load_pretrain_config
from weave_train.numbers import (
    JsonlTracker,
    LossCurve,
    ProgressLine,
    StepReport,
    ValidationReport,
    WandbTracker,
    open_trackers,
    read_metrics,
)


def write_lines(run_dir: Path, *reports: StepReport) -> None:
    tracker = JsonlTracker(run_dir, stage="finetune", start_step=0)
    for report in reports:
        tracker.on_step(report)
    tracker.close()


def curve(run_dir: Path) -> Any:
    LossCurve(run_dir, stage="finetune").close()
    return matplotlib.image.imread(run_dir / "loss.png")


def test_the_curve_is_drawn_when_there_is_one(tmp_path: Path) -> None:
    LossCurve(tmp_path, stage="finetune").close()
    assert not (tmp_path / "loss.png").exists()
    write_lines(tmp_path, make_report(1), make_report(2))
    assert curve(tmp_path).shape == (480, 840, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "metrics.jsonl"]


def test_the_curve_shows_validation_points(tmp_path: Path) -> None:
    reports = [make_report(step, loss=3.0 - step / 50) for step in range(1, 101)]
    write_lines(tmp_path, *reports)
    without = curve(tmp_path)
    reports[49] = make_report(50, loss=2.0, validation=ValidationReport(2.2, 10, 2))
    write_lines(tmp_path, *reports)
    assert (curve(tmp_path) != without).any()


def test_a_validation_pass_redraws_the_curve_at_once(tmp_path: Path) -> None:
    write_lines(tmp_path, make_report(1))
    hook = LossCurve(tmp_path, stage="finetune")
    hook.on_step(make_report(1))
    assert not (tmp_path / "loss.png").exists()
    hook.on_step(make_report(1, validation=ValidationReport(2.2, 10, 2)))
    assert (tmp_path / "loss.png").exists()


def test_progress_on_a_terminal_is_a_bar_with_loss_speed_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "140"}.items():
        monkeypatch.setenv(name, value)
    line = ProgressLine(start_step=0, num_steps=10)
    line.on_step(make_report(4, mfu=0.413))
    line.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err).splitlines()[-1].strip()
    assert re.fullmatch(r"train .* 4/10 +loss 2\.000  1600 tokens/s  MFU 41\.3% +[-:0-9]+", shown), shown


def test_progress_without_a_terminal_prints_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(start_step=0, num_steps=100)
    for step in range(1, 21):
        line.on_step(make_report(step))
    line.on_step(
        make_report(
            21, mfu=0.413, data_wait_seconds=0.125, validation=ValidationReport(1.5, 10, 2), was_skipped=True
        )
    )
    line.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [text for text in shown.err.splitlines() if text.startswith("step ")] == [
        "step 10/10  loss 2.0000  1600 tokens/s",
        "step 20/10  loss 2.0000  1600 tokens/s",
        "step 21/10  loss 2.0000  validation 1.5000  1600 tokens/s  MFU 41.3%  waits for rows 50%  skipped",
    ]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """W&B without a network, all of its files below one directory; the run directory."""
    pytest.importorskip("wandb")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    run_dir = tmp_path / "run-7"
    run_dir.mkdir()
    return run_dir


def journal(path: Path) -> Iterator[bytes]:
    """Records of a `.wandb` file: LevelDB's log format behind a header of seven bytes."""
    data, offset, parts = path.read_bytes(), 7, []
    while offset + 7 <= len(data):
        left_in_block = 32768 - offset % 32768
        if left_in_block < 7:
            offset += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", data, offset + 4)
        parts.append(data[offset + 7 : offset + 7 + length])
        offset += 7 + length
        if kind in (1, 4):  # whole, or last of several
            yield b"".join(parts)
            parts = []


def stored(run_dir: Path) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
    """History lines of all offline W&B runs in order, and every record by kind."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its writer ends, as at the end of a process
    history, records = [], defaultdict(list)
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime_ns):
        for data in journal(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            records[kind].append(getattr(record, kind))
            if kind == "history":
                items = record.history.item
                history.append({(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in items})
    return history, records


def wandb_tracker(run_dir: Path, *, start_step: int = 0) -> WandbTracker:
    return WandbTracker(
        run_dir,
        stage="finetune",
        project="weaving",
        entity=None,
        settings={"seed": 7},
        start_step=start_step,
    )


@pytest.mark.process
def test_wandb_offline_stores_every_step_and_a_resumed_run_goes_on_under_its_id(offline: Path) -> None:
    write_lines(offline, make_report(1, loss=1.0), make_report(2, loss=3.0))
    first = wandb_tracker(offline)
    first.on_step(make_report(1, loss=1.0, mfu=0.4))
    first.on_step(make_report(2, loss=3.0, validation=ValidationReport(2.5, 10, 2)))
    first.close(has_failed=True)
    second = wandb_tracker(offline, start_step=2)
    second.on_step(make_report(3, loss=8.0))
    second.close()

    history, records = stored(offline)
    assert [line["Finetune/Step"] for line in history] == [1, 2, 3]
    assert [line["Finetune/Loss"] for line in history] == [1.0, 2.0, 4.0]
    assert history[0]["Finetune/MFU"] == 0.4
    assert "Finetune/MFU" not in history[1]
    assert history[1]["Finetune/Validation Loss"] == 2.5
    runs = records["run"]
    assert {run.run_id for run in runs} == {(offline / "wandb-id.txt").read_text().strip()}
    assert {(run.display_name, run.run_group, run.project) for run in runs} == {
        ("run-7", "finetune", "weaving")
    }
    settings = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert settings["seed"] == 7
    assert [record.exit_code for record in records["exit"]] == [1, 0]


def test_a_missing_wandb_is_an_error_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DeviceError, match=r"pip install 'videoweave\[wandb\]'"):
        wandb_tracker(tmp_path)


@pytest.fixture
def config() -> PretrainConfig:
    return load_pretrain_config([("dataset.manifest", "woven/manifest.json"), ("model.type", "tiny")])


def test_all_trackers_see_every_step_and_are_closed_when_the_run_fails(
    config: PretrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        contextlib.suppress(ZeroDivisionError),
        open_trackers(config, tmp_path, start_step=0, num_steps=10) as tell,
    ):
        tell(make_report(1))
        tell(make_report(2))
        raise ZeroDivisionError
    assert len(read_metrics(tmp_path)) == 2
    assert (tmp_path / "loss.png").exists()
    assert "step 2/10" in capsys.readouterr().err
    with pytest.raises(ValueError, match="closed file"):
        tell(make_report(3))


@pytest.mark.process
def test_trackers_take_wandb_by_name_and_tell_it_that_the_run_failed(
    config: PretrainConfig, offline: Path
) -> None:
    named = config.model_copy(update={"trackers": ["jsonl", "wandb"], "wandb_project": "looms"})
    with (
        contextlib.suppress(ZeroDivisionError),
        open_trackers(named, offline, start_step=0, num_steps=10) as tell,
    ):
        tell(make_report(1))
        raise ZeroDivisionError
    history, records = stored(offline)
    assert [line["Finetune/Step"] for line in history] == [1]
    assert records["run"][0].project == "looms"
    assert [record.exit_code for record in records["exit"]] == [1]
