"""The same claims against an S3 server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import CountingStore, World, make_world, publish_world
from servers import S3Server

from weave_data.errors import ConflictError, VerificationError
from weave_data.shard import (
    list_recipes,
    manifest_sha256,
    open_dataset,
    publish,
    read_manifest,
    read_row_group,
    verify_output,
)
from weave_data.storage import Store, open_store

pytestmark = pytest.mark.server


@pytest.fixture
def remote(s3: S3Server) -> Store:
    return open_store(f"s3://{s3.new_bucket()}/out")


def test_a_bucket_and_a_disk_hold_the_same_data_set(world: World, remote: Store, tmp_path: Path) -> None:
    there, here = publish_world(world, remote), publish_world(world, open_store(str(tmp_path)))
    assert manifest_sha256(there) == manifest_sha256(here)
    assert verify_output(remote).recipes == verify_output(open_store(str(tmp_path))).recipes


def test_a_row_group_in_a_bucket_is_one_request(world: World, remote: Store) -> None:
    publish_world(world, remote)
    opened = open_dataset(f"{remote.uri}/l4/manifest.json")
    counting = CountingStore(opened.store)
    for index in (0, 1, 0):
        read_row_group(counting, opened.manifest.shards[0], index)
    assert [call[0] for call in counting.calls] == ["get_range"] * 4


def test_a_copy_in_another_bucket_verifies(world: World, remote: Store, s3: S3Server) -> None:
    publish_world(world, remote)
    copy = open_store(f"s3://{s3.new_bucket()}/elsewhere/deep")
    for info in remote.list(""):
        copy.put_new(info.key, remote.get(info.key))
    assert verify_output(copy).recipes == verify_output(remote).recipes
    shard = read_manifest(copy, "l4").shards[0]
    broken = bytearray(copy.get(shard.path))
    broken[9_000] ^= 1
    copy.delete(shard.path)
    copy.put_new(shard.path, bytes(broken))
    with pytest.raises(VerificationError, match="stored bytes have sha256"):
        verify_output(copy, quick=True)


def test_of_two_builds_with_other_settings_one_publishes_and_one_is_told(
    remote: Store, real_s3: S3Server
) -> None:
    worlds = [
        make_world(rows=2, clips_per_sample=1, frames_per_sample=1, seed=seed, recipe="l1") for seed in (1, 2)
    ]

    def build(world: World) -> str:
        try:
            return publish_world(world, remote).fingerprint
        except ConflictError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        results = sorted(pool.map(build, worlds), key=len)
    assert results[0] == read_manifest(remote, "l1").fingerprint
    assert "recipe l1: published with recipe.seed = " in results[1]
    assert list_recipes(remote) == ("l1",)
    assert len(verify_output(remote).notes) == 1


def test_of_many_equal_builds_all_succeed(remote: Store, real_s3: S3Server) -> None:
    world = make_world(rows=2, clips_per_sample=1, frames_per_sample=1, recipe="l1")
    manifest = publish_world(world, remote)
    remote.delete("l1/manifest.json")
    with ThreadPoolExecutor(4) as pool:
        changed = list(pool.map(lambda _: publish(remote, manifest), range(4)))
    assert any(changed)
    assert read_manifest(remote, "l1") == manifest
