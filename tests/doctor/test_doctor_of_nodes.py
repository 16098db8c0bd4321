"""Each fault of a machine is found, said with a remedy, and gone when it is mended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctored import build_config, doctor, failed

from weave_data.doctor import (
    Questions,
    WeightQuestion,
    ask_over_ray,
    clock,
    codecs,
    devices,
    disk,
    network,
    nodes,
    versions,
    weights,
)
from weave_data.execute import NodeAnswer


@pytest.fixture
def config(tmp_path: Path) -> Path:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "a.mp4").write_bytes(b"video")
    return build_config(tmp_path, source=str(clips), output=str(tmp_path / "out" / "woven"))


def test_a_good_folder_is_as_it_was(config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, found = doctor(config)
    assert (code, failed(found)) == (0, set())
    assert {"output", "conditional put", "source", "versions", "codecs", "scratch"} <= set(found)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_found(config: Path, small_disk: Path) -> None:
    full = small_disk / "full"
    full.write_bytes(bytes(5 << 19))
    code, found = doctor(config, f"execution.work_dir={small_disk}")
    assert (code, failed(found)) == (3, {"scratch"})
    assert "No space left" in found["scratch"]["found"]
    full.unlink()
    code, found = doctor(config, f"execution.work_dir={small_disk}")
    assert (code, found["scratch"]["status"]) == (0, "warn")  # 3 MB hold no part
    assert "cores x 1024 clips" in found["scratch"]["found"]
    assert doctor(config)[1]["scratch"]["status"] == "ok"


def test_scratch_that_is_a_file_is_found(config: Path) -> None:
    code, found = doctor(config, f"execution.work_dir={config}")
    assert (code, failed(found)) == (3, {"scratch"})


def test_an_output_that_can_not_be_written_is_found(config: Path) -> None:
    code, found = doctor(config, f"output={config}")
    assert (code, failed(found)) == (3, {"output"})
    assert "choose another output" in found["output"]["remedy"]


def test_a_source_and_a_catalog_that_are_not_there_are_found(config: Path, tmp_path: Path) -> None:
    code, found = doctor(config, f"source.videos={tmp_path}/none", f"source.catalog={tmp_path}/no.csv")
    assert (code, failed(found)) == (3, {"source", "catalog"})
    (tmp_path / "no.csv").write_text("path,caption\na.mp4,one\n")
    found = doctor(config, f"source.catalog={tmp_path}/no.csv")[1]
    assert found["catalog"]["status"] == "ok"


def test_a_decoder_that_can_not_be_loaded_is_found(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "decord", None)
        patch.delitem(sys.modules, "weave_data.decode.decord_decoder", raising=False)
        code, found = doctor(config, "frames.decoder=decord")
    assert (code, failed(found)) == (3, {"codecs"})
    assert "frames.decoder: pyav" in found["codecs"]["remedy"]
    pytest.importorskip("decord")
    assert doctor(config, "frames.decoder=decord")[0] == 0


def test_an_ffmpeg_without_a_codec_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    def status() -> str:
        return codecs.judge(codecs.look("pyav", ("jpeg", "png")), node="a")[0].status.value

    assert status() == "ok"
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"vp9"})
    assert status() == "warn"
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"h264"})
    assert status() == "fail"


def test_gpus_that_are_not_there_are_found(config: Path) -> None:
    import torch

    there = torch.cuda.device_count()
    wanted = ["embedding.model=ViT-B-32", "embedding.pretrained=random", "recipes.l1.strategy=clustered"]
    wanted += ["recipes.l1.clips_per_sample=2"]
    code, found = doctor(config, f"execution.gpus={there + 1}", *wanted)
    assert (code, failed(found)) == (3, {"gpus"})
    assert "lower execution.gpus" in found["gpus"]["remedy"]
    assert doctor(config, "execution.gpus=0", *wanted)[0] == 0


def test_weights_that_are_not_there_are_found(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "clip.safetensors"
    wanted = ["embedding.model=ViT-B-32", f"embedding.pretrained={file}", "recipes.l1.strategy=clustered"]
    wanted += ["recipes.l1.clips_per_sample=2"]
    code, found = doctor(config, *wanted)
    assert (code, failed(found)) == (3, {"weights"})
    assert "every node" in found["weights"]["remedy"]
    file.write_bytes(b"weights")
    assert doctor(config, *wanted)[1]["weights"]["status"] == "ok"
    code, found = doctor(config, *wanted, "embedding.model=ViT-B-33")
    assert (code, failed(found)) == (3, {"weights"})


def test_weights_of_the_hub_are_looked_for_in_its_cache_and_never_fetched(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    wanted = ["embedding.model=ViT-B-32", "embedding.pretrained=laion2b_s34b_b79k"]
    wanted += ["recipes.l1.strategy=clustered", "recipes.l1.clips_per_sample=2"]
    code, found = doctor(config, *wanted)
    assert (code, failed(found)) == (3, {"weights"})  # HF_HUB_OFFLINE is set in tests
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    code, found = doctor(config, *wanted)
    assert (code, found["weights"]["status"]) == (0, "warn")
    repository = found["weights"]["found"].split(" ")[1]
    snapshot = tmp_path / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_config.json").write_text("{}")
    assert doctor(config, *wanted)[1]["weights"]["status"] == "warn"  # a configuration is no weights
    (snapshot / "open_clip_model.safetensors").write_bytes(b"weights")
    assert doctor(config, *wanted)[1]["weights"]["status"] == "ok"


def test_weights_that_differ_between_nodes_are_found(tmp_path: Path) -> None:
    question = WeightQuestion(what="tower", kind="file", name=str(tmp_path / "w.pt"))
    seen = {}
    for node, data in {"a": b"one", "b": b"one", "c": b"two"}.items():
        (tmp_path / "w.pt").write_bytes(data)
        seen[node] = weights.look(question)
    assert [finding.status for finding in weights.judge(question, seen)] == ["ok", "fail"]
    del seen["c"]
    (good,) = weights.judge(question, seen)
    assert (good.status, good.node) == ("ok", "all 2")
    absent = weights.look(WeightQuestion(what="embedder", kind="package", name="no_such_package"))
    assert absent["path"] == ""


def test_versions_that_differ_between_nodes_are_found() -> None:
    here = versions.look(["videoweave", "numpy"])
    (equal,) = versions.judge({"a": here, "b": here})
    assert (equal.status, equal.node) == ("ok", "all 2")
    other = {**here, "numpy": "1.0", "code": "000000000000"}
    numpy, code = sorted(versions.judge({"a": here, "b": other}), key=lambda one: one.found, reverse=True)
    assert (numpy.status, code.status) == ("fail", "fail")
    assert numpy.found == f"numpy: {here['numpy']} on a; 1.0 on b"
    assert "constraints.txt" in numpy.remedy
    assert "checkout" in code.remedy
    (absent,) = versions.judge({"a": versions.look(["no-such-package"])})
    assert absent.status == "fail"


def test_cores_are_counted_against_frames() -> None:
    facts = {"cores": 16, "frame_ms": 2.0}
    enough = devices.cores_for_frames(facts, num_gpus=4, frames_per_second=1000, own_cores=1, node="a")
    assert (enough.status, "= 3.0" in enough.found) == ("ok", True)
    few = devices.cores_for_frames(facts, num_gpus=8, frames_per_second=1000, own_cores=1, node="a")
    assert (few.status, "33%" in few.remedy) == ("warn", True)
    measured = devices.look(needs_torch=False, times_frames=True)["frame_ms"]
    assert 0.3 < measured < 100


def test_a_clock_that_differs_from_the_other_nodes_is_found() -> None:
    def found(off_seconds: float) -> list[tuple[str, str]]:
        times = {"a": 1000.5, "b": 1001.0 + off_seconds}
        return [(one.node, one.status.value) for one in clock.judge_nodes(times, before=1000, after=1001)]

    assert found(0) == found(29) == found(-29) == []
    assert found(31) == found(-32) == [("b", "warn")]
    assert found(901) == found(-902) == [("b", "fail")]


def test_gpus_that_torch_does_not_see_are_found() -> None:
    facts = {"driver_gpus": 8, "torch_gpus": ["H100"] * 7, "cuda": "12.4"}
    few = devices.judge_gpus(facts, wants_gpu=True, node="a")
    assert (few.status, few.found) == ("warn", "the driver has 8 GPUs, torch (CUDA 12.4) sees 7")
    assert "CUDA_VISIBLE_DEVICES" in few.remedy
    assert devices.judge_gpus(facts, wants_gpu=False, node="a").status == "ok"
    all_seen = devices.judge_gpus({**facts, "driver_gpus": 7}, wants_gpu=True, node="a")
    assert (all_seen.status, all_seen.found.startswith("7 x H100;")) == ("ok", True)


def test_a_cluster_without_tokens_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        nodes, "ask_every_node", lambda *_, **__: [NodeAnswer("a", {"CPU": 2.0}, None, "died")]
    )
    for mode, status in {"disabled": "warn", "token": "ok"}.items():
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        found = {one.check: one for one in ask_over_ray(Questions(packages=()), "10.0.0.1:6379").findings}
        assert found["ray token"].status == status
        assert (found["nodes"].status, found["nodes"].found) == ("fail", "died")
    monkeypatch.delenv("RAY_AUTH_MODE")
    found = {one.check: one for one in ask_over_ray(Questions(packages=()), None).findings}
    assert "RAY_AUTH_MODE is not set" in found["ray token"].found


def test_a_small_dev_shm_is_found() -> None:
    facts = disk.look({})
    assert disk.judge_shm(facts, needed_bytes=0, why="", node="a")[0].status == "ok"
    small = {**facts, "shm": {"total": 64 << 20, "free": 64 << 20}}  # Docker's default
    (finding,) = disk.judge_shm(small, needed_bytes=2 << 30, why="", node="a")
    assert (finding.status, "--shm-size=2g" in finding.remedy) == ("warn", True)


TWO = {"eth0": ["10.0.0.1"], "docker0": ["172.17.0.1"]}
NETWORKS = [
    pytest.param(2, {}, "warn", id="several, none chosen"),
    pytest.param(1, {}, "ok", id="one node"),
    pytest.param(2, {"GLOO_SOCKET_IFNAME": "eth0"}, "warn", id="gloo alone"),
    pytest.param(2, {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth"}, "ok", id="both"),
    pytest.param(2, {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "^docker,lo"}, "ok", id="all but"),
    pytest.param(2, {"GLOO_SOCKET_IFNAME": "eth1"}, "fail", id="not there"),
    pytest.param(2, {"GLOO_SOCKET_IFNAME": "eth"}, "fail", id="gloo takes no prefix"),
    pytest.param(1, {"NCCL_SOCKET_IFNAME": "=eth"}, "fail", id="exact name"),
]


@pytest.mark.parametrize(("num_nodes", "chosen", "status"), NETWORKS)
def test_interfaces_are_chosen_where_there_are_several(
    num_nodes: int, chosen: dict[str, str], status: str
) -> None:
    facts = {"interfaces": TWO, "chosen": chosen}
    (finding,) = network.judge(facts, num_nodes=num_nodes, node="a")
    assert finding.status == status
    assert bool(finding.remedy) == (status != "ok")


@pytest.mark.process
def test_interfaces_are_those_that_are_up() -> None:
    script = (
        "ip link add one type veth peer name far && ip link add two type veth peer name off && "
        "ip link set one up && ip link set far up && "
        'ip addr add 198.18.0.1/24 dev one && ip addr add 198.19.0.1/24 dev two && exec "$@"'
    )
    code = "import json; from weave_data.doctor import network; print(json.dumps(network.look()))"
    inside = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, "-c", code]
    done = subprocess.run(
        inside, capture_output=True, text=True, check=False, env={**os.environ, "GLOO_SOCKET_IFNAME": "one"}
    )
    if done.returncode:
        pytest.skip(f"needs the right to make network namespaces: {done.stderr[-200:]}")
    expected = '{"interfaces": {"one": ["198.18.0.1"]}, "chosen": {"GLOO_SOCKET_IFNAME": "one"}}'
    assert done.stdout.strip() == expected
