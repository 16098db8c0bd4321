"""`weave-train doctor`: faults of data, checkpoints, weights and machines of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import write_woven_dataset
from doctored import Found, NoDelete, OtherServer, Unconditional, by_check, failed
from servers import S3Server

from weave_data.doctor import NodeReply, Questions, WeightQuestion, ask_here, weights
from weave_data.doctor.disk import look as look_at_disk
from weave_train.config import PretrainConfig, load_pretrain_config
from weave_train.doctor import examine_run, run
from weave_train.doctor.room import checkpoint_bytes, frames_per_second
from weave_train.doctor.run import _of_node as of_node
from weave_train.doctor.weights import weight_questions
from weave_train.train.run_directory import model_settings


@pytest.fixture(scope="module", autouse=True)
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a small woven data set; what a run reads where a test says nothing else."""
    found = write_woven_dataset(tmp_path_factory.mktemp("woven"), rows=4)
    DEFAULTS["dataset.manifest"] = found
    yield found
    DEFAULTS.clear()


DEFAULTS: dict[str, object] = {}


def pretrain_config(**flags: object) -> PretrainConfig:
    return load_pretrain_config(list({**DEFAULTS, **flags}.items()))


def doctor(folder: Path, **flags: object) -> tuple[int, Found]:
    given = {"model.type": "tiny", "run_root_dir": str(folder / "runs"), **flags}
    report = examine_run(pretrain_config(**given))
    return report.exit_code, by_check(json.dumps(report.to_json()))


def test_a_run_without_faults_leaves_everything_as_it_was(tmp_path: Path) -> None:
    code, found = doctor(tmp_path)
    assert (code, failed(found)) == (0, set())
    assert {"run directory", "conditional put", "versions", "codecs", "gpus", "disk", "network"} <= set(found)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("gpus", "is_enough"), [(36.0, True), (32.0, True), (31.0, False), (None, True), (0.0, True)]
)
def test_gpus_of_a_ray_cluster_are_counted_together(gpus, is_enough, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    config = pretrain_config(**{"model.type": "tiny", "launcher": "ray", "num_ranks": 32})
    # a head without, embedding nodes with one GPU, training nodes with eight
    nodes = {f"node-{index}": {"devices": {"torch_gpus": ["H100"] * n}} for index, n in enumerate((0, 1, 8))}
    reply = NodeReply(nodes, (), 0.0, 0.0, gpus=gpus)
    assert [run._ranks(config, reply, None, node) for node in nodes] == [0, 1, 8]
    found = run._gpus_of_cluster(config, reply)
    assert [finding.status.value for finding in found] == ([] if is_enough else ["fail"])
    monkeypatch.delenv("RAY_ADDRESS")
    assert run._gpus_of_cluster(config, reply) == []


def test_a_manifest_that_is_not_there_is_found(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, **{"dataset.manifest": str(tmp_path / "woven" / "l4" / "manifest.json")})
    assert (code, failed(found)) == (3, {"data"})


def test_a_run_directory_that_is_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    code, found = doctor(tmp_path)
    assert (code, failed(found)) == (3, {"run directory", "disk"})


def test_local_weights_that_lack_a_file_are_found(tmp_path: Path) -> None:
    copy = tmp_path / "llama"
    copy.mkdir()
    (copy / "config.json").write_text("{}")
    flags = {"model.llm_backbone_id": "llama2-7b-pure", "model.llm_weights": str(copy)}
    code, found = doctor(tmp_path, **flags)
    assert (code, failed(found)) == (3, {"weights"})
    assert (
        "has no tokenizer.json or tokenizer.model or vocab.json, *.safetensors" in found["weights"]["found"]
    )
    (copy / "tokenizer.json").write_text("{}")
    (copy / "model.safetensors").write_bytes(b"weights")
    assert doctor(tmp_path, **flags)[1]["weights"]["status"] == "ok"
    code, found = doctor(tmp_path, **{**flags, "model.llm_weights": str(tmp_path / "nowhere")})
    assert (code, failed(found)) == (3, {"weights"})


def test_published_weights_are_looked_for_in_the_cache_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    config = pretrain_config(**{"model.llm_backbone_id": "vicuna-v15-7b"})
    asked, problems = weight_questions(config, model_settings(config, {}))
    assert problems == []
    names = {question.name: question for question in asked}
    assert set(names) == {"lmsys/vicuna-7b-v1.5", "timm/vit_large_patch14_clip_336.openai"}
    question = names["lmsys/vicuna-7b-v1.5"]
    (absent,) = weights.judge(question, {"a": weights.look(question)})
    assert (absent.status, "HF_HOME" in absent.remedy) == ("fail", True)
    snapshot = tmp_path / "hub" / "models--lmsys--vicuna-7b-v1.5" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "tokenizer.model", "pytorch_model-00001-of-00002.bin"):
        (snapshot / name).write_bytes(b"x")
    (there,) = weights.judge(question, {"a": weights.look(question)})
    assert there.status == "ok"


