"""Started by tests on every rank: takes steps of tiny models and writes what happened.

    python step_ranks.py CELLS.json DIRECTORY

All cells run in one process group, which costs seconds to start. A cell names the stage, ZeRO stage and
precision, and which rows each rank has; its gradients before the first update go to
DIRECTORY/<cell>-<rank>.safetensors as `name[start:stop]`, the rest to DIRECTORY/<cell>-<rank>.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_train.config import ModelSettings
from weave_train.engine.deepspeed_config import EngineSettings, zero_section
from weave_train.engine.engine import TrainEngine, init_process_group, leave_process_group
from weave_train.engine.stages import apply_stage
from weave_train.launch import Launch, detect_launch
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.parts import part_of
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.rows.batch import EncodedRow, make_row
from weave_train.train.objective import micro_batches, take_step

RATE = 1e-3
NUM_ROWS = 64


@dataclass(frozen=True)
class Cell:
    """`rank_rows`: rows of each rank by number; every rank takes `num_micro_steps` of `micro_rows` rows."""

    name: str
    stage: str
    zero: int
    rank_rows: list[list[int]]
    micro_rows: int = 2
    num_micro_steps: int = 2
    precision: str = "fp32"
    num_steps: int = 1
    lr_scale: dict[str, float] = field(default_factory=dict)
    offload: bool = False
    recompute: bool = False


def build(stage: str, precision: str = "fp32") -> VideoLanguageModel:
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    settings = ModelSettings(precision=precision, llm_max_length=128)
    vlm = build_model(settings, tokenizer, trains_vision=stage == "full-finetune")
    apply_stage(vlm, stage)
    return vlm


def make_rows(vlm: VideoLanguageModel) -> list[EncodedRow]:
    """Even rows are text only, of unequal lengths; odd ones have 4, 1 or 2 frames."""
    rows = []
    for index in range(NUM_ROWS):
        frames = [0, 4, 0, 1, 0, 2][index % 6]
        shades = [jpeg((40 * k + 3 * index, 200 - 2 * index, 60 + 30 * k)) for k in range(frames)]
        answer = " ".join(CAPTIONS[(index + k) % len(CAPTIONS)] for k in range(1 + index % 3))
        row = woven_row(f"row-{index}", shades, answer)
        rows.append(make_row(row, tokenizer=vlm.tokenizer, settings=vlm.settings))
    return rows


def settings_of(cell: Cell) -> EngineSettings:
    section: dict[str, Any] = zero_section(cell.zero)
    if cell.zero == 3:
        # tiny parameters would stay gathered, and hide what real ones do
        section |= {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 0}
    if cell.offload:
        section |= {name: {"device": "cpu"} for name in ("offload_optimizer", "offload_param")}
    return EngineSettings(
        zero_stage=cell.zero,
        precision=cell.precision,
        micro_batch_rows=cell.micro_rows,
        micro_steps=cell.num_micro_steps,
        max_grad_norm=1.0,
        weight_decay=0.1,
        lr_scale=cell.lr_scale,
        extra={"zero_optimization": section},
    )


def take_steps(cell: Cell, launch: Launch, directory: Path) -> None:
    vlm = build(cell.stage, cell.precision)
    rows = make_rows(vlm)
    initial = {
        name: value.detach().clone().view(-1)
        for name, value in vlm.core.named_parameters()
        if value.requires_grad
    }
    if cell.recompute:
        vlm.core.recompute_activations()
    engine = TrainEngine(vlm.core, settings_of(cell), launch)
    exact = all(
        torch.equal(part.weight, initial[part.name][part.start : part.stop]) for part in engine.fragments()
    )
    gradients: dict[str, torch.Tensor] = {}
    update = engine.step

    def step(rate: float) -> float:
        for name, start, stop, value in engine.gradients() if not gradients else ():
            gradients[f"{name}[{start}:{stop}]"] = value.detach().float().clone()
        return update(rate)

    engine.step = step  # type: ignore[method-assign]
    supervised = sum(rows[index].num_supervised for part in cell.rank_rows for index in part)
    outcomes = []
    for _ in range(cell.num_steps):
        mine = [rows[index] for index in cell.rank_rows[launch.rank]]
        outcome = take_step(
            engine,
            vlm,
            micro_batches(mine, micro_rows=cell.micro_rows, num_micro_steps=cell.num_micro_steps, vlm=vlm),
            supervised_tokens=supervised,
            learning_rate=RATE,
            launch=launch,
            with_module_norms=True,
        )
        outcomes.append(asdict(outcome))
    moved = {
        part_of(part.name)
        for part in engine.fragments()
        if not torch.equal(part.weight, initial[part.name][part.start : part.stop])
    }
    name = f"{cell.name}-{launch.rank}"
    save_file(gradients, directory / f"{name}.safetensors")
    result = {"steps": outcomes, "exact_masters": exact, "moved": sorted(moved), "supervised": supervised}
    (directory / f"{name}.json").write_text(json.dumps(result))


def main() -> None:
    cells = [Cell(**values) for values in json.loads(Path(sys.argv[1]).read_text())]
    launch = detect_launch()
    init_process_group(launch)
    for cell in cells:
        take_steps(cell, launch, Path(sys.argv[2]))
    leave_process_group()


if __name__ == "__main__":
    main()
