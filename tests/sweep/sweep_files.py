"""Sweeps whose cells are written down instead of trained: the very files that runs and evaluations leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from builders import write_woven_dataset

from weave_data.shard import load_manifest
from weave_train.sweep import Cell, Sweep, load_cells
from weave_train.sweep.states import evaluated_at, steps_to_ask

Scored = Callable[[Cell, int, str, str], float | None]
"""Cell, number of a question, mode, score -> its score."""


def plain(root: Path) -> dict[str, Any]:
    """A sweep of two arms and three seeds over a data set that is there."""
    manifest = str(root / "woven" / "l4" / "manifest.json")
    if not Path(manifest).exists():
        assert (
            write_woven_dataset(root / "woven", rows=8, clips_per_sample=2, frames_per_sample=4) == manifest
        )
    return {
        "name": "plain",
        "output": str(root / "out"),
        "train": {"model": {"type": "tiny", "num_frames": 4}, "max_steps": 3, "save_every_steps": 2},
        "arms": {
            "l1": {"recipe": manifest, "axes": {"L": 1, "kind": "woven"}},
            "l4": {"recipe": manifest, "axes": {"L": 4, "kind": "woven"}, "flags": {"max_steps": 4}},
        },
        "seeds": [1, 2, 5],
        "evaluate": [{"task": "questions", "data": str(root / "questions")}],
        "contrasts": [
            {"name": "all", "a": "l4", "b": "l1", "metric": "questions/frames/likelihood"},
            {
                "name": "order", "a": "l4", "b": "l1", "metric": "questions/frames/likelihood",
                "where": {"type": "order"},
            },
        ],
        "bootstrap": {"draws": 500},
        "figure": {"x": "L", "y": "questions/frames/likelihood", "group": "kind"},
    }  # fmt: skip


def write_sweep(root: Path, values: Mapping[str, Any]) -> Path:
    path = root / "sweep.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    return path


def load(root: Path, values: Mapping[str, Any]) -> Sweep:
    return load_cells(write_sweep(root, values))


def pretend_trained(cell: Cell, *, steps: tuple[int, ...] = (2, 3), num_steps: int | None = None) -> None:
    """Leave what a run leaves that saved at these steps."""
    for stage in cell.stages:
        stage.run_dir.mkdir(parents=True, exist_ok=True)
        assert stage.config.dataset.manifest is not None
        dataset = {"fingerprint": load_manifest(stage.config.dataset.manifest).fingerprint}
        config = {"pretrain": stage.config.model_dump(mode="json"), "dataset": dataset}
        (stage.run_dir / "config.json").write_text(json.dumps(config))
        lines = [
            {
                f"Finetune/{name}": value
                for name, value in {
                    "Step": step, "Samples": 8, "Tokens": 800, "Supervised Tokens": 100, "Model TFLOP": 0.5,
                    "Loss (Raw)": 6.0 / step,
                }.items()
            }
            for step in range(1, steps[-1] + 1)
        ]  # fmt: skip
        (stage.run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for step in steps:
            complete = stage.run_dir / "checkpoints" / f"step-{step:06d}" / "complete.json"
            complete.parent.mkdir(parents=True, exist_ok=True)
            values = {
                "version": 2, "step": step, "shapes": {}, "pieces": [], "frozen": {}, "world_size": 1,
                "state": {"step": step, "num_steps": num_steps or steps[-1]},
            }  # fmt: skip
            complete.write_text(json.dumps(values))


def pretend_answered(
    cell: Cell, scored: Scored, *, num_questions: int = 40, question_files: Mapping[str, str] | None = None
) -> None:
    """Leave what an evaluation leaves: two questions a video, one about order and one about colour."""
    for entry in cell.evaluations:
        for step in steps_to_ask(cell, entry):
            asked = evaluated_at(cell, entry, step)
            asked.results.mkdir(parents=True, exist_ok=True)
            rows = []
            for mode in ("frames", "blind"):
                for number in range(num_questions):
                    score = scored(cell, number, mode, "likelihood")
                    rows.append(
                        {
                            "id": f"q{number:03d}",
                            "mode": mode,
                            "video": f"v{number // 2:03d}.mp4",
                            "scores": {"likelihood": score} if score is not None else None,
                            "tags": {"type": "order" if number % 2 else "colour", "set": "two words"},
                            "problem": None if score is not None else "unreadable",
                        }
                    )
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (asked.results / "answers.jsonl").write_text(text)
            summary = {"modes": {"frames": {"scores": {"cider": {"mean": 0.25, "low": 0.1, "high": 0.3}}}}}
            values = {**summary, "question_files": question_files or {}}
            (asked.results / "results.json").write_text(json.dumps(values))
            asked.note_done()
