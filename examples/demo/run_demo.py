"""`make demo`: the main job, whole, on this machine alone.

    render -> build (two recipes) -> verify -> train, stop, resume -> ask about held-out clips -> look

Every step but the first and the last is the command a user would type; it is printed before it
runs. The exit code is 1 when the looking-table shows that the model did not look.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import real_clips
from layout import PROMPT, Demo
from looking import Answered, Question, ask, look
from report import print_report
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from world import render_world

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path("examples/demo")
LEAST_SEEN, MOST_EXCHANGED = 0.5, 0.35
"""Limits on the mean of colour and direction; chance is 0.21."""

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    demo, is_kept = _parse_arguments()
    os.chdir(ROOT)
    if not is_kept:
        shutil.rmtree(demo.work_dir, ignore_errors=True)
    seconds: dict[str, float] = {}
    for title, step in STEPS.items():
        console.rule(f"[bold]{title}", align="left")
        begin = time.perf_counter()
        step(demo)
        seconds[title] = time.perf_counter() - begin
    console.rule("[bold]ask about held-out clips", align="left")
    begin = time.perf_counter()
    answered = ask_heldout(demo)
    seconds["ask about held-out clips"] = time.perf_counter() - begin
    run("weave-data", "inspect", demo.train_output, "--recipe", "l4", "--image", demo.sheet)
    looking = look(answered)
    print_report(console, demo=demo, looking=looking, example=answered[0], seconds=seconds)
    problems = looking.problems(least_seen=LEAST_SEEN, most_exchanged=MOST_EXCHANGED)
    for problem in problems:
        console.print(f"[bold red]{problem}")
    return 1 if problems else 0


def _parse_arguments() -> tuple[Demo, bool]:
    parser = argparse.ArgumentParser(description="Render, build, verify, train, resume, look.")
    parser.add_argument("--work-dir", type=Path, default=Demo.work_dir)
    parser.add_argument("--clips", type=int, default=Demo.num_clips)
    parser.add_argument("--heldout", type=int, default=Demo.num_heldout)
    parser.add_argument("--steps", type=int, default=Demo.num_steps)
    parser.add_argument("--seed", type=int, default=Demo.seed)
    parser.add_argument("--keep", action="store_true", help="go on with what an earlier run left")
    asked = parser.parse_args()
    return Demo(asked.work_dir, asked.clips, asked.heldout, asked.steps, asked.seed), asked.keep


def run(*words: str | Path) -> None:
    """Run one of our commands with this Python, its output and progress bars on this terminal.

    Raises:
        SystemExit: It failed; with its exit code.
    """
    console.print(f"[dim]$ {escape(shlex.join(map(str, words)))}", markup=True)
    program, *arguments = map(str, words)
    modules = {"weave-data": "weave_data", "weave-train": "weave_train", "torchrun": "torch.distributed.run"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a rank or a worker per core
    status = subprocess.run(
        [sys.executable, "-m", modules[program], *arguments], env=environment, check=False
    ).returncode
    if status:
        console.print(f"[bold red]{program} failed with exit code {status}; see above")
        raise SystemExit(status)


def render(demo: Demo) -> None:
    """Render training and held-out clips; lay out the real ones."""
    world = demo.work_dir / "world"
    with console.status(f"{demo.num_clips} training clips, {demo.num_heldout} held-out clips"):
        render_world(world / "train", num_clips=demo.num_clips, seed=demo.seed)
        render_world(world / "heldout", num_clips=demo.num_heldout, seed=demo.seed, split="heldout")
    real_clips.copy_real_clips(demo.work_dir / "real_clips")
    console.print(
        f"{demo.num_clips} training clips, {demo.num_heldout} held-out clips, "
        f"{len(real_clips.CAPTIONS)} real clips in {demo.work_dir}"
    )


def build(demo: Demo) -> None:
    """Build the three sources, each with its own configuration."""
    places = (
        ("demo.yaml", "world/train", demo.train_output),
        ("real.yaml", "real_clips", demo.real_output),
        ("heldout.yaml", "world/heldout", demo.heldout_output),
    )
    for config, source, output in places:
        settings = []
        if demo.work_dir != Demo.work_dir:
            source_dir = demo.work_dir / source
            settings = [
                f"source.catalog={source_dir / 'clips.csv'}",
                f"source.videos={source_dir / 'videos'}",
                f"output={output}",
            ]
        run("weave-data", "build", CONFIGS / config, *settings)


def verify(demo: Demo) -> None:
    """Check every built byte against its manifest."""
    for output in (demo.train_output, demo.real_output, demo.heldout_output):
        run("weave-data", "verify", output)


def train(demo: Demo) -> None:
    """Train with ZeRO-2 in two processes; stop half-way, then let the same command resume."""
    flags = {
        "--model.type": "tiny",
        "--dataset.manifest": demo.train_output / "l4-epochs" / "manifest.json",
        "--zero_stage": 2,
        "--max_steps": demo.num_steps,
        "--model.finetune_global_batch_size": 32,
        "--model.finetune_per_device_batch_size": 16,
        "--model.finetune_learning_rate": 3e-3,
        "--model.finetune_lr_scheduler_type": "linear-warmup+linear-decay",
        "--model.finetune_warmup_ratio": 0.067,  # 30 steps of 450
        "--save_every_steps": demo.num_steps,
        "--seed": demo.seed,
        "--run_root_dir": demo.run_dir.parent,
        "--run_id": demo.run_dir.name,
        "--resume": "auto",
    }
    words = [str(word) for flag in flags.items() for word in flag]
    command = ("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "weave_train", "pretrain", *words)
    run(*command, "--stop_after_steps", str(demo.num_steps // 2))
    console.print("stopped half-way; the same command resumes")
    run(*command)


STEPS: dict[str, Callable[[Demo], None]] = {
    "render": render,
    "build": build,
    "verify": verify,
    "train, stop, resume": train,
}


def ask_heldout(demo: Demo) -> tuple[Answered, ...]:
    """Ask the trained model about every held-out sample."""
    import torch

    from weave_train import load

    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    vlm = load(demo.run_dir)
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", PROMPT)
    prompt = builder.get_prompt()

    def describe(frames: tuple[bytes, ...]) -> str:
        return str(vlm.generate(list(frames), prompt, do_sample=False, max_new_tokens=128))

    questions = heldout_questions(demo.heldout_output, recipe="l4")
    return ask(track(questions, description="held-out samples", console=console), describe=describe)


def heldout_questions(output: Path, *, recipe: str) -> list[Question]:
    """Read the woven held-out samples back: frames as a trainer sees them, captions as the truth."""
    from weave_data.shard import iter_rows, read_manifest
    from weave_data.storage import open_store

    store = open_store(str(output), readonly=True)
    rows = iter_rows(store, read_manifest(store, recipe))
    return [Question(row.frames, tuple(clip.caption for clip in row.clips)) for row in rows]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        console.print("interrupted; --keep goes on from here")
        sys.exit(130)
