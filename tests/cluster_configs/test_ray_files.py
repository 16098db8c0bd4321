"""Files that Ray and DeepSpeed read, through their own schemas, classes and readers."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import yaml
from published_shapes import FOLDER

AWS = FOLDER / "ray" / "aws.yaml"
DEEPSPEED = sorted((FOLDER / "deepspeed").glob("*.json"))


@pytest.fixture
def cluster() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(AWS.read_text(encoding="utf-8"))
    return values


def run_instances_problems(node_config: dict[str, Any]) -> str:
    """What EC2's own definition of the request says, as boto3 ships it."""
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    model = get_session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    request = {**node_config, "MinCount": 1, "MaxCount": 1}
    return ParamValidator().validate(request, shape).generate_report()


def test_rays_launcher_accepts_the_cluster(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["setup_commands"] == []
    assert "head_node" not in prepared
    assert "worker_nodes" not in prepared


def test_rays_launcher_refuses_a_setting_it_does_not_know(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster["available_node_types"]["decode"]["max_worker"] = 3
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config(cluster))


def test_ec2_knows_every_setting_of_a_node(cluster: dict[str, Any]) -> None:
    nodes = cluster["available_node_types"]
    assert {
        name: run_instances_problems(node["node_config"]) for name, node in nodes.items()
    } == dict.fromkeys(nodes, "")
    wrong = {**nodes["decode"]["node_config"], "InstanceMarket": {}}
    assert "InstanceMarket" in run_instances_problems(wrong)


def test_the_head_runs_no_task_and_cpus_come_and_go_by_spot(cluster: dict[str, Any]) -> None:
    nodes = cluster["available_node_types"]
    assert nodes[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    assert any("--num-cpus=0" in command for command in cluster["head_start_ray_commands"])
    decode = nodes["decode"]
    assert decode["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert decode["min_workers"] == 0
    workers = [node["max_workers"] for name, node in nodes.items() if name != "head"]
    assert cluster["max_workers"] == sum(workers)
    gpus = {name for name, node in nodes.items() if node["resources"].get("GPU")}
    assert gpus == {"embed", "train"}
    assert all("--gpus all" in nodes[name]["docker"]["worker_run_options"] for name in gpus)
    assert not any("InstanceMarketOptions" in nodes[name]["node_config"] for name in gpus)


def test_a_build_of_the_profile_finds_its_gpus(cluster: dict[str, Any]) -> None:
    build = yaml.safe_load((FOLDER / "profiles" / "four-by-eight-gpus" / "build.yaml").read_text())
    embed = cluster["available_node_types"]["embed"]
    assert embed["min_workers"] * embed["resources"]["GPU"] == build["execution"]["gpus"]


def test_tokens_are_asked_for_and_keys_are_not_there(cluster: dict[str, Any]) -> None:
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    for node in cluster["available_node_types"].values():
        config = node["node_config"]
        assert config["IamInstanceProfile"]["Name"]
        assert config["MetadataOptions"]["HttpTokens"] == "required"
        assert config["BlockDeviceMappings"][0]["Ebs"]["Encrypted"]
    assert not any("0.0.0.0" in command for command in cluster["head_start_ray_commands"])


def test_no_file_names_a_key_or_an_account() -> None:
    secret = re.compile(r"AKIA|ASIA|AWS_SECRET|AWS_ACCESS|aws_secret|arn:aws|\b\d{12}\b|BEGIN .*PRIVATE KEY")
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert [str(path) for path in files if secret.search(path.read_text(encoding="utf-8"))] == []


def test_ray_accepts_the_runtime_environment() -> None:
    from ray.runtime_env import RuntimeEnv

    values = yaml.safe_load((FOLDER / "runtime_env.yaml").read_text(encoding="utf-8"))
    environment = RuntimeEnv(**values)
    assert environment.env_vars() == values["env_vars"]
    assert environment["excludes"] == values["excludes"]
    with pytest.raises(TypeError):
        RuntimeEnv(**{**values, "env_vars": {"TOKENIZERS_PARALLELISM": False}})


def test_deepspeed_reads_the_hosts() -> None:
    from deepspeed.launcher.runner import fetch_hostfile

    hosts = fetch_hostfile(str(FOLDER / "deepspeed" / "hostfile"))
    assert list(hosts.values()) == [8] * 4


@pytest.mark.parametrize("path", DEEPSPEED, ids=lambda path: path.stem)
def test_deepspeed_accepts_the_file_beside_what_the_trainer_adds(path) -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    from weave_train.engine.deepspeed_config import EngineSettings, deepspeed_config, read_deepspeed_file

    stage, extra = read_deepspeed_file(path)
    settings = EngineSettings(
        zero_stage=stage,
        precision="fp32" if stage == 0 else "bf16",
        micro_batch_rows=1,
        micro_steps=2,
        max_grad_norm=1.0,
        weight_decay=0.1,
        extra=extra,
    )
    accepted = DeepSpeedConfig(deepspeed_config(settings, trained_parameters=1_000_000))
    assert accepted.zero_config.stage == stage
    offloads = path.stem.endswith("-offload")
    assert (accepted.zero_config.offload_optimizer is not None) == offloads


def test_deepspeed_refuses_a_setting_it_does_not_know() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    section = json.loads(DEEPSPEED[2].read_text(encoding="utf-8"))["zero_optimization"]
    DeepSpeedZeroConfig(**section)
    with pytest.raises(ValueError, match="overlap_com"):
        DeepSpeedZeroConfig(**section, overlap_com=True)
