"""What checkpoints and the engine lean on in DeepSpeed, so that another version is noticed, not trusted."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from weave_train import engine

MEASURED = {"0.19.8"}
WHAT_TO_DO = (
    "read engine/engine.py against the new source, run tests/train_checkpoint/test_elastic.py and "
    "tests/train_engine with their slow cases, then add the version here and pin it"
)

PACKAGE = {"init_distributed", "initialize", "ops", "utils"}
MODULES = {"ops": {"__compatible_ops__"}, "utils": {"safe_get_local_grad"}}
ENGINE = {
    "backward",
    "get_global_grad_norm",
    "module",
    "optimizer",
    "set_gradient_accumulation_boundary",
    "step",
    "was_step_applied",
    "zero_grad",
}
ZERO_1_2 = {"_lazy_init_hp_params_optimizer_state", "param_groups", "update_lp_params"}
ZERO_3 = {
    "_get_fp32_opt_state_partition",
    "fp32_partitioned_groups_flat",
    "param_groups",
    "persistent_parameters",
}
OPTIMIZERS = {
    "zero.stage_1_and_2.DeepSpeedZeroOptimizer": ZERO_1_2,
    "bf16_optimizer.BF16_Optimizer": ZERO_1_2,
    "zero.stage3.DeepSpeedZeroOptimizer_Stage3": ZERO_3,
}
PARAMETER = {
    "zero.partition_parameters": {"all_gather", "ds_numel", "ds_shape", "ds_tensor", "partition"},
    "utils.mixed_precision_linkage": {"_hp_mapping", "_index_in_param_group"},
}
FRAGMENT = {"get_lp_grad_fragment", "get_optim_state_fragment", "hp_fragment", "lp_fragment_address"}
ADDRESS = {"numel", "start"}

# how the code writes what it reaches into
PATTERNS = {
    "package": (
        r"\bdeepspeed\.(\w+)\(",
        r"\b(?:from|import) deepspeed\.(\w+)",
        r"\bfrom deepspeed import (\w+)",
    ),
    "modules": (r"\bvars\(ops\)\.setdefault\(\"(\w+)\"", r"from deepspeed\.utils import (\w+)"),
    "engine": (r"\bself\._engine\.(\w+)",),
    "optimizer": (r"\b_?optimizer\.(\w+)", r"\bgetattr\(optimizer, \"(\w+)\""),
    "parameter": (
        r"\b(?:parameter|resident\[0\])\.(_\w+|ds_\w+|partition|all_gather)",
        r"getattr\(\w+, \"(ds_\w+)\"",
    ),
    "fragment": (r"_mapping\(parameter\)\.(\w+)", r"\bmapping\.(\w+)"),
    "address": (r"\baddress\.(\w+)",),
}
LISTED = {
    "package": PACKAGE,
    "modules": set.union(*MODULES.values()),
    "engine": ENGINE,
    "optimizer": set.union(*OPTIMIZERS.values()),
    "parameter": set.union(*PARAMETER.values()),
    "fragment": FRAGMENT,
    "address": ADDRESS,
}


def code() -> str:
    """Of the engine, and of the FLOP counter, which asks parameters for their whole shapes."""
    folder = Path(engine.__file__).parent
    return "\n".join(
        path.read_text(encoding="utf-8")
        for path in [*sorted(folder.glob("*.py")), folder.parent / "numbers" / "flops.py"]
    )


@pytest.mark.parametrize("kind", PATTERNS)
def test_the_list_is_what_our_code_reaches_into(kind: str) -> None:
    text = code()
    used = {name for pattern in PATTERNS[kind] for name in re.findall(pattern, text)}
    assert used == LISTED[kind]


def test_this_version_of_deepspeed_was_measured() -> None:
    version = importlib.metadata.version("deepspeed")
    assert version in MEASURED, f"DeepSpeed {version} was never measured: {WHAT_TO_DO}"


@pytest.fixture
def deepspeed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(os.environ, "DS_ACCELERATOR", "cpu")
    return import_module("deepspeed")


def absent(owner: Any, names: Iterable[str]) -> list[str]:
    """Those that are neither set in the source of a class or module nor an attribute of it."""
    source = inspect.getsource(owner)
    return [
        f"{owner.__name__}.{name}"
        for name in sorted(names)
        if not re.search(rf"(\.{name}|\[['\"]{name}['\"]\]) = ", source) and not hasattr(owner, name)
    ]


@pytest.mark.process  # importing DeepSpeed costs seconds
def test_deepspeed_has_what_the_engine_reaches_into(deepspeed: Any) -> None:
    runtime = import_module("deepspeed.runtime.engine")
    missing = absent(deepspeed, PACKAGE) + absent(runtime.DeepSpeedEngine, ENGINE)
    for name, names in MODULES.items():
        missing += absent(import_module(f"deepspeed.{name}"), names)
    for path, names in OPTIMIZERS.items():
        module, _, owner = path.rpartition(".")
        missing += absent(getattr(import_module(f"deepspeed.runtime.{module}"), owner), names)
    for path, names in PARAMETER.items():
        place = path if path.startswith("utils.") else f"runtime.{path}"
        missing += absent(import_module(f"deepspeed.{place}"), names)
    assert not missing, f"gone: {missing}; {WHAT_TO_DO}"
    assert re.search(r"def backward\([^)]*scale_wrt_gas", inspect.getsource(runtime)), WHAT_TO_DO  # decorated


@pytest.mark.process
def test_fragments_know_where_they_lie(deepspeed: Any) -> None:
    fragments = import_module("deepspeed.utils.tensor_fragment")
    assert set(fragments.fragment_address.__dataclass_fields__) >= ADDRESS, WHAT_TO_DO
    fields = set(fragments.tensor_fragment.__dataclass_fields__)
    assert not absent(fragments.tensor_fragment, FRAGMENT - fields), WHAT_TO_DO
