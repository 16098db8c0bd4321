"""KubeRay manifests against a table of fields, and against the published definitions where they are."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from kuberay_fields import KUBERAY_VERSION, RAY_CLUSTER, RAY_JOB, problems
from published_shapes import FOLDER

from weave_data.config import BuildConfig, load_config, read_yaml

CRDS = "WEAVE_KUBERAY_CRDS"
"""Environment variable: a folder with KubeRay's definitions."""

FIELDS = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}


def objects(name: str) -> dict[str, Any]:
    text = (FOLDER / "kuberay" / name).read_text(encoding="utf-8")
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def manifest(kind: str) -> dict[str, Any]:
    value: dict[str, Any] = objects({"RayCluster": "raycluster.yaml", "RayJob": "rayjob.yaml"}[kind])[kind]
    return value


def clusters() -> list[dict[str, Any]]:
    return [manifest("RayCluster")["spec"], manifest("RayJob")["spec"]["rayClusterSpec"]]


def strict(schema: Any) -> Any:
    """The schema with every field it does not name forbidden, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    is_open = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        made["additionalProperties"] = False
    return made


def published_schema(kind: str) -> Any:
    folder = os.environ.get(CRDS)
    if folder is None:
        pytest.skip(f"{CRDS} names no folder with the definitions of KubeRay {KUBERAY_VERSION}")
    text = (Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text(encoding="utf-8")
    definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


@pytest.mark.parametrize("kind", FIELDS)
def test_a_manifest_has_the_fields_of_its_kind(kind: str) -> None:
    value = manifest(kind)
    assert value["apiVersion"] == "ray.io/v1"
    assert problems(value, FIELDS[kind]) == []


def test_the_table_finds_what_is_wrong() -> None:
    value = copy.deepcopy(manifest("RayCluster"))
    group = value["spec"]["workerGroupSpecs"][0]
    group["maxReplica"] = group.pop("maxReplicas")
    assert problems(value, RAY_CLUSTER) == [
        ".spec.workerGroupSpecs[0].maxReplica: unknown",
        ".spec.workerGroupSpecs[0].maxReplicas: missing",
    ]


@pytest.mark.parametrize("kind", FIELDS)
def test_the_published_definition_accepts_a_manifest(kind: str) -> None:
    schema, value = published_schema(kind), manifest(kind)
    jsonschema.Draft7Validator(schema).validate(value)
    spec = value["spec"] if kind == "RayCluster" else value["spec"]["rayClusterSpec"]
    spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(jsonschema.ValidationError, match="resource"):
        jsonschema.Draft7Validator(schema).validate(value)


@pytest.mark.parametrize("cluster", clusters(), ids=list(FIELDS))
def test_a_cluster_decodes_on_spot_cpus_embeds_on_gpus_and_asks_for_tokens(cluster: dict[str, Any]) -> None:
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert groups["decode"]["minReplicas"] == 0
    assert groups["decode"]["template"]["spec"]["nodeSelector"] == {"weave/pool": "spot"}
    for name, group in groups.items():
        pod = group["template"]["spec"]
        limits = pod["containers"][0]["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) == (name != "decode")
        assert group["rayStartParams"] == ({} if name == "decode" else {"num-cpus": "0"})
        assert pod["serviceAccountName"] == "videoweave"
        assert "env" not in pod["containers"][0]


def test_the_job_has_the_groups_of_the_cluster_that_stays() -> None:
    cluster, job = clusters()
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert [group["groupName"] for group in job["workerGroupSpecs"]] == ["decode", "embed"]
    assert all(group == groups[group["groupName"]] for group in job["workerGroupSpecs"])


def test_the_job_builds_the_configuration_it_carries() -> None:
    found = objects("rayjob.yaml")
    text = found["ConfigMap"]["data"]["weave.yaml"]
    config = load_config(BuildConfig, read_yaml(text, origin="rayjob.yaml"), origin="rayjob.yaml")
    spec = found["RayJob"]["spec"]
    pod = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    (mount,), (volume,) = pod["containers"][0]["volumeMounts"], pod["volumes"]
    assert volume == {"name": mount["name"], "configMap": {"name": found["ConfigMap"]["metadata"]["name"]}}
    assert spec["entrypoint"] == f"weave-data build {mount['mountPath']}/weave.yaml"
    embed = spec["rayClusterSpec"]["workerGroupSpecs"][1]
    assert config.execution.gpus == embed["minReplicas"]
