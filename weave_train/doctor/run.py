"""Everything that `weave-train pretrain` needs, looked at before it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weave_data.doctor import (
    Finding,
    NodeReply,
    Questions,
    Report,
    Status,
    ask_here,
    ask_over_ray,
    ask_over_ssh,
    codecs,
    devices,
    disk,
    network,
    of_error,
    weights,
)
from weave_data.doctor.finding import of_nodes
from weave_data.doctor.judging import judge_all_nodes
from weave_data.doctor.store import probe_output, probe_source, without_repetition
from weave_data.errors import WeaveError
from weave_data.shard import open_dataset
from weave_train.config import DatasetConfig, ModelSettings, PretrainConfig
from weave_train.doctor.room import checkpoint_bytes, frames_per_second
from weave_train.doctor.weights import weight_questions
from weave_train.train.run_directory import model_settings

__all__ = ["Hosts", "examine_run"]

PACKAGES = (
    "videoweave",
    "torch",
    "deepspeed",
    "transformers",
    "timm",
    "peft",
    "tokenizers",
    "numpy",
    "pillow",
)
_NCCL_SHM_BYTES = 2**30


@dataclass(frozen=True)
class Hosts:
    """Hosts of a run and how they are reached.

    Attributes:
        slots: Ranks by the host's name, in order.
        ssh: Program and its own options, as a shell splits them.
    """

    slots: Mapping[str, int]
    ssh: str = "ssh"


def examine_run(config: PretrainConfig, hosts: Hosts | None = None) -> Report:
    """Look at data, checkpoints and nodes; one probe object is written and removed.

    Args:
        config: Of the run.
        hosts: Of a launch over ssh; None: this machine, or the cluster of `launcher: ray`.

    Raises:
        ConfigError: A model flag names what is not there.
    """
    settings = model_settings(config, {})
    questions, problems = _questions(config, settings)
    reply = _ask(config, questions, hosts)
    findings = [*problems, *reply.findings, *_stores(config), *judge_all_nodes(reply)]
    each: list[Finding] = []
    for node, facts in reply.nodes.items():
        each += _of_node(config, facts, reply, ranks=_ranks(config, reply, hosts, node), node=node)
    for index, question in enumerate(questions.weights):
        there = {node: facts["weights"][index] for node, facts in reply.nodes.items()}
        each += weights.judge(question, there) if there else []
    findings += of_nodes(each, list(reply.nodes))
    findings += _shared(config, reply) + _gpus_of_cluster(config, reply)
    return Report(tuple(findings))


def _questions(config: PretrainConfig, settings: ModelSettings) -> tuple[Questions, list[Finding]]:
    asked, problems = weight_questions(config, settings)
    folders = {"run directory": config.run_root_dir}
    if config.feed.cache_dir is not None:
        folders["cache"] = config.feed.cache_dir
    reads_videos = any(each.type is not None for each in _data_sets(config))
    uris = {uri.rpartition("/")[0] for uri in _manifests(config)} | {config.checkpoint.uri or ""}
    questions = Questions(
        packages=(*PACKAGES, "ray") if config.launcher == "ray" else PACKAGES,
        decoder="pyav" if reads_videos else None,
        formats=("jpeg", "png"),
        weights=asked,
        folders=folders,
        readable=tuple(sorted(uri for uri in uris if uri.startswith("s3://"))),
        needs_torch=True,
        times_frames=True,
    )
    return questions, problems


def _ask(config: PretrainConfig, questions: Questions, hosts: Hosts | None) -> NodeReply:
    if hosts is not None:
        return ask_over_ssh(questions, list(hosts.slots), ssh=hosts.ssh)
    address = os.environ.get("RAY_ADDRESS")
    if config.launcher == "ray" and address is not None:
        return ask_over_ray(questions, address)
    return ask_here(questions)


def _data_sets(config: PretrainConfig) -> Iterator[DatasetConfig]:
    yield config.dataset
    if config.validation_dataset is not None:
        yield config.validation_dataset


def _manifests(config: PretrainConfig) -> list[str]:
    found: list[str] = []
    for each in _data_sets(config):
        found += [each.manifest] if each.manifest is not None else []
        found += [entry.manifest for entry in each.mixture or [] if entry.manifest is not None]
    return list(dict.fromkeys(found))


def _stores(config: PretrainConfig) -> list[Finding]:
    place = config.checkpoint.uri
    findings = probe_output(place or config.run_root_dir, check="checkpoints" if place else "run directory")
    for uri in _manifests(config):
        if uri.startswith("s3://"):
            findings += without_repetition(probe_source(uri.rpartition("/")[0], check="data"), findings)
            if findings and findings[-1].status is Status.FAIL:
                continue
        findings.append(_manifest(uri))
    return findings


def _manifest(uri: str) -> Finding:
    try:
        data = open_dataset(uri)
    except WeaveError as error:
        return of_error("data", error)
    return Finding("data", Status.OK, f"{uri}: {data.manifest.num_rows:,} samples")


def _ranks(config: PretrainConfig, reply: NodeReply, hosts: Hosts | None, node: str) -> int:
    """Ranks of a node; where Ray places them, as many as it has GPUs for."""
    if hosts is not None:
        return hosts.slots[node]
    if _is_on_ray(config):
        return len(reply.nodes[node]["devices"]["torch_gpus"])
    return config.num_ranks or 1


def _is_on_ray(config: PretrainConfig) -> bool:
    return config.launcher == "ray" and "RAY_ADDRESS" in os.environ


def _gpus_of_cluster(config: PretrainConfig, reply: NodeReply) -> list[Finding]:
    """Ray places a rank on any GPU of the cluster; without one they train on CPUs."""
    ranks, there = config.num_ranks or 1, int(reply.gpus or 0)
    if not _is_on_ray(config) or not there or there >= ranks:
        return []
    remedy = "one rank a GPU: start fewer ranks, or add GPU nodes"
    return [Finding("gpus", Status.FAIL, f"{there} GPUs in the cluster for {ranks} ranks", remedy)]


def _of_node(
    config: PretrainConfig, facts: Mapping[str, Any], reply: NodeReply, *, ranks: int, node: str
) -> list[Finding]:
    gpus = facts["devices"]["torch_gpus"]
    findings = codecs.judge(facts["codecs"], node=node)
    findings.append(devices.judge_gpus(facts["devices"], wants_gpu=True, node=node))
    if gpus and len(gpus) < ranks:
        found = f"{len(gpus)} GPUs for {ranks} ranks"
        findings.append(Finding("gpus", Status.FAIL, found, "one rank a GPU: start fewer ranks here", node))
    if gpus:
        findings.append(_cores(config, facts["devices"], num_gpus=min(ranks, len(gpus)), node=node))
    findings += _folders(config, facts["disk"]["folders"], node)
    if len(gpus) > 1 and ranks > 1:
        why = "NCCL, between the GPUs of a node"
        findings += disk.judge_shm(facts["disk"], needed_bytes=_NCCL_SHM_BYTES, why=why, node=node)
    many = len(reply.nodes)
    return findings + _network(config, facts["network"], num_nodes=many, uses_nccl=bool(gpus), node=node)


def _network(
    config: PretrainConfig, facts: Mapping[str, Any], *, num_nodes: int, uses_nccl: bool, node: str
) -> list[Finding]:
    """Without a choice gloo gets the interface that leads to the first rank's host; NCCL takes its own."""
    if config.network_interface is not None:
        facts = {**facts, "chosen": dict.fromkeys(network.VARIABLES, config.network_interface)}
    needed = ("NCCL_SOCKET_IFNAME",) if uses_nccl else ()
    return network.judge(facts, num_nodes=num_nodes, needed=needed, node=node)


