"""`weave-train doctor`: is everything there that a run needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from weave_train.commands.flags import pretrain_config

__all__ = ["HELP", "doctor"]

HELP = """Look before you train: weave-train doctor --dataset.manifest URI --model.type tiny

For the flags of weave-train pretrain (or --config FILE): data and checkpoints (one small object is written
and removed again), credentials and their expiry, clocks, and on every node versions, weights, GPUs and the
cores beside them, disks, /dev/shm and network interfaces. Nodes are those of --hostfile FILE (asked over
ssh), of the Ray cluster at RAY_ADDRESS (--launcher ray), or this machine. Nothing is downloaded. Ends with 0,
or with 3 where a check failed.
"""


def doctor(
    context: typer.Context,
    hostfile: Annotated[
        Path | None, typer.Option(help="Lines NAME slots=RANKS, as DeepSpeed has them.")
    ] = None,
    ssh: Annotated[str, typer.Option(help="Program that reaches hosts, and its options.")] = "ssh",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Examine, print, end with the report's exit code."""
    config = pretrain_config(context.args)
    from weave_data.commands.findings import print_report
    from weave_train.doctor import Hosts, examine_run
    from weave_train.hosts.hostfile import read_hostfile

    hosts = None
    if hostfile is not None:
        hosts = Hosts({str(host.name): host.slots for host in read_hostfile(hostfile)}, ssh)
    report = examine_run(config, hosts)
    print_report(report, as_json=as_json)
    if report.exit_code:
        sys.exit(report.exit_code)
