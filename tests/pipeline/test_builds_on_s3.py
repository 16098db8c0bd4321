"""A build that reads from and writes to a bucket: the same manifest, whatever happens on the way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from build_runs import (
    DEADLINE_SECONDS,
    ENDPOINT,
    finished,
    kill_group,
    manifests,
    start,
    upload,
    write_config,
)
from s3server.gate import Gate, Point
from servers import S3Server

from weave_data.shard import read_manifest, verify_output
from weave_data.storage import open_store

pytestmark = [pytest.mark.server, pytest.mark.process, pytest.mark.xdist_group("s3-builds")]


@pytest.fixture(scope="module")
def source(s3: S3Server, rendered: Path) -> str:
    return upload(rendered, s3, s3.new_bucket(), "webvid")


@pytest.fixture(scope="module")
def local_hashes(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Manifests of the same build on local disk, in one process."""
    folder = tmp_path_factory.mktemp("local")
    finished(start(write_config(folder, str(rendered), str(folder / "woven"), in_process=True)))
    return manifests(str(folder / "woven"))


def test_a_build_in_a_bucket_has_the_manifest_of_a_local_one_and_moves_to_another_bucket(
    s3: S3Server, source: str, local_hashes: dict[str, str], tmp_path: Path
) -> None:
    bucket = s3.new_bucket()
    finished(start(write_config(tmp_path, source, f"s3://{bucket}/woven")))
    assert manifests(f"s3://{bucket}/woven") == local_hashes
    other = s3.new_bucket()
    client = s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for key in [item["Key"] for page in pages for item in page["Contents"]]:
        client.copy_object(Bucket=other, Key=f"moved/{key}", CopySource={"Bucket": bucket, "Key": key})
    verify_output(open_store(f"s3://{other}/moved/woven", readonly=True))
    again = finished(start(write_config(tmp_path, source, f"s3://{other}/moved/woven")))
    assert "nothing to do" in again


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point("PUT", "/frames/", "after"), marks=pytest.mark.slow),
        Point("PUT", "/shard-00001.parquet", "half-way"),
        pytest.param(Point("PUT", "/l4/manifest.json", "before"), marks=pytest.mark.slow),
    ],
    ids=lambda point: f"{point.when}-{point.fragment.strip('/').split('/')[0]}",
)
def test_a_build_killed_at_any_point_ends_with_the_same_manifest_when_run_again(
    s3: S3Server, source: str, local_hashes: dict[str, str], tmp_path: Path, point: Point
) -> None:
    output = f"s3://{s3.new_bucket()}/woven"
    config = write_config(tmp_path, source, output)
    with Gate(s3.endpoint, point) as gate:
        process = start(config, **{ENDPOINT: gate.endpoint})
        assert gate.reached.wait(DEADLINE_SECONDS), process.communicate(timeout=5)
        kill_group(process)
    assert "l4" not in manifests(output)
    said = finished(start(config))
    assert manifests(output) == local_hashes
    reused = int(said.split(" files written, ")[1].split(" reused")[0])
    assert reused > 0
    verify_output(open_store(output, readonly=True))


def test_two_builds_at_once_on_one_output_end_with_the_one_manifest(
    s3: S3Server, source: str, local_hashes: dict[str, str], tmp_path: Path
) -> None:
    output = f"s3://{s3.new_bucket()}/woven"
    config = write_config(tmp_path, source, output, in_process=True)
    both = [start(config), start(config)]
    for process in both:
        finished(process)
    assert manifests(output) == local_hashes


def test_of_two_builds_with_other_settings_one_publishes_and_the_other_names_the_difference(
    s3: S3Server, source: str, tmp_path: Path
) -> None:
    output = f"s3://{s3.new_bucket()}/woven"
    config = write_config(tmp_path, source, output, in_process=True)
    both = [start(config, f"recipes.l4.seed={seed}") for seed in (1, 2)]
    ends = [process.communicate(timeout=DEADLINE_SECONDS) for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], ends
    loser = ends[codes.index(2)][1]
    assert "recipe l4: published with recipe.seed = " in loser
    verify_output(open_store(output, readonly=True))
    assert read_manifest(open_store(output, readonly=True), "l4").configuration["recipe"]["seed"] in (1, 2)


def refused(config: Path, **environment: str) -> str:
    process = start(config, **environment)
    said = finished(process, code=3)
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, said
    return lines[0]


Break = Callable[[S3Server, str, Path], tuple[Path, dict[str, str]]]


def wrong_secret(server: S3Server, source: str, folder: Path) -> tuple[Path, dict[str, str]]:
    config = write_config(folder, source, f"s3://{server.new_bucket()}/woven")
    return config, {"AWS_SECRET_ACCESS_KEY": "wrong"}


def no_bucket(server: S3Server, source: str, folder: Path) -> tuple[Path, dict[str, str]]:
    return write_config(folder, source, "s3://no-such-bucket-here/woven"), {}


def no_prefix(server: S3Server, source: str, folder: Path) -> tuple[Path, dict[str, str]]:
    return write_config(folder, source + "-typo", f"s3://{server.new_bucket()}/woven"), {}


def nobody_answers(server: S3Server, source: str, folder: Path) -> tuple[Path, dict[str, str]]:
    config = write_config(folder, source, f"s3://{server.new_bucket()}/woven")
    return config, {ENDPOINT: "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (wrong_secret, "credentials"),
        (no_bucket, "no-such-bucket-here"),
        (no_prefix, "webvid-typo"),
        (nobody_answers, "127.0.0.1:9"),
    ],
)
def test_a_store_that_can_not_be_used_is_one_clear_line_before_any_work(
    real_s3: S3Server, source: str, tmp_path: Path, break_it: Break, words: str
) -> None:
    config, environment = break_it(real_s3, source, tmp_path)
    assert words in refused(config, **environment)


@pytest.fixture
def without_simd(tmp_path: Path) -> str:
    """A folder whose `sitecustomize` makes one of two workers decode without SIMD instructions."""
    folder = tmp_path / "site"
    folder.mkdir()
    source = Path(__file__).parent / "without_simd.py"
    shutil.copy(source, folder / "sitecustomize.py")
    return str(folder)


def test_one_worker_and_two_with_another_cpu_give_the_same_manifest(
    rendered: Path, local_hashes: dict[str, str], tmp_path: Path, without_simd: str
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    finished(start(write_config(one, str(rendered), str(one / "woven"), num_cpus=1)))
    marks = tmp_path / "marks"
    marks.mkdir()
    finished(
        start(
            write_config(two, str(rendered), str(two / "woven"), num_cpus=2),
            PYTHONPATH=without_simd,
            WEAVE_TEST_MARKS=str(marks),
        )
    )
    assert manifests(str(one / "woven")) == manifests(str(two / "woven")) == local_hashes
    names = {path.name for path in marks.iterdir()}
    assert "no-simd" in names
    assert len(names) >= 2, "every part was decoded without SIMD instructions"


def test_a_finished_build_starts_no_ray(rendered: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, str(rendered), str(tmp_path / "woven"), num_cpus=1)
    finished(start(config))
    process = start(config)
    seen: set[str] = set()
    while process.poll() is None:
        try:
            seen |= {child.name() for child in psutil.Process(process.pid).children(recursive=True)}
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    assert "nothing to do" in finished(process)
    assert not {name for name in seen if "ray" in name or "gcs" in name}
