"""Bytes to rows, time to the first batch and time to resume: our feed against four readers.

    python benchmarks/bench_feed.py [--rounds 5] [--rows 512] [--folder DIR] [--skip-s3]

The same samples lie on disk and on an S3 server (Ceph where it can be had) in each reader's own format; see
`feed_formats.py` and `feed_loaders.py`. Every measurement is a process of its own; readers take turns, and
medians of ratios within a round are given, so that a busy machine hits all of them. `cpu` is of the process
and its workers. `--python` names an interpreter with mosaicml-streaming and litdata beside what is needed
here: they are no dependencies; a reader that isn't there is left out and said.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from servers import start_s3, stop_s3  # noqa: E402

SYSTEMS = ("videoweave", "mosaicml-streaming", "litdata", "webdataset", "datasets")
TIMEOUT_SECONDS = 300

Results = dict[str, list[dict[str, float]]]


def run(python: str, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One script in a process of its own."""
    inherited = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [python, str(HERE / script), *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def measure(python: str, root: str, num_rounds: int, environment: dict[str, str]) -> Results:
    """Rounds of every reader; a reader that fails is said and left out."""
    found: Results = defaultdict(list)
    left_out = set()
    with tempfile.TemporaryDirectory() as scratch:
        for round_index in range(num_rounds):
            shift = round_index % len(SYSTEMS)
            for system in SYSTEMS[shift:] + SYSTEMS[:shift]:
                if system in left_out:
                    continue
                values: dict[str, float] = {}
                for task in ("epoch", "resume"):
                    done = run(
                        python, "feed_loaders.py", system, root, f"{scratch}/{system}", task, **environment
                    )
                    if done.returncode:
                        print(
                            f"{system}: left out: {(done.stderr.strip().splitlines() or ['?'])[-1]}",
                            flush=True,
                        )
                        left_out.add(system)
                        break
                    measured = json.loads(done.stdout.strip().splitlines()[-1])
                    values |= measured if task == "epoch" else {"resume_seconds": measured["first_seconds"]}
                else:
                    found[system].append(values)
    return {system: rounds for system, rounds in found.items() if system not in left_out}


def report(where: str, found: Results) -> None:
    """Medians, and medians of ratios to ours, above 1 where we are ahead."""
    ours = found["videoweave"]
    print(f"\n{where}: {len(ours)} rounds, load {os.getloadavg()[0]:.0f}")
    print("| reader | rows/s | first batch s | resume s | epoch s | epoch cpu s | ratios |")
    print("|---|---|---|---|---|---|---|")
    for system, rounds in found.items():
        names = ("rows_per_second", "first_seconds", "resume_seconds", "epoch_seconds", "cpu_seconds")
        medians = [statistics.median(values[name] for values in rounds) for name in names]
        ratios = []
        for name in names:
            pairs = [(theirs[name], our[name]) for theirs, our in zip(rounds, ours, strict=True)]
            is_rate = name == "rows_per_second"
            ratios.append(
                statistics.median(our / theirs if is_rate else theirs / our for theirs, our in pairs)
            )
        cells = " | ".join(f"{value:.0f}" if value > 20 else f"{value:.2f}" for value in medians)
        print(f"| {system} | {cells} | {', '.join(f'{ratio:.1f}' for ratio in ratios)} |", flush=True)


def upload(folder: Path, server_environment: dict[str, str], bucket: str) -> None:
    """Every file of the formats under `s3://bucket/bench/`."""
    import boto3

    client = boto3.client("s3", endpoint_url=server_environment["AWS_ENDPOINT_URL"])
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        client.upload_file(str(path), bucket, f"bench/{path.relative_to(folder)}")


def main() -> None:
    """Write the formats, measure from disk, then from S3."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--skip-s3", action="store_true")
    parser.add_argument("--skip-disk", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch, "formats")
        made = run(options.python, "feed_formats.py", str(folder), "--rows", str(options.rows))
        if made.returncode:
            print(f"not every format was written: {made.stderr.strip().splitlines()[-1]}")
        if not options.skip_disk:
            report("disk", measure(options.python, str(folder), options.rounds, {}))
        if options.skip_s3:
            return
        server_folder = Path(scratch, "s3")
        server = start_s3(server_folder, require_ceph=False)
        try:
            # two of the readers have names of their own for an endpoint, and for one without TLS
            environment = {**server.environment, "S3_ENDPOINT_URL": server.endpoint, "AWS_ALLOW_HTTP": "true"}
            os.environ.update(environment)
            bucket = server.new_bucket()
            upload(folder, environment, bucket)
            found = measure(options.python, f"s3://{bucket}/bench", options.rounds, environment)
            report(f"S3 ({server.kind})", found)
        finally:
            stop_s3(server_folder)


if __name__ == "__main__":
    main()