def test_weights_of_one_node_are_missed_on_the_other(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    question = WeightQuestion(what="tower", kind="file", name=str(file))
    without = weights.look(question)
    file.write_bytes(b"weights")
    findings = weights.judge(question, {"a": weights.look(question), "b": without})
    assert [(one.status.value, one.node) for one in findings] == [("ok", "a"), ("fail", "b")]


def test_room_follows_the_model(tmp_path: Path) -> None:
    def config(**flags: object) -> PretrainConfig:
        return pretrain_config(**{"model.llm_backbone_id": "llama2-7b-pure", **flags})

    # 6.74 billion parameters, 12 bytes each
    assert checkpoint_bytes(config()) == pytest.approx(12 * 6.738e9, rel=1e-2)
    assert checkpoint_bytes(config(master_weights="bf16")) == pytest.approx(6 * 6.738e9, rel=1e-2)
    assert checkpoint_bytes(config(**{"lora.rank": 8})) == 0
    # 4.41e14 FLOPs for 16 frames at 30 % of an H100
    assert frames_per_second("NVIDIA H100 80GB HBM3", config()) == pytest.approx(10.8, abs=0.1)


def test_fewer_gpus_than_ranks_and_too_few_workers_are_found(tmp_path: Path) -> None:
    here = ask_here(Questions(packages=()))
    (facts,) = here.nodes.values()
    gpus = {
        "torch_gpus": ["NVIDIA H100 80GB HBM3"] * 2,
        "driver_gpus": 2,
        "cuda": "12",
        "frame_ms": 4.0,
        "cores": 64,
    }
    facts = {**facts, "devices": {**facts["devices"], **gpus}}
    facts["disk"] = {
        **facts["disk"],
        "folders": {"run directory": look_at_disk({"r": str(tmp_path)})["folders"]["r"]},
    }

    def found(ranks: int, **flags: object) -> dict[tuple[str, str], str]:
        config = pretrain_config(**{"model.llm_backbone_id": "llama2-7b-pure", **flags})
        return {
            (one.check, one.status.value): one.found
            for one in of_node(config, facts, here, ranks=ranks, node="a")
        }

    assert found(3)["gpus", "fail"] == "2 GPUs for 3 ranks"
    assert ("gpus", "fail") not in found(2)
    slow = {**facts["devices"], "frame_ms": 400.0}
    facts["devices"] = slow
    assert "2 threads make 5 frames/s into pixels" in found(2, num_workers=2)["cores", "warn"]
    assert ("cores", "warn") not in found(2, num_workers=8)


@pytest.mark.server
def test_checkpoints_are_tried_in_their_bucket(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.new_bucket()
    flags = {"checkpoint.uri": f"s3://{bucket}/runs"}
    code, found = doctor(tmp_path, **flags)
    assert (code, found["checkpoints"]["status"], found["clock"]["status"]) == (0, "ok", "ok")
    code, found = doctor(tmp_path, **{"checkpoint.uri": "s3://no-such-bucket-here/runs"})
    assert (code, failed(found)) == (3, {"bucket"})
    with OtherServer(s3, Unconditional) as other, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", other.endpoint)
        code, found = doctor(tmp_path, **flags)
    assert (code, failed(found)) == (3, {"conditional put", "conditional replace"})
    with OtherServer(s3, NoDelete) as other, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", other.endpoint)
        assert doctor(tmp_path, **flags)[1]["checkpoints"]["status"] == "warn"
    assert doctor(tmp_path, **flags)[0] == 0


@pytest.mark.process
def test_the_command_prints_a_table_and_ends_with_its_code(tmp_path: Path, manifest: str) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "weave_train", "doctor", "--model.type", "tiny", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    good = run("--dataset.manifest", manifest)
    assert good.returncode == 0, good.stderr
    assert "checks: 0 failed" in good.stdout
    bad = run("--dataset.manifest", "nowhere/l4/manifest.json", "--json")
    assert bad.returncode == 3
    assert failed(by_check(bad.stdout)) == {"data"}
    assert run("--model.num_frame", "3").returncode == 2
