"""What a run writes is there whole, or the file before it is; a disk that is full is one line."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import pytest

from weave_data.errors import StoreError
from weave_train.numbers.metrics import JsonlTracker
from weave_train.numbers.step_report import StepReport
from weave_train.whole_files import write_whole


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "run" / "config.json"
    write_whole(path, "first")
    write_whole(path, b"second")
    assert path.read_text() == "second"
    assert [each.name for each in path.parent.iterdir()] == ["config.json"]


def test_a_disk_that_is_full_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    write_whole(path, "first")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"config\.json: No space left on device; correct the disk"):
        write_whole(path, "second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
def test_metrics_on_a_full_disk_end_a_run_in_one_line(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path, stage="finetune", start_step=0)
    tracker._file.close()
    with Path("/dev/full").open("w", encoding="utf-8") as tracker._file:
        with pytest.raises(StoreError, match=r"metrics\.jsonl: No space left on device"):
            tracker.on_step(report())
        tracker.close(has_failed=True)


def report() -> StepReport:
    fields = dict.fromkeys(StepReport.__dataclass_fields__, 0)
    return StepReport(**{**fields, "loss": math.nan, "module_norms": {}, "validation": None})  # type: ignore[arg-type]
