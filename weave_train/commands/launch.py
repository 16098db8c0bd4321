"""`weave-train launch`: one run under DeepSpeed's launcher, torchrun or Ray Train, on one host or several."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from weave_data.errors import ConfigError
from weave_train.commands.flags import pretrain_config

if TYPE_CHECKING:
    from weave_train.config import PretrainConfig
    from weave_train.hosts.starts import Rendezvous

__all__ = ["HELP", "launch"]

HELP = """Start a run on several hosts: weave-train launch --launcher deepspeed --hostfile hosts FLAGS

FLAGS are those of weave-train pretrain, and so is what comes out, whoever starts the ranks. From here, over
ssh without a password, one launcher on each host of the file (a line NAME slots=RANKS each):

\b
  weave-train launch --launcher deepspeed --hostfile hosts ...
  weave-train launch --launcher torchrun --hostfile hosts ...

Without a hostfile, ranks of this machine; called on each of several that find each other:

\b
  weave-train launch --launcher torchrun --nproc_per_node 8 --nnodes 4 --rdzv_endpoint HOST:29400 ...

Wherever a Ray cluster has room, RAY_ADDRESS or the cluster of a `ray job submit`:

\b
  weave-train launch --launcher ray --num_ranks 32 ...

Ctrl-C ends all hosts' ranks; SIGTERM has them save first. A rank that fails ends all of them, and its exit
code is this command's; --max_restarts N starts them again, from the newest complete checkpoint.
"""


def launch(
    context: typer.Context,
    *,
    launcher: Annotated[Literal["deepspeed", "torchrun", "ray"], typer.Option(help="Who starts the ranks.")],
    hostfile: Annotated[Path | None, typer.Option(help="Hosts, a line NAME slots=RANKS each.")] = None,
    nproc_per_node: Annotated[
        int | None, typer.Option("--nproc_per_node", min=1, help="Ranks of this machine.")
    ] = None,
    nnodes: Annotated[int, typer.Option(min=1, help="Machines on which this is called; torchrun.")] = 1,
    rdzv_endpoint: Annotated[
        str | None, typer.Option("--rdzv_endpoint", help="HOST:PORT of one of them.")
    ] = None,
    rdzv_id: Annotated[str, typer.Option("--rdzv_id", help="Name of the run among them.")] = "weave-train",
    ssh: Annotated[str, typer.Option(help="Program and options: 'ssh -p 2222'.")] = "ssh",
    python: Annotated[str, typer.Option(help="Python on the hosts.")] = sys.executable,
    directory: Annotated[Path, typer.Option(help="On the hosts; relative paths start there.")] = Path(),
    master_addr: Annotated[
        str | None, typer.Option("--master_addr", help="First host's; as ssh reached it.")
    ] = None,
    master_port: Annotated[
        int | None, typer.Option("--master_port", min=1, max=65535, help="There; a free one.")
    ] = None,
    export: Annotated[
        list[str] | None, typer.Option(help="Variable to pass on; AWS_*, HF_* ... are.")
    ] = None,
    max_restarts: Annotated[
        int, typer.Option("--max_restarts", min=0, help="Times a failed run is started anew.")
    ] = 0,
    show: Annotated[bool, typer.Option("--show", help="Print what would be started, start nothing.")] = False,
) -> None:
    """Start ranks and end with their exit code."""
    if launcher == "ray":
        _refuse_hosts(
            hostfile, nproc_per_node, rdzv_endpoint, master_addr, master_port, export, nnodes=nnodes
        )
        words = ["--max_restarts", str(max_restarts)] if max_restarts else []  # else the file's
        _on_ray(pretrain_config([*context.args, "--launcher", "ray", *words]), show=show)
        return
    config = pretrain_config(context.args)
    from weave_train.config.problems import NEVER_RESTARTS
    from weave_train.hosts.connection import Reach
    from weave_train.hosts.fan_out import Job, planned, run_on_hosts
    from weave_train.hosts.hostfile import Host, read_hostfile

    if max_restarts and config.resume == "never":
        raise ConfigError(NEVER_RESTARTS, origin="command line")
    meeting: Rendezvous | None = None
    if hostfile is not None:
        if nproc_per_node is not None or nnodes != 1 or rdzv_endpoint is not None:
            raise ConfigError(
                "hostfile: says which hosts there are and how many ranks each has; leave out "
                "--nproc_per_node, --nnodes and --rdzv_endpoint",
                origin="command line",
            )
        hosts = read_hostfile(hostfile)
    else:
        if nproc_per_node is None:
            raise ConfigError("hostfile: give one, or --nproc_per_node", origin="command line")
        hosts = (Host(None, nproc_per_node),)
        meeting = _meeting(launcher, nnodes, rdzv_endpoint, rdzv_id)
    num_ranks = sum(host.slots for host in hosts) * (1 if hostfile else nnodes)
    if config.num_ranks not in (None, num_ranks):
        raise ConfigError(
            f"num_ranks: {config.num_ranks}, but the hosts have {num_ranks}; leave it out",
            origin="command line",
        )
    job = Job(
        launcher=launcher,
        hosts=hosts,
        settings=_settings(config),
        reach=Reach(ssh, python, str(directory.absolute())),
        meeting=meeting,
        master_address=master_addr,
        master_port=master_port,
        exports=tuple(export or ()),
        max_restarts=max_restarts,
    )
    if show:
        print("\n".join(planned(job)))
        return
    code = run_on_hosts(job)
    if code:
        sys.exit(code)


def _refuse_hosts(*given: object, nnodes: int) -> None:
    if nnodes != 1 or any(given):
        raise ConfigError(
            "launcher: ray places --num_ranks workers by itself, with the variables of its runtime "
            "environment; leave out --hostfile, --nproc_per_node, --nnodes, --rdzv_endpoint, --master_addr, "
            "--master_port and --export",
            origin="command line",
        )


def _on_ray(config: PretrainConfig, *, show: bool) -> None:
    assert config.num_ranks is not None  # or its settings were refused
    if show:
        print(
            f"ray: {config.num_ranks} workers at {os.environ.get('RAY_ADDRESS', 'a cluster of this machine')}"
        )
        return
    from weave_train.commands.ranks import start_ranks

    start_ranks(config, num_ranks=config.num_ranks)


def _meeting(launcher: str, nnodes: int, endpoint: str | None, name: str) -> Rendezvous | None:
    """Where hosts meet that are started one by one; None on a lone one."""
    from weave_train.hosts.starts import Rendezvous
    from weave_train.placement import address_towards

    if nnodes == 1 and endpoint is None:
        return None
    if launcher != "torchrun" or endpoint is None:
        raise ConfigError(
            f"nnodes: {nnodes} without a hostfile: --launcher torchrun --rdzv_endpoint HOST:PORT lets hosts "
            "find each other; deepspeed needs --hostfile",
            origin="command line",
        )
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"rdzv_endpoint: {endpoint!r}; write HOST:PORT", origin="command line")
    return Rendezvous(host, int(port), nnodes, name, address_towards(host))


def _settings(config: PretrainConfig) -> str:
    from weave_train.config import pretrain_yaml

    threads = config.num_threads
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if threads is None and chosen.isdecimal() and int(chosen) > 0:
        threads = int(chosen)
    return pretrain_yaml(
        config.model_copy(update={"num_ranks": None, "launcher": "local", "num_threads": threads})
    )
