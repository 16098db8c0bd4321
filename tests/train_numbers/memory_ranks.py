"""One rank of a group that counts the bytes its engine holds, cell by cell.

    python memory_ranks.py CELLS.json OUT_DIRECTORY

Counted after a step's last backward, when gradients are there and activations are gone: the storage of
every tensor of this process that was not there before the model was built, each storage once. Beside it
what the model says, from the same settings, before an engine takes it.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_train.config import ModelSettings
from weave_train.engine.deepspeed_config import EngineSettings, zero_section
from weave_train.engine.engine import TrainEngine, init_process_group, leave_process_group
from weave_train.engine.model_states import model_states
from weave_train.engine.stages import apply_stage
from weave_train.launch import Launch, detect_launch
from weave_train.models.model import build_model
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.rows.batch import make_row
from weave_train.train.objective import micro_batches, take_step


def engine_settings(cell: dict[str, Any]) -> EngineSettings:
    section = zero_section(cell["zero"])
    if cell["zero"] == 3:
        # as in a large model, nearly nothing stays gathered
        section |= {"stage3_param_persistence_threshold": 0}
    if cell.get("offload"):
        section |= {name: {"device": "cpu"} for name in ("offload_optimizer", "offload_param")}
    return EngineSettings(
        zero_stage=cell["zero"],
        precision=cell["precision"],
        micro_batch_rows=2,
        micro_steps=2,
        max_grad_norm=1.0,
        weight_decay=0.1,
        master_weights=cell.get("master", "fp32"),
        reduce_in_full_precision=cell.get("reduce", True),
        extra={"zero_optimization": section},
    )


def storages() -> dict[int, int]:
    """Bytes of every live storage by its address."""
    gc.collect()
    found: dict[int, int] = {}

    def add(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.nbytes():
            found[storage.data_ptr()] = storage.nbytes()

    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            add(thing)
            if thing.is_leaf and thing.grad is not None:
                add(thing.grad)
    return found


def count(cell: dict[str, Any], launch: Launch) -> dict[str, Any]:
    before = storages()
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    settings = ModelSettings(precision=cell["precision"], llm_max_length=128)
    vlm = build_model(settings, tokenizer, trains_vision=cell["stage"] == "full-finetune")
    apply_stage(vlm, cell["stage"])
    states = model_states(vlm.core, engine_settings(cell), world_size=launch.world_size)
    tower = sum(value.nbytes for value in vlm.tower.parameters()) if vlm.core.vision is None else 0
    engine = TrainEngine(vlm.core, engine_settings(cell), launch)
    rows = [
        make_row(
            woven_row(str(index), [jpeg((90, 20 * index, 200))], CAPTIONS[index]),
            tokenizer=tokenizer,
            settings=settings,
        )
        for index in range(4)
    ]
    supervised = 2 * sum(row.num_supervised for row in rows)
    held = {}
    update = engine.step

    def step(rate: float) -> float:
        now = storages()
        held.update({at: size for at, size in now.items() if at not in before})
        return update(rate)

    engine.step = step  # type: ignore[method-assign]
    take_step(
        engine,
        vlm,
        micro_batches(rows, micro_rows=2, num_micro_steps=2, vlm=vlm),
        supervised_tokens=supervised,
        learning_rate=1e-3,
        launch=launch,
    )
    return {
        "held": sum(held.values()),
        "tower": tower,
        "states": dataclasses.asdict(states),
        "kept": states.kept,
    }


def main() -> None:
    cells = json.loads(Path(sys.argv[1]).read_text())
    launch = detect_launch()
    init_process_group(launch)
    for cell in cells:
        result = count(cell, launch)
        (Path(sys.argv[2]) / f"{cell['name']}-{launch.rank}.json").write_text(json.dumps(result))
    leave_process_group()


if __name__ == "__main__":
    main()
