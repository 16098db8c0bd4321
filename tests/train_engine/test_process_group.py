"""Ranks meet once, with the time-out they were told, and nothing is compiled for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import torch

from weave_train.engine.engine import init_process_group
from weave_train.launch import Launch


def test_collectives_time_out_when_they_are_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    import deepspeed

    told: dict[str, Any] = {}
    monkeypatch.setattr(deepspeed, "init_distributed", lambda **values: told.update(values))
    launch = Launch(rank=1, world_size=2, local_rank=1, device=torch.device("cpu"))
    init_process_group(launch, timeout_seconds=12.5)
    assert told["timeout"] == timedelta(seconds=12.5)
    assert (told["dist_backend"], told["rank"], told["world_size"]) == ("gloo", 1, 2)


def test_no_compiler_is_tried_when_ranks_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    import deepspeed
    from deepspeed import ops

    def probe() -> None:
        raise AssertionError("DeepSpeed asks which of its ops can be compiled")

    monkeypatch.setattr(deepspeed, "init_distributed", lambda **_: None)
    monkeypatch.setattr(ops, "_probe_compatible_ops", probe)
    monkeypatch.delitem(vars(ops), "__compatible_ops__", raising=False)
    init_process_group(Launch(rank=0, world_size=1, local_rank=0, device=torch.device("cpu")))
    assert ops.__compatible_ops__ == {"deepspeed_shm_comm": False}
