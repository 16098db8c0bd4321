"""Fields of KubeRay's objects that our manifests may use, and those that must be there.

Source:
    The custom resource definitions `ray.io_rayclusters.yaml` and `ray.io_rayjobs.yaml` of KubeRay 1.7.0
    (helm-chart/kuberay-operator/crds), version v1. Pods are checked as far as we write them; of containers
    Kubernetes' own required fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KUBERAY_VERSION", "RAY_CLUSTER", "RAY_JOB", "Fields", "problems"]

KUBERAY_VERSION = "1.7.0"


@dataclass(frozen=True)
class Fields:
    """Of one object: names with the fields below, None where anything may follow; `many`: a list of such."""

    known: Mapping[str, Fields | None]
    required: frozenset[str] = frozenset()
    many: bool = False


def _plain(names: str) -> dict[str, Fields | None]:
    return dict.fromkeys(names.split())


_CONTAINER = Fields(
    _plain(
        "name image imagePullPolicy command args env envFrom ports resources volumeMounts securityContext"
    ),
    frozenset({"name", "image"}),
    many=True,
)
_POD = Fields(
    {
        **_plain("serviceAccountName nodeSelector tolerations volumes affinity imagePullSecrets"),
        "containers": _CONTAINER,
    },
    frozenset({"containers"}),
)
_TEMPLATE = Fields({"metadata": None, "spec": _POD}, frozenset({"spec"}))
_SPEC = Fields(
    {
        **_plain(
            "enableInTreeAutoscaling gcsFaultToleranceOptions headServiceAnnotations historyServerOptions "
            "managedBy networkPolicy rayVersion suspend tlsOptions upgradeStrategy"
        ),
        "authOptions": Fields(_plain("enableK8sTokenAuth mode secretName")),
        "autoscalerOptions": Fields(
            _plain(
                "args command env envFrom idleTimeoutSeconds image imagePullPolicy resources "
                "securityContext upscalingMode version volumeMounts"
            )
        ),
        "headGroupSpec": Fields(
            {
                **_plain(
                    "enableIngress headService ingressOptions labels rayStartParams resources serviceType"
                ),
                "template": _TEMPLATE,
            },
            frozenset({"template"}),
        ),
        "workerGroupSpecs": Fields(
            {
                **_plain(
                    "groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts priority "
                    "rayStartParams replicas resources scaleStrategy suspend"
                ),
                "template": _TEMPLATE,
            },
            frozenset({"groupName", "maxReplicas", "minReplicas", "template"}),
            many=True,
        ),
    },
    frozenset({"headGroupSpec"}),
)
_JOB_SPEC = Fields(
    {
        **_plain(
            "activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint "
            "entrypointNumCpus entrypointNumGpus entrypointResources jobId managedBy metadata "
            "preRunningDeadlineSeconds runtimeEnvYAML shutdownAfterJobFinishes submissionMode "
            "submitterConfig submitterPodTemplate suspend ttlSecondsAfterFinished"
        ),
        "rayClusterSpec": _SPEC,
    }
)
_OBJECT = _plain("apiVersion kind metadata")
_HEADER = frozenset({"apiVersion", "kind", "metadata", "spec"})
RAY_CLUSTER = Fields({**_OBJECT, "spec": _SPEC}, _HEADER)
RAY_JOB = Fields({**_OBJECT, "spec": _JOB_SPEC}, _HEADER)


def problems(value: object, fields: Fields, path: str = "") -> list[str]:
    """Unknown and missing fields, a line each."""
    if fields.many:
        if not isinstance(value, list):
            return [f"{path}: not a list"]
        one = Fields(fields.known, fields.required)
        return [line for index, item in enumerate(value) for line in problems(item, one, f"{path}[{index}]")]
    if not isinstance(value, dict):
        return [f"{path}: not an object"]
    found = [f"{path}.{name}: unknown" for name in value if name not in fields.known]
    found += [f"{path}.{name}: missing" for name in sorted(fields.required - set(value))]
    for name, below in fields.known.items():
        if below is not None and name in value:
            found += problems(value[name], below, f"{path}.{name}")
    return found
