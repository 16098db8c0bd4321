"""Everything that `weave-data build CONFIG` needs, looked at before it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from weave_data.config import BuildConfig
from weave_data.doctor import codecs, devices, disk, weights
from weave_data.doctor.embedder import embedder_weights
from weave_data.doctor.finding import Finding, Report, Status, of_nodes
from weave_data.doctor.judging import judge_all_nodes
from weave_data.doctor.nodes import NodeReply, ask_here, ask_over_ray
from weave_data.doctor.questions import Questions
from weave_data.doctor.store import probe_catalog, probe_output, probe_source, without_repetition

__all__ = ["examine_build"]

PACKAGES = ("videoweave", "ray", "torch", "av", "pillow", "numpy", "pyarrow", "open-clip-torch", "timm")
_FRAME_BYTES = 20_000  # docs/log.md: 328 MB for 1024 rows of 16 frames of 336 px
_PART_CLIPS = 1024
_EMBEDDED_PER_SECOND = 2000.0  # images a GPU embeds; assumed in cluster_configs/README.md
_ACTOR_THREADS = 4  # of an embedding actor, decoding


def examine_build(config: BuildConfig) -> Report:
    """Look at stores and nodes; nothing is built, one probe object is written and removed.

    Raises:
        ConfigError: Of `embedding`, as the build would raise it.
    """
    questions, problems = _questions(config)
    reply = _ask(config, questions)
    findings = [*problems, *reply.findings]
    findings += _stores(config)
    findings += judge_all_nodes(reply)
    names = list(reply.nodes)
    each = [finding for node, facts in reply.nodes.items() for finding in _of_node(config, facts, node)]
    for index, question in enumerate(questions.weights):
        there = {node: facts["weights"][index] for node, facts in reply.nodes.items()}
        each += weights.judge(question, there) if there else []
    findings += of_nodes(each, names)
    findings += _gpus_asked(config, reply)
    return Report(tuple(findings))


def _questions(config: BuildConfig) -> tuple[Questions, list[Finding]]:
    weights_asked, problems = embedder_weights(config.embedding) if config.needs_embeddings else ((), [])
    readable = {uri for uri in (config.output, config.source.videos) if uri.startswith("s3://")}
    asked = Questions(
        packages=PACKAGES,
        decoder=config.frames.decoder,
        formats=tuple(dict.fromkeys(("jpeg", config.frames.format))),
        weights=weights_asked,
        folders={"scratch": config.execution.work_dir or disk.TMP, "ray": disk.TMP},
        readable=tuple(sorted(readable)),
        needs_torch=config.needs_embeddings and config.embedding.model != "none",
        times_frames=config.execution.gpus > 0,
    )
    return asked, problems


def _ask(config: BuildConfig, questions: Questions) -> NodeReply:
    execution = config.execution
    is_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if execution.in_process or (execution.ray_address is None and not is_job):
        return ask_here(questions)
    return ask_over_ray(questions, execution.ray_address)


def _stores(config: BuildConfig) -> list[Finding]:
    findings = probe_output(config.output)
    findings += without_repetition(probe_source(config.source.videos), findings)
    if config.source.catalog is not None:
        findings.append(probe_catalog(config.source.catalog))
    return findings


def _of_node(config: BuildConfig, facts: Mapping[str, Any], node: str) -> list[Finding]:
    cores = facts["devices"]["cores"]
    frames = max(max(recipe.clip_frame_counts, default=1) for recipe in config.recipes)
    part = _PART_CLIPS * frames * _FRAME_BYTES
    findings = codecs.judge(facts["codecs"], node=node)
    findings.append(
        disk.judge_folder(
            "scratch",
            facts["disk"]["folders"]["scratch"],
            needed_bytes=cores * part,
            why=f"{cores} cores x {_PART_CLIPS} clips x {frames} frames x {_FRAME_BYTES / 1e3:g} kB",
            node=node,
        )
    )
    findings += disk.judge_spill(facts["disk"], node=node)
    if not config.execution.in_process:
        findings += disk.judge_shm(
            facts["disk"],
            needed_bytes=min(0.3 * facts["disk"]["memory"], 2 * 2**30),
            why="Ray's object store; with less it falls back to the disk",
            node=node,
        )
    if config.execution.gpus and config.needs_embeddings:
        findings.append(devices.judge_gpus(facts["devices"], wants_gpu=True, node=node))
        if facts["devices"]["torch_gpus"]:
            findings.append(_cores(facts, node))
    return findings


def _cores(facts: Mapping[str, Any], node: str) -> Finding:
    taken = min(_EMBEDDED_PER_SECOND, _ACTOR_THREADS * 1e3 / facts["devices"]["frame_ms"])
    return devices.cores_for_frames(
        facts["devices"],
        num_gpus=len(facts["devices"]["torch_gpus"]),
        frames_per_second=taken,
        own_cores=1.0,
        node=node,
    )


def _gpus_asked(config: BuildConfig, reply: NodeReply) -> list[Finding]:
    wanted = config.execution.gpus
    if not wanted or not config.needs_embeddings or not reply.nodes:
        return []
    there = sum(len(facts["devices"]["torch_gpus"]) for facts in reply.nodes.values())
    there = there if reply.gpus is None else min(there, int(reply.gpus))
    if there >= wanted:
        return []
    found = f"execution.gpus is {wanted:g}, {there} can be used"
    remedy = "lower execution.gpus, use 0 to embed on CPUs, or add GPU nodes"
    return [Finding("gpus", Status.FAIL, found, remedy)]
