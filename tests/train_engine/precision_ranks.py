"""Started by tests on every rank: steps of tiny models whose numbers break, or are narrow, or averaged.

    python precision_ranks.py CASES.json DIRECTORY

Writes DIRECTORY/<case>-<rank>.json, and the rank's weights and states after the last step as
`name[start:stop]` and `state/name[start:stop]` to DIRECTORY/<case>-<rank>.safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from step_ranks import Cell, build, make_rows, settings_of

from weave_train.engine.engine import TrainEngine, init_process_group, leave_process_group
from weave_train.launch import Launch, detect_launch
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.batch import Batch
from weave_train.train.nonfinite import NonFiniteError
from weave_train.train.objective import micro_batches, take_step


@dataclass(frozen=True)
class Case:
    """`faults`: [step, sample id, kind]; what a kind does is in `Fault`. `rates`: of each step."""

    name: str
    zero: int
    rank_rows: list[list[int]]
    rates: list[float]
    num_micro_steps: int = 2
    precision: str = "fp32"
    offload: bool = False
    faults: list[list[Any]] = field(default_factory=list)
    engine: dict[str, Any] = field(default_factory=dict)


class Fault:
    """Breaks what a sample's micro-batch computes.

    activation      the projector's output is infinite
    gradient        it is finite, its gradient is not
    loss            the loss is infinite, its gradients are finite
    once            as `gradient`, and is gone when the step is repeated
    """

    def __init__(self, vlm: VideoLanguageModel, engine: TrainEngine, faults: list[list[Any]]) -> None:
        self._faults = [tuple(fault) for fault in faults]
        self._kind: str | None = None
        self._loss_sum = engine.loss_sum
        self.step = 0
        engine.loss_sum = self.loss_sum  # type: ignore[method-assign]
        vlm.core.projector.register_forward_hook(self._break_output)

    def loss_sum(self, features: torch.Tensor | None, batch: Batch) -> torch.Tensor:
        found = [fault for fault in self._faults if fault[0] == self.step and fault[1] in batch.sample_ids]
        self._kind = found[0][2] if found else None
        if self._kind == "once":
            self._faults.remove(found[0])
        loss = self._loss_sum(features, batch)
        return loss + math.inf if self._kind == "loss" else loss

    def _break_output(self, _module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        if self._kind == "activation":
            return output + math.inf
        if self._kind in ("gradient", "once"):
            output = output.clone()
            output.register_hook(lambda gradient: gradient * math.nan)
        return output


def held(engine: TrainEngine) -> dict[str, torch.Tensor]:
    """Weights and states of this rank, copied."""
    return {
        f"{prefix}{part.name}[{part.start}:{part.stop}]": tensor.detach().clone().contiguous()
        for part in engine.fragments()
        for prefix, tensor in (("", part.weight), *((f"{key}/", part.states[key]) for key in part.states))
    }


def digest(engine: TrainEngine) -> str:
    values = {**held(engine), **{f"computes/{name}": value for name, value in compute_weights(engine)}}
    text = hashlib.sha256(str(engine.adam_step).encode())
    for name, value in sorted(values.items()):
        text.update(name.encode() + value.float().numpy().tobytes())
    return text.hexdigest()


def compute_weights(engine: TrainEngine) -> list[tuple[str, torch.Tensor]]:
    """What forward passes use, as far as it lies here between steps."""
    module = engine._engine.module
    return [(name, getattr(value, "ds_tensor", value).data) for name, value in module.named_parameters()]


def run_case(case: Case, launch: Launch, directory: Path) -> None:
    cell = Cell(
        case.name,
        "finetune",
        case.zero,
        case.rank_rows,
        num_micro_steps=case.num_micro_steps,
        precision=case.precision,
        offload=case.offload,
    )
    vlm = build("finetune", case.precision)
    rows = make_rows(vlm)
    engine = TrainEngine(vlm.core, replace(settings_of(cell), **case.engine), launch)
    fault = Fault(vlm, engine, case.faults)
    first = held(engine)
    mine = [rows[index] for index in case.rank_rows[launch.rank]]
    batches = micro_batches(mine, micro_rows=2, num_micro_steps=case.num_micro_steps, vlm=vlm)
    supervised = sum(rows[index].num_supervised for part in case.rank_rows for index in part)
    steps, gradients = [], {}
    for step, rate in enumerate(case.rates):
        fault.step = step
        before = digest(engine)
        values: dict[str, Any] = {"reason": "", "adam_step": engine.adam_step}
        seen: list[bool] = []
        update = engine.step

        def look_and_step(
            rate: float, update: Any = update, seen: list[bool] = seen, step: int = step
        ) -> float:
            norms = engine.module_norms()
            if step == 0:
                gradients.update((name, value.detach().clone()) for name, _, _, value in engine.gradients())
            norm: float = update(rate)
            seen.append(engine.was_skipped == (not all(math.isfinite(value) for value in norms.values())))
            return norm

        engine.step = look_and_step  # type: ignore[method-assign]
        try:
            outcome = take_step(
                engine, vlm, batches, supervised_tokens=supervised, learning_rate=rate, launch=launch
            )
            values["loss"] = outcome.loss
        except NonFiniteError as error:
            values["reason"] = str(error)
        engine.step = update  # type: ignore[method-assign]
        values |= {"as_deepspeed": all(seen), "is_unmoved": digest(engine) == before}
        steps.append(values)
    last = held(engine)
    moved = [(last[name] != value).float() for name, value in first.items() if "/" not in name]
    result = {
        "steps": steps,
        "digest": digest(engine),
        "moved": float(torch.cat(moved).mean()),
        "adam_step": engine.adam_step,
        "bf16_gradients": all(
            torch.equal(value.float(), value.bfloat16().float()) for value in gradients.values()
        ),
        "dtypes": sorted({str(value.dtype) for value in last.values()}),
        "averaged_loss": averaged_loss(engine, vlm, batches, launch) / supervised,
    }
    assert result["digest"] == digest(engine)  # the weights are back as they were
    save_file(last, directory / f"{case.name}-{launch.rank}.safetensors")
    (directory / f"{case.name}-{launch.rank}.json").write_text(json.dumps(result))


@torch.no_grad()
def averaged_loss(
    engine: TrainEngine, vlm: VideoLanguageModel, batches: list[Batch], launch: Launch
) -> float:
    """Summed over all ranks, with the averaged weights."""
    with engine.averaged_weights():
        total = sum(engine.loss_sum(vlm.frozen_features(batch), batch).double() for batch in batches)
    assert isinstance(total, torch.Tensor)
    if launch.world_size > 1:
        torch.distributed.all_reduce(total)
    return float(total)


def main() -> None:
    cases = [Case(**values) for values in json.loads(Path(sys.argv[1]).read_text())]
    launch = detect_launch()
    init_process_group(launch)
    for case in cases:
        run_case(case, launch, Path(sys.argv[2]))
    leave_process_group()


if __name__ == "__main__":
    main()
