"""What checkpoints and the engine lean on in DeepSpeed, so that another version is noticed, not trusted."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import re
from importlib import import_module

import pytest

pytestmark = pytest.mark.process  # importing DeepSpeed costs seconds

MEASURED = {"0.19.8"}
WHAT_TO_DO = (
    "read engine/engine.py against the new source, run tests/train_checkpoint/test_elastic.py and "
    "tests/train_engine with their slow cases, then add the version here and pin it"
)


def test_this_version_of_deepspeed_was_measured() -> None:
    version = importlib.metadata.version("deepspeed")
    assert version in MEASURED, f"DeepSpeed {version} was never measured: {WHAT_TO_DO}"


def test_deepspeed_has_what_the_engine_reaches_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "DS_ACCELERATOR", "cpu")
    from deepspeed import utils
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
    from deepspeed.runtime.engine import DeepSpeedEngine
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    expected = {
        DeepSpeedEngine: ["set_gradient_accumulation_boundary", "get_global_grad_norm", "backward", "step"],
        DeepSpeedZeroOptimizer: ["update_lp_params", "_lazy_init_hp_params_optimizer_state"],
        BF16_Optimizer: ["update_lp_params", "_lazy_init_hp_params_optimizer_state"],
        utils: ["safe_get_local_fp32_param", "safe_get_local_optimizer_state"],
    }
    missing = [
        f"{owner.__name__}.{name}"
        for owner, names in expected.items()
        for name in names
        if not hasattr(owner, name)
    ]
    assert not missing, f"gone: {missing}; {WHAT_TO_DO}"
    engine = inspect.getsource(import_module("deepspeed.runtime.engine"))
    assert re.search(r"def backward\([^)]*scale_wrt_gas", engine), WHAT_TO_DO
    stage3 = inspect.getsource(DeepSpeedZeroOptimizer_Stage3.__init__)
    for attribute in ("fp32_partitioned_groups_flat", "persistent_parameters"):
        assert f"self.{attribute} = " in stage3, f"{attribute} is gone; {WHAT_TO_DO}"


def test_fragments_know_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "DS_ACCELERATOR", "cpu")
    tensor_fragment = import_module("deepspeed.utils.tensor_fragment")
    fields = set(tensor_fragment.fragment_address.__dataclass_fields__)
    assert {"numel", "start"} <= fields, WHAT_TO_DO
    mapping = set(tensor_fragment.tensor_fragment.__dataclass_fields__)
    assert {"lp_fragment_address", "hp_fragment"} <= mapping, WHAT_TO_DO
    assert hasattr(tensor_fragment.tensor_fragment, "get_optim_state_fragment"), WHAT_TO_DO
