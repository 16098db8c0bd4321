"""What a decoder process of its own costs good clips, against the same decoding in this process.

The two take turns clip by clip, changing who is first; the ratio is taken within a pair, so that what else
runs on a shared machine meets both. CPU time is that of all threads of this process and of the decoder
process (from the kernel's scheduler, in ns); the clock is shown beside it. A process is started once for
1,000 clips: its start is measured apart and its share added. Writes build/bench/isolation.json.

    python benchmarks/bench_isolation.py [--rounds 15]      WEAVE_ASSETS: folder of real clips
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.bench_decode import real_clips, webvid_clip  # noqa: E402
from weave_data.decode import DecodeSettings, load_decoder  # noqa: E402
from weave_data.decode.isolation import IsolatedDecoder  # noqa: E402
from weave_data.decode.job import ClipJob, PictureFormat  # noqa: E402
from weave_data.decode.worker import decode_clip  # noqa: E402
from weave_data.frame_policy import FrameAsk  # noqa: E402

FRAMES = 16
JOB = ClipJob((FrameAsk("linspace", FRAMES),), measure=True)
PICTURE = PictureFormat(336)


def cpu_seconds(process_id: int) -> float:
    """CPU time of all threads of a process."""
    folder = Path(f"/proc/{process_id}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in folder.iterdir()) / 1e9


def measured(work: Callable[[], object], *, process_ids: Sequence[int]) -> tuple[float, float]:
    """(CPU, clock) seconds of a call, CPU over all the processes."""
    cpu = sum(cpu_seconds(process_id) for process_id in process_ids)
    clock = time.perf_counter()
    work()
    clock = time.perf_counter() - clock
    return sum(cpu_seconds(process_id) for process_id in process_ids) - cpu, clock


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """(median, lower, upper): order statistics that hold the median with 95 %."""
    ordered, n = sorted(ratios), len(ratios)
    reach = int(0.98 * n**0.5) + 1
    middle = n // 2
    return statistics.median(ordered), ordered[max(0, middle - reach)], ordered[min(n - 1, middle + reach)]


def start_seconds(clip: bytes) -> float:
    """CPU seconds from no process to its first clip, less those of a clip that finds it running."""
    with DecodeSettings().isolated_decoder() as isolated:
        isolated.decode(clip, JOB)
        child = decoder_process(isolated)
        first = cpu_seconds(child)
        isolated.decode(clip, JOB)
        return 2 * first - cpu_seconds(child)


def decoder_process(isolated: IsolatedDecoder) -> int:
    """Its id; it runs once a clip has been asked for."""
    if isolated._child is None:
        raise RuntimeError("no decoder process runs; decode a clip first")
    return isolated._child._process.pid


def compare(name: str, clips: Sequence[bytes], rounds: int) -> dict[str, object]:
    """One row: the same clips here and in a process of their own."""
    here = load_decoder("pyav")
    ratios: dict[str, list[float]] = {"cpu": [], "clock": []}
    times: dict[str, list[float]] = {"here": [], "isolated": []}
    with DecodeSettings().isolated_decoder() as isolated:
        isolated.decode(clips[0], JOB)
        processes = [os.getpid(), decoder_process(isolated)]
        for turn in range(rounds):
            for clip in clips:
                work = {
                    "here": lambda clip=clip: decode_clip(here, clip, JOB, PICTURE),
                    "isolated": lambda clip=clip: isolated.decode(clip, JOB),
                }
                order = list(work) if turn % 2 == 0 else list(work)[::-1]
                took = {who: measured(work[who], process_ids=processes) for who in order}
                for who, (cpu, _) in took.items():
                    times[who].append(cpu)
                for position, what in enumerate(ratios):
                    ratios[what].append(took["isolated"][position] / took["here"][position])
    start = start_seconds(clips[0])
    share = start / DecodeSettings().recycle_clips / statistics.median(times["here"])
    row: dict[str, object] = {
        "name": f"{name}, {FRAMES} frames, {len(clips)} clips",
        "here_ms": round(1000 * statistics.median(times["here"]), 2),
        "isolated_ms": round(1000 * statistics.median(times["isolated"]), 2),
        "start_ms": round(1000 * start, 1),
        "start_share": round(share, 4),
        "pairs": len(ratios["cpu"]),
        "load": round(os.getloadavg()[0], 2),
    }
    for what, values in ratios.items():
        median, low, high = interval(values)
        row[f"{what}_ratio"], row[f"{what}_interval"] = round(median, 4), [round(low, 4), round(high, 4)]
    row["cpu_ratio_with_start"] = round(interval(ratios["cpu"])[0] + share, 4)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    sets = {f"596x336 15 s, GOP {gop}": [webvid_clip(gop, seed) for seed in (0, 1)] for gop in (250, 12)}
    sets["real mp4 clips"] = real_clips()
    rows = []
    for name, clips in sets.items():
        if clips:
            rows.append(compare(name, clips, options.rounds))
            print(json.dumps(rows[-1]), flush=True)
    target = ROOT / "build" / "bench" / "isolation.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
