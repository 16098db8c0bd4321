"""Started by a test: trains in one process, then compares with plain torch and with the stored run.

Prints one JSON object. Arguments: flags of `weave-train pretrain`.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import torch

from weave_data.errors import WeaveError
from weave_train import load
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags
from weave_train.launch import detect_launch
from weave_train.rows.batch import collate
from weave_train.train.loop import train_step
from weave_train.train.prepare import PreparedRun, prepare_run
from weave_train.train.saving import save_run


def plain_step(run: PreparedRun, core: torch.nn.Module) -> tuple[float, float]:
    """Loss per token and gradient norm of the whole batch at once, without an engine."""
    rows = run.feed.batch(run.step)
    batch = collate(rows, pad_id=run.vlm.tokenizer.pad_token_id)
    loss = core(run.vlm.encode(batch.pixels), batch) / batch.num_supervised
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(core.parameters(), float("inf"))
    return float(loss.detach()), float(norm)


def answers(vlm: Any, run: PreparedRun) -> list[str]:
    """What the model says about three training rows."""
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", "Describe what is happening in the video.")
    return [
        vlm.generate(row.pixels.permute(0, 2, 3, 1).numpy(), builder.get_prompt(), max_new_tokens=24)
        for row in run.feed.batch(0)[:3]
    ]


def main() -> None:
    config = load_pretrain_config(parse_flags(sys.argv[1:], model=PretrainConfig))
    run = prepare_run(config, detect_launch())
    expected = plain_step(run, copy.deepcopy(run.vlm.core))
    reports = [train_step(run)[0] for _ in range(run.num_steps)]
    save_run(run)
    run.writer.finish()
    before = answers(run.vlm, run)
    with torch.no_grad():
        next(run.vlm.tower.parameters()).add_(1.0)
    run.step += 1
    try:
        save_run(run)
        moved = "saved"
    except WeaveError as error:
        moved = str(error)
    values = {
        "expected": expected,
        "taken": [reports[0].loss, reports[0].grad_norm],
        "last_loss": reports[-1].loss,
        "before": before,
        "after": answers(load(run.run_dir, device="cpu"), run),
        "moved": moved,
    }
    run.feed.close()
    run.writer.close()
    sys.stdout.write("RESULT " + json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
