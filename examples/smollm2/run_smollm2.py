"""`make demo-smollm2`: whether a real language model learns to see within 200 steps of batch 4.

    weights -> tower on single frames -> render -> build -> train -> ask about held-out clips -> look

SmolLM2-135M-Instruct is shown one rendered clip a sample: its first and its last frame, 4 visual tokens each,
from a small tower that was trained on single frames and is frozen. The projector and adapters (LoRA) in its
attention are trained. The clips are those of `make demo`, with captions of their own (`crossing.py`): where
the shape comes from and where it goes. Single frames show these places; their order is the direction.

The looking-table and its controls are the demo's, with one more: frames in reverse order, which show the same
places and the opposite direction. The exit code is 1 when the model did not look.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

from crossing import crossing_caption, parse_crossing  # noqa: E402
from looking import Answered, Looking, Question, ask, look, table_rows  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402
from run_demo import ROOT, heldout_questions, run  # noqa: E402
from single_frame_tower import train_tower  # noqa: E402
from smollm2_weights import write_smollm2  # noqa: E402
from world import render_world  # noqa: E402

PROMPT = "Describe what is happening in the video."
CONFIG = Path("examples/smollm2/clips.yaml")
LEAST_COLOUR, LEAST_DIRECTION = 0.5, 0.45
"""Shares of held-out clips that show the model looked; chance is .17 and .25."""

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Learning:
    """Sizes, and places relative to the repository's root."""

    work_dir: Path = Path("build/smollm2")
    num_clips: int = 800
    num_heldout: int = 64
    num_steps: int = 200
    num_tower_steps: int = 3000
    seed: int = 7

    @property
    def weights(self) -> Path:
        """SmolLM2 as transformers loads it."""
        return self.work_dir / "language-model"

    @property
    def tower(self) -> Path:
        """The vision tower's weights."""
        return self.work_dir / "tower.safetensors"

    @property
    def run_dir(self) -> Path:
        """The trained model."""
        return self.work_dir / "runs" / "smollm2"


def main() -> int:
    learning = _parse_arguments()
    os.chdir(ROOT)
    try:
        write_smollm2(learning.weights)
    except FileNotFoundError as error:
        console.print(f"error: {error}", style="bold red")
        return 2
    train_tower(learning.tower, seed=learning.seed, num_steps=learning.num_tower_steps, console=console)
    render_and_build(learning)
    run("weave-train", "pretrain", *train_flags(learning))
    questions = heldout_questions(learning.work_dir / "heldout", recipe="l1")
    answered, backwards = ask_heldout(learning.run_dir, questions)
    looking = look(answered, read=parse_crossing)
    print_looking(looking, backwards=look(backwards, read=parse_crossing), example=answered[0])
    found = problems(looking)
    for problem in found:
        console.print(problem, style="bold red")
    return 1 if found else 0


def _parse_arguments() -> Learning:
    parser = argparse.ArgumentParser(description="SmolLM2-135M learns to name what moves where.")
    parser.add_argument("--work-dir", type=Path, default=Learning.work_dir)
    parser.add_argument("--clips", type=int, default=Learning.num_clips)
    parser.add_argument("--heldout", type=int, default=Learning.num_heldout)
    parser.add_argument("--steps", type=int, default=Learning.num_steps)
    parser.add_argument("--tower-steps", type=int, default=Learning.num_tower_steps)
    parser.add_argument("--seed", type=int, default=Learning.seed)
    asked = parser.parse_args()
    return Learning(asked.work_dir, asked.clips, asked.heldout, asked.steps, asked.tower_steps, asked.seed)


def render_and_build(learning: Learning) -> None:
    """Render training and held-out clips and build both with one configuration."""
    for split, num_clips in (("train", learning.num_clips), ("heldout", learning.num_heldout)):
        source = learning.work_dir / "world" / split
        render_world(source, num_clips=num_clips, seed=learning.seed, split=split, caption=crossing_caption)
        run(
            "weave-data",
            "build",
            CONFIG,
            f"source.catalog={source / 'clips.csv'}",
            f"source.videos={source / 'videos'}",
            f"output={learning.work_dir / split}",
        )


def train_flags(learning: Learning) -> list[str]:
    """Flags of `weave-train pretrain`: at most 64 visual tokens, batches of 4."""
    flags = {
        "--model.type": "tiny",  # a frozen tower, 32 px in patches of 16
        "--model.vision_weights": learning.tower,
        "--model.llm_backbone_id": f"hf:{learning.weights}",
        "--model.num_frames": 2,
        "--dataset.manifest": learning.work_dir / "train" / "l1" / "manifest.json",
        "--lora.rank": 16,
        "--lora.alpha": 32,
        "--lora.targets": "[q_proj, k_proj, v_proj, o_proj]",
        "--model.finetune_global_batch_size": 4,
        "--model.finetune_per_device_batch_size": 4,
        "--model.finetune_learning_rate": 2e-3,
        "--model.finetune_warmup_ratio": 0.1,
        "--max_steps": learning.num_steps,
        "--save_every_steps": learning.num_steps,
        "--seed": learning.seed,
        "--run_root_dir": learning.run_dir.parent,
        "--run_id": learning.run_dir.name,
    }
    return [str(word) for flag in flags.items() for word in flag]


def ask_heldout(
    run_dir: Path, questions: Sequence[Question]
) -> tuple[tuple[Answered, ...], tuple[Answered, ...]]:
    """Ask the trained model about every held-out clip, in the prompt it was trained with.

    Returns:
        Answers to the frames as they are, and to the frames in reverse order.
    """
    from weave_train import load

    vlm = load(run_dir)
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", PROMPT)
    prompt = builder.get_prompt()

    def describe(frames: tuple[bytes, ...]) -> str:
        return str(vlm.generate(list(frames), prompt, do_sample=False, max_new_tokens=24))

    def describe_reversed(frames: tuple[bytes, ...]) -> str:
        return describe(frames[::-1])

    return (
        ask(track(questions, description="held-out clips", console=console), describe=describe),
        ask(track(questions, description="frames reversed", console=console), describe=describe_reversed),
    )


def print_looking(looking: Looking, *, backwards: Looking, example: Answered) -> None:
    """Print the looking-table with the reversed frames' row, and one answer beside its truth."""
    table = Table("did it look?", "colour", "direction", "mean")
    own, exchanged, chance = table_rows(looking)
    reversed_row = ("the same, frames reversed", *table_rows(backwards)[0][1:])
    for row in (own, exchanged, reversed_row, chance):
        table.add_row(*row)
    console.print(table)
    console.print(f"truth   {example.question.captions[0]}\nanswer  {example.answer.strip()}")


def problems(looking: Looking) -> list[str]:
    """Say of colour and of direction that it was not seen; empty when both were."""
    limits = {"colour": LEAST_COLOUR, "direction": LEAST_DIRECTION}
    found = []
    for name, least in limits.items():
        seen, exchanged = getattr(looking.seen, name), getattr(looking.exchanged, name)
        if not seen >= least:
            found.append(f"{name}: {seen:.2f} of the clips are right, under {least:.2f}: it did not look")
        elif not exchanged <= seen / 2:
            found.append(f"{name}: {exchanged:.2f} right with exchanged frames, {seen:.2f} with its own")
    return found


if __name__ == "__main__":
    sys.exit(main())