def _folders(config: PretrainConfig, folders: Mapping[str, Any], node: str) -> Iterator[Finding]:
    needed = 2 * checkpoint_bytes(config) if config.checkpoint.uri is None else 0.0
    why = "two checkpoints: one is complete before another goes" if needed else "metrics and configuration"
    place = folders["run directory"]
    yield disk.judge_folder("disk", place, needed_bytes=max(needed, 1e9), why=why, node=node)
    if "cache" in folders:
        cache = config.feed.cache_gib * 2**30
        yield disk.judge_folder(
            "cache", folders["cache"], needed_bytes=cache, why="--feed.cache_gib", node=node
        )


def _cores(config: PretrainConfig, facts: Mapping[str, Any], *, num_gpus: int, node: str) -> Finding:
    wanted = frames_per_second(facts["torch_gpus"][0], config)
    rate = 0.0 if math.isnan(wanted) else wanted
    finding = devices.cores_for_frames(
        facts, num_gpus=num_gpus, frames_per_second=rate, own_cores=1.0, node=node
    )
    fed = config.num_workers * 1e3 / facts["frame_ms"]
    if config.num_workers and fed < rate:
        found = f"{config.num_workers} threads make {fed:.0f} frames/s into pixels, a GPU takes {rate:.0f}"
        return Finding("cores", Status.WARN, found, "raise --num_workers", node)
    return finding


def _shared(config: PretrainConfig, reply: NodeReply) -> list[Finding]:
    """Ranks of several nodes write into one run directory."""
    if config.checkpoint.uri is not None:
        return []
    places = {node: facts["disk"]["folders"]["run directory"] for node, facts in reply.nodes.items()}
    own = [node for node, place in places.items() if place["is_local"]]
    if len(places) < 2 or not own:
        return []
    found = f"{config.run_root_dir} is a disk of {own[0]} itself: other nodes don't see what is saved there"
    remedy = "set --checkpoint.uri s3://... or a --run_root_dir that all nodes share"
    return [Finding("run directory", Status.WARN, found, remedy)]
