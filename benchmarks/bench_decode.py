"""Our exact sparse decoder against decord, on WebVid-like rendered clips and, if given, real ones.

Both get the whole file in memory and return RGB arrays of the same `linspace` frames on one thread.
CPU time of all threads counts, as clips per second and core come from it. The tools take turns clip
by clip in one run; per clip the best of the repeats counts, since the other work of a shared machine
only ever adds time. Then what a worker does with a clip (decode, resize, compress) with and without
the quality measures. Writes build/bench/decode.json.

    python benchmarks/bench_decode.py [--clips 3] [--repeats 5]      WEAVE_ASSETS: folder of real clips
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.rendering import Rendering, render_video  # noqa: E402
from weave_data.decode import FrameDecoder, load_decoder  # noqa: E402
from weave_data.decode.job import ClipJob, PictureFormat  # noqa: E402
from weave_data.decode.pyav_decoder import PyavDecoder  # noqa: E402
from weave_data.decode.worker import decode_clip  # noqa: E402
from weave_data.frame_policy import FrameAsk, linspace_indices  # noqa: E402

FRAME_COUNTS = (2, 4, 16)
WIDTH, HEIGHT, FPS, SECONDS = 596, 336, 30, 15


def scene(seed: int) -> Callable[[int], npt.NDArray[np.uint8]]:
    """A soft texture that pans, with a block that moves across it and some sensor noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (HEIGHT // 14 + 2, WIDTH // 7 + 2, 3))
    texture = np.kron(coarse, np.ones((14, 14, 1))).astype(np.float32)
    for axis in (0, 1):
        texture = (np.roll(texture, 5, axis) + np.roll(texture, -5, axis) + 2 * texture) / 4
    noise = rng.normal(0, 2.0, (4, HEIGHT, WIDTH, 3))

    def draw(number: int) -> npt.NDArray[np.uint8]:
        panned = np.roll(texture, (number // 3, 2 * number), (0, 1))[:HEIGHT, :WIDTH] + noise[number % 4]
        left = (number * 3) % (WIDTH - 80)
        panned[120:200, left : left + 80] = 255 - panned[120:200, left : left + 80]
        return panned.clip(0, 255).astype(np.uint8)

    return draw


def webvid_clip(gop: int, seed: int) -> bytes:
    """A clip of WebVid's size and length, with a key frame every `gop` frames."""
    rendering = Rendering(
        width=WIDTH,
        height=HEIGHT,
        fps=FPS,
        num_frames=FPS * SECONDS,
        gop=gop,
        bframes=3,
        options={"preset": "veryfast", "crf": "25", "sc_threshold": "0"},
    )
    return render_video(rendering, scene(seed))


def real_clips() -> list[bytes]:
    folder = os.environ.get("WEAVE_ASSETS")
    if not folder:
        return []
    videos = sorted((Path(folder) / "clips" / "videos").glob("*.mp4"))
    return [path.read_bytes() for path in videos[::4]]  # all would take minutes on two cores


Contestant = Callable[[bytes, int], object]
"""Takes a clip's bytes and how many frames."""


def frames_by(decoder: FrameDecoder) -> Contestant:
    """Decode to RGB arrays."""

    def take(data: bytes, num_frames: int) -> object:
        def choose(n: int, _: float) -> list[int]:
            return linspace_indices(n, min(n, num_frames)).tolist()

        return decoder.decode(data, choose=choose, keep=lambda _, rgb: rgb)

    return take


def stored_by(decoder: FrameDecoder, *, measure: bool) -> Contestant:
    """Decode to stored JPEGs, as a build's worker does."""

    def take(data: bytes, num_frames: int) -> object:
        job = ClipJob((FrameAsk("linspace", num_frames),), measure=measure)
        return decode_clip(decoder, data, job, PictureFormat(336))

    return take


def best_milliseconds(
    tools: Sequence[Contestant], clips: Sequence[bytes], *, num_frames: int, repeats: int
) -> list[float]:
    """Mean over clips of each tool's best time, in ms; the tools take turns, changing who is first."""
    totals = [0.0] * len(tools)
    for data in clips:
        best = [float("inf")] * len(tools)
        for repeat in range(repeats):
            order = range(len(tools)) if repeat % 2 == 0 else reversed(range(len(tools)))
            for tool in order:
                start = time.process_time()
                tools[tool](data, num_frames)
                best[tool] = min(best[tool], time.process_time() - start)
        totals = [total + value for total, value in zip(totals, best, strict=True)]
    return [1000 * total / len(clips) for total in totals]


def compare(
    ours: tuple[str, Contestant],
    others: Mapping[str, Contestant],
    sets: Mapping[str, Sequence[bytes]],
    *,
    repeats: int,
) -> list[dict[str, object]]:
    """Rows of ours against each of the others, printed as they come."""
    rows: list[dict[str, object]] = []
    our_name, our_tool = ours
    for set_name, clips in sets.items():
        for num_frames in FRAME_COUNTS if clips else ():
            mine, *theirs = best_milliseconds(
                [our_tool, *others.values()], clips, num_frames=num_frames, repeats=repeats
            )
            for name, other in zip(others, theirs, strict=True):
                row = {
                    "name": f"{our_name}: {set_name}, {num_frames} frames",
                    "ours": round(mine, 2),
                    "other": round(other, 2),
                    "other_name": name,
                    "ratio": round(other / mine, 3),
                    "unit": "ms/clip",
                    "load": round(os.getloadavg()[0], 2),
                }
                rows.append(row)
                line = "{name:54} ours {ours:8.1f}  {other_name:18} {other:8.1f} {unit}  x{ratio:.2f}"
                print(line.format(**row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    seeds = range(options.clips)
    sets = {f"596x336 15 s, GOP {gop}": [webvid_clip(gop, seed) for seed in seeds] for gop in (250, 12)}
    sets["real mp4 clips"] = real_clips()
    ours = PyavDecoder()
    rows = compare(
        ("frames", frames_by(ours)),
        {
            "decord": frames_by(load_decoder("decord")),
            "pyav, every frame": frames_by(PyavDecoder(is_sparse=False)),
        },
        sets,
        repeats=options.repeats,
    )
    rows += compare(
        ("stored, measured", stored_by(ours, measure=True)),
        {"not measured": stored_by(ours, measure=False)},
        sets,
        repeats=options.repeats,
    )
    target = ROOT / "build" / "bench" / "decode.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
