"""A very small world for the tiny sweeps: clips to weave and, of other clips, questions.

python experiments/tiny/render.py build/tiny

build/tiny/train/clips.csv, videos/               rendered clips in WebVid's layout
build/tiny/questions/questions.jsonl, videos/     held-out clips: which colour, which way
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "demo"))

from world import COLOURS, DIRECTIONS, World, render_world

SIZE_PX, SECONDS, SEED = (64, 80), 2.0, 7


def render(directory: Path, *, num_clips: int, num_asked: int) -> None:
    render_world(directory / "train", num_clips=num_clips, seed=SEED, size_px=SIZE_PX, seconds=SECONDS)
    asked = directory / "questions"
    catalog = render_world(
        asked, num_clips=num_asked, seed=SEED, split="heldout", size_px=SIZE_PX, seconds=SECONDS
    )
    catalog.unlink()
    world = World(size_px=SIZE_PX, seconds=SECONDS)
    lines = []
    for path in sorted((asked / "videos").rglob("*.mp4")):
        scene = world.scene(seed=SEED, clip_number=int(path.stem))
        for kind, question, options, truth in (
            ("colour", "What colour is the shape?", list(COLOURS), scene.colour),
            ("direction", "Which way does it move?", list(DIRECTIONS), scene.direction),
        ):
            lines.append(
                {
                    "id": f"{path.stem}-{kind}",
                    "video": str(path.relative_to(asked)),
                    "question": question,
                    "options": options,
                    "answer": options.index(truth),
                    "tags": {"type": kind},
                }
            )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (asked / "questions.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Render clips and questions for experiments/tiny.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--asked", type=int, default=4)
    given = parser.parse_args()
    shutil.rmtree(given.directory, ignore_errors=True)
    render(given.directory, num_clips=given.clips, num_asked=given.asked)
    print(f"{given.clips} clips, {2 * given.asked} questions: {given.directory}")


if __name__ == "__main__":
    main()
