"""Break builds, saves and training runs at random until the time is over; then say what became of the rows.

    make chaos MINUTES=10                                        or: python tests/chaos --minutes 10
    python tests/chaos --rounds 1 --only build-killed --seed 7   one round again, as it was

Every round prints its kind and its seed before it begins. Exit code 1 when a row was lost or is there twice,
or when something did not survive.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS.parent / "examples" / "demo")]

from chaos_rounds import KINDS  # noqa: E402
from chaos_table import Outcome, Table  # noqa: E402
from chaos_workplace import open_workplace  # noqa: E402

_STRIDE = 1_000_003  # between the seeds of consecutive rounds


def main() -> int:
    """The command; see the module."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="weave-chaos-"))
    _keep_to(folder)
    kinds = options.only or list(KINDS)
    table = Table()
    try:
        with open_workplace(folder) as place:
            print(f"seed {options.seed}, store: {place.server.kind} {place.server.reason}".rstrip())
            for number, kind in enumerate(_some(kinds, options)):
                seed = (options.seed + number * _STRIDE) % (1 << 31)
                print(f"round {number + 1}: --only {kind} --seed {seed}", flush=True)
                began = time.monotonic()
                try:
                    outcome = KINDS[kind](place.round_folder(number), random.Random(seed), place)
                except pytest.skip.Exception as reason:
                    outcome = Outcome(faults=0, skipped=str(reason))
                except Exception as error:  # noqa: BLE001  whatever broke is what this is for
                    outcome = _broken(error)
                table.add(kind, seed, outcome)
                print(f"    {outcome.line()}, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        if table.is_clean:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"left for you to look at: {folder}")
    print("\n".join(table.lines()))
    return 0 if table.is_clean else 1


def _broken(error: Exception) -> Outcome:
    if "The current node timed out during startup" in str(error):
        return Outcome(faults=0, skipped="Ray did not start within its 30 s; this machine is too busy")
    traceback.print_exception(error)
    return Outcome(faults=1, problems=(f"{type(error).__name__}: {str(error)[:300]}",))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="the round under way is finished")
    parser.add_argument("--rounds", type=int, help="so many rounds instead")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="of the first round")
    parser.add_argument("--only", action="append", choices=sorted(KINDS), help="may be given several times")
    return parser.parse_args()


def _some(kinds: list[str], options: argparse.Namespace) -> Iterator[str]:
    """Kinds in random order, each once before any comes again, until rounds or minutes are over."""
    draw, stop = random.Random(options.seed), time.monotonic() + options.minutes * 60
    coming: list[str] = []
    number = 0
    while number < options.rounds if options.rounds is not None else time.monotonic() < stop:
        coming = coming or draw.sample(kinds, len(kinds))
        yield coming.pop()
        number += 1


def _keep_to(folder: Path) -> None:
    """Nothing of the user's accounts and caches is seen, by this process or what it starts."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS.parent), os.environ.get("PYTHONPATH")])),
    }


if __name__ == "__main__":
    sys.exit(main())
