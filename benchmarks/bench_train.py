"""Step time of the trainer against a bare loop.

    make bench-train        or: python benchmarks/bench_train.py [--pairs 24] [--steps 2] [--threads 1]

    weave   what `weave-train pretrain` does between two checkpoints: rows from Parquet, JPEG decoding,
            totals, ledger, FLOPs, watchdog, stop request, gradient norms by part, all trackers
    bare    the same model, rows, AdamW groups and DeepSpeed configuration; batches made before,
            forward, backward, step, the loss read once a step

Each is a process of its own, in blocks of a few steps that alternate (weave bare, bare weave, ...); the one
whose turn it is not is stopped, so that its threads read nothing ahead in the other's time. Both take the
same batches in the same order. Given are medians and the median ratio within pairs of blocks, which share
the machine's load, with its bootstrap interval: by the clock, by CPU seconds of all threads (`cpu`) and of
the one that trains (`main`; the others read and decode). Saves are measured in `bench_checkpoint.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

SIDES = ("weave", "bare")
WARM_BLOCKS = 3
CLAIM = 1.03
CLOCKS = {"clock": time.perf_counter, "cpu": time.process_time, "main": time.thread_time}
ANSWER = "@ "  # DeepSpeed prints, too


def write_model(folder: Path, *, hidden: int, layers: int) -> None:
    """A random Llama with a tokenizer of captions, as `hf:DIR` takes it."""
    from builders import COLOURS, DIRECTIONS, PROMPT

    from weave_data.torchvision_ops import install
    from weave_train.models.tokenizer import train_caption_tokenizer

    install()
    from transformers import LlamaConfig, LlamaForCausalLM

    captions = [f"A {colour} square moves {way} slowly. " for colour in COLOURS for way in DIRECTIONS]
    tokenizer = train_caption_tokenizer([PROMPT, *captions])
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare(root: Path, options: argparse.Namespace, *, is_dry: bool) -> Any:
    """A run of `weave-train pretrain` before its first step."""
    from weave_train.config import load_pretrain_config
    from weave_train.launch import detect_launch
    from weave_train.train.prepare import prepare_run

    flags = {
        "dataset.manifest": f"{root}/woven/l4/manifest.json",
        "model.type": "tiny",
        "model.llm_backbone_id": f"hf:{root}/llama",
        "model.finetune_global_batch_size": options.rows,
        "model.finetune_per_device_batch_size": options.rows // 2,
        "model.enable_mixed_precision_training": options.bf16,
        "zero_stage": options.zero_stage,
        "max_steps": num_steps(options),
        "run_root_dir": f"{root}/runs",
        "run_id": "dry" if is_dry else "weave",
    }
    config = load_pretrain_config(list(flags.items()))
    return prepare_run(config, detect_launch(), is_dry=is_dry)


def num_steps(options: argparse.Namespace) -> int:
    return (WARM_BLOCKS + options.pairs) * options.steps


@contextlib.contextmanager
def weave_steps(root: Path, options: argparse.Namespace) -> Iterator[Callable[[], float]]:
    """The body of the loop in `weave_train.train.loop.train`."""
    from weave_train.numbers import open_trackers
    from weave_train.train.loop import train_step
    from weave_train.train.stop import StopRequest
    from weave_train.train.watchdog import Watchdog

    run = prepare(root, options, is_dry=False)
    with contextlib.ExitStack() as closing:
        closing.callback(run.feed.close)
        closing.callback(run.writer.close)
        watch = closing.enter_context(Watchdog(run.run_dir, run.launch, run.config.watch.step_timeout_s))
        stop = closing.enter_context(StopRequest())
        tell = closing.enter_context(
            open_trackers(run.config, run.run_dir, start_step=0, num_steps=run.num_steps)
        )

        def step() -> float:
            report, _ = train_step(run, stop, watch)
            tell(report)
            return report.loss

        yield step


@contextlib.contextmanager
def bare_steps(root: Path, options: argparse.Namespace) -> Iterator[Callable[[], float]]:
    """DeepSpeed, a model and batches; nothing else."""
    import deepspeed
    import torch

    from weave_train.engine.parameter_groups import parameter_groups
    from weave_train.engine.stages import apply_stage
    from weave_train.models.model import build_model
    from weave_train.train.objective import micro_batches
    from weave_train.train.schedule import learning_rate_at

    run = prepare(root, options, is_dry=True)
    settings, hyper, device = run.engine.settings, run.config.hyper, run.launch.device
    made = [
        micro_batches(
            run.feed.batch(index),
            micro_rows=settings.micro_batch_rows,
            num_micro_steps=settings.micro_steps,
            vlm=run.vlm,
        )
        for index in range(run.num_steps)
    ]
    rates = [
        learning_rate_at(
            index,
            schedule=hyper.lr_scheduler_type,
            peak=hyper.learning_rate,
            num_steps=run.num_steps,
            warmup_ratio=hyper.warmup_ratio,
        )
        for index in range(run.num_steps)
    ]
    run.feed.close()
    run.writer.close()
    vlm = build_model(run.vlm.settings, run.vlm.tokenizer, device=device)
    apply_stage(vlm, run.config.stage)
    # stage 0 is clipped by our engine itself
    config = {**run.engine._engine.config, "gradient_clipping": settings.max_grad_norm}
    groups = parameter_groups(vlm.core, weight_decay=settings.weight_decay, lr_scale=settings.lr_scale)
    engine, *_ = deepspeed.initialize(
        model=vlm.core, optimizer=torch.optim.AdamW(groups, lr=0.0), config=config, dist_init_required=False
    )
    del run
    taken = iter(zip(made, rates, strict=True))

    def step() -> float:
        batches, rate = next(taken)
        num_supervised = sum(batch.num_supervised for batch in batches)
        total = torch.zeros(())
        for index, batch in enumerate(batches):
            engine.set_gradient_accumulation_boundary(index == len(batches) - 1)
            loss = engine(vlm.frozen_features(batch), batch)
            engine.backward(loss / num_supervised, scale_wrt_gas=False)
            total += loss.detach()
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        engine.step()
        return float(total) / num_supervised

    yield step


def serve(side: str, root: Path, options: argparse.Namespace) -> None:
    """A child: takes a block of steps whenever it is told to."""
    steps = weave_steps if side == "weave" else bare_steps
    with steps(root, options) as step:
        print(f"{ANSWER}{{}}", flush=True)
        for _ in sys.stdin:
            begins = {what: clock() for what, clock in CLOCKS.items()}
            losses = [step() for _ in range(options.steps)]
            taken = {what: (clock() - begins[what]) / options.steps for what, clock in CLOCKS.items()}
            print(ANSWER + json.dumps(taken | {"losses": losses}), flush=True)


class Side:
    """A child process, stopped except during its own blocks."""

    def __init__(self, name: str, root: Path, arguments: Sequence[str], *, threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        self._log = (root / f"{name}.log").open("w+")
        self._child = subprocess.Popen(
            [sys.executable, __file__, *arguments, "--child", name, "--root", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        self._answer()

    def block(self) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.send_signal(signal.SIGCONT)
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith(ANSWER):
                self._child.send_signal(signal.SIGSTOP)
                return json.loads(line.removeprefix(ANSWER))
        self._log.seek(0)
        raise SystemExit(f"a side ended:\n{self._log.read()[-4000:]}")

    def close(self) -> None:
        self._child.send_signal(signal.SIGCONT)
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._log.close()


def bootstrap(ratios: Sequence[float], *, num_draws: int = 10_000) -> tuple[float, float, float]:
    """Median ratio and its 95 % interval over pairs drawn with replacement."""
    drawn = random.Random(1)
    medians = sorted(statistics.median(drawn.choices(ratios, k=len(ratios))) for _ in range(num_draws))
    return statistics.median(ratios), medians[round(0.025 * num_draws)], medians[round(0.975 * num_draws) - 1]


def measure(root: Path, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from builders import write_woven_dataset

    write_woven_dataset(root / "woven", rows=num_steps(options) * options.rows)
    write_model(root / "llama", hidden=options.hidden, layers=options.layers)
    sides: dict[str, Side] = {}
    blocks: list[dict[str, dict[str, Any]]] = []
    try:
        for name in SIDES:
            sides[name] = Side(name, root, arguments, threads=options.threads)
        for index in range(WARM_BLOCKS + options.pairs):
            order = SIDES if index % 2 == 0 else SIDES[::-1]
            blocks.append({name: sides[name].block() for name in order})
    finally:
        for side in sides.values():
            side.close()
    apart = max(
        abs(ours - bare) / bare
        for block in blocks
        for ours, bare in zip(block["weave"]["losses"], block["bare"]["losses"], strict=True)
    )
    report(blocks[WARM_BLOCKS:], options, apart)


def report(blocks: list[dict[str, dict[str, Any]]], options: argparse.Namespace, apart: float) -> None:
    precision = "bf16" if options.bf16 else "fp32"
    print(
        f"{options.rows} rows of 16 frames a step in two micro-steps, "
        f"Llama {options.hidden} x {options.layers}, ZeRO-{options.zero_stage}, {precision}, "
        f"{options.threads} torch thread(s), "
        f"{len(blocks)} pairs of {options.steps} steps, load {os.getloadavg()[0]:.1f}"
    )
    print(f"losses of the two differ by {apart:.1e} at most (relative)")
    print(f"{'':8}{'weave ms':>10}{'bare ms':>10}{'ratio':>8}   95 % interval")
    for what in CLOCKS:
        pairs = [(block["weave"][what], block["bare"][what]) for block in blocks]
        ours, plain = (1e3 * statistics.median(side) for side in zip(*pairs, strict=True))
        ratio, low, high = bootstrap([weave / bare for weave, bare in pairs])
        print(f"{what:8}{ours:10.1f}{plain:10.1f}{ratio:8.3f}   {low:.3f} to {high:.3f}")
        if what == "clock":
            print(f"        claim: lower end at most {CLAIM}: {'holds' if low <= CLAIM else 'DOES NOT HOLD'}")
            if plain < 300:
                print("        steps are shorter than 300 ms: take a larger --hidden or --layers")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=2, help="of a block")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--zero-stage", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--child", choices=SIDES)
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    if options.child:
        serve(options.child, options.root, options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch), options, sys.argv[1:])


if __name__ == "__main__":
    main()
