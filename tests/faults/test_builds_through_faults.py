"""Builds whose store refuses, resets, stalls, truncates and loses replies end as undisturbed ones do.

Nothing is lost and nothing is there twice: every object of the output is compared, by name and sha256.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from build_runs import ENDPOINT, contents, finished, manifests, start
from faults_world import Undisturbed, build_here, storm_of_everything, write_small_config
from s3server.faults import Fault, FaultProxy, Storm
from servers import S3Server

from weave_data.shard import verify_output
from weave_data.storage import open_store

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]

SHORT_STALL_S = 0.5
EACH = [
    (Fault.REFUSE, 0.15),
    (Fault.RESET, 0.15),
    (Fault.STALL, 0.03),
    (Fault.CUT_BODY, 0.15),
    (Fault.DROP_REPLY, 0.15),
]


def as_undisturbed(output: str, undisturbed: Undisturbed) -> None:
    assert manifests(output) == undisturbed.manifests
    assert contents(output) == undisturbed.contents
    verify_output(open_store(output, readonly=True))


def test_a_build_through_a_storm_of_all_faults_stores_the_same_objects(
    s3: S3Server, undisturbed: Undisturbed, own_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"{own_bucket}/woven"
    with FaultProxy(s3.endpoint, stall_seconds=SHORT_STALL_S) as proxy, monkeypatch.context() as patch:
        patch.setenv(ENDPOINT, proxy.endpoint)
        for fault, method in ((Fault.DROP_REPLY, "PUT"), (Fault.CUT_BODY, "GET"), (Fault.STALL, "GET")):
            proxy.plan(fault, only=method)
        proxy.storm = storm_of_everything(seed=7)
        build_here(undisturbed.source, output)
        assert len(proxy.happened) == 5, proxy.happened
    as_undisturbed(output, undisturbed)


def test_a_build_waits_while_the_server_is_gone_for_a_few_seconds(
    s3: S3Server, undisturbed: Undisturbed, own_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = f"{own_bucket}/woven"
    with FaultProxy(s3.endpoint) as proxy, monkeypatch.context() as patch:
        patch.setenv(ENDPOINT, proxy.endpoint)
        proxy.go_down_after(62, seconds=2.0)  # while clips are woven: nobody else tries again
        build_here(undisturbed.source, output)
        assert proxy.happened[Fault.RESET] >= 1
    as_undisturbed(output, undisturbed)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("in_process", [True, False], ids=["in_process", "ray"])
@pytest.mark.parametrize(("fault", "rate"), EACH, ids=lambda value: getattr(value, "value", ""))
def test_a_build_through_one_kind_of_fault_stores_the_same_objects(
    s3: S3Server,
    undisturbed: Undisturbed,
    own_bucket: str,
    tmp_path: Path,
    fault: Fault,
    rate: float,
    in_process: bool,
) -> None:
    output = f"{own_bucket}/woven"
    config = write_small_config(tmp_path, undisturbed.source, output, in_process=in_process)
    with FaultProxy(s3.endpoint, stall_seconds=30.0) as proxy:
        proxy.storm = Storm({fault: rate}, seed=11)
        finished(start(config, **{ENDPOINT: proxy.endpoint}))
        assert proxy.happened[fault] >= 1
    as_undisturbed(output, undisturbed)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("seed", range(3))
def test_a_build_on_ray_through_storms_stores_the_same_objects(
    s3: S3Server, undisturbed: Undisturbed, own_bucket: str, tmp_path: Path, seed: int
) -> None:
    output = f"{own_bucket}/woven"
    config = write_small_config(tmp_path, undisturbed.source, output, in_process=False)
    with FaultProxy(s3.endpoint, stall_seconds=30.0) as proxy:
        proxy.storm = storm_of_everything(seed)
        finished(start(config, **{ENDPOINT: proxy.endpoint}))
        assert len(proxy.happened) >= 3, proxy.happened
    as_undisturbed(output, undisturbed)
