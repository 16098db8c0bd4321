"""Full disks, read-only scratch, changed objects, rivals, no memory: a clear end, and the build resumes."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from build_runs import finished, manifests, start, write_config
from faults_world import render_small_world
from small_builds import settings

from weave_data.config import BuildConfig, load_config, parse_overrides
from weave_data.errors import ConflictError, IncompleteError, SourceError, StoreError, WeaveError
from weave_data.execute import InProcessExecutor, Step
from weave_data.pipeline import build
from weave_data.shard import verify_output
from weave_data.storage import open_store

pytestmark = pytest.mark.process

MakeDisk = Callable[..., Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "source"
    render_small_world(folder)
    return folder


@pytest.fixture(scope="module")
def truth(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The manifests of a build that nobody disturbs."""
    output = str(tmp_path_factory.mktemp("truth") / "woven")
    build(config_of(world, output))
    return manifests(output)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Mounts a file system of `size` at a folder, or changes the one there."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def make(size: str, *options: str) -> Path:
        nonlocal mounted
        flags = ",".join([*(["remount"] if mounted else []), f"size={size}", *options])
        command = ["mount", "-t", "tmpfs", "-o", flags, "weave-test", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small file system needs root and CAP_SYS_ADMIN: {done.stderr.strip()}")
        mounted = True
        return folder

    yield make
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def config_of(world: Path, output: str, *overrides: str) -> BuildConfig:
    return load_config(
        BuildConfig, settings(str(world), output), overrides=parse_overrides(overrides), origin="test"
    )


def check_resumed(config: BuildConfig, truth: dict[str, str]) -> None:
    build(config)
    assert manifests(config.output) == truth
    verify_output(open_store(config.output))


@pytest.mark.parametrize("size", ["4k", "16k", "40k"])
def test_a_full_scratch_disk_ends_a_build_with_what_to_do_and_it_resumes(
    world: Path, truth: dict[str, str], make_disk: MakeDisk, tmp_path: Path, size: str
) -> None:
    config = config_of(world, str(tmp_path / "woven"), f"execution.work_dir={make_disk(size)}")
    with pytest.raises((IncompleteError, SourceError), match=r"No space left.*execution\.work_dir"):
        build(config)
    assert not manifests(config.output)
    make_disk("64m")
    check_resumed(config, truth)


def test_a_full_output_disk_ends_a_build_and_it_resumes(
    world: Path, truth: dict[str, str], make_disk: MakeDisk
) -> None:
    config = config_of(world, str(make_disk("150k") / "woven"))
    with pytest.raises(StoreError, match=r"No space left on device"):
        build(config)
    assert not manifests(config.output)
    make_disk("64m")
    check_resumed(config, truth)


def test_read_only_scratch_is_said_before_a_clip_is_decoded_and_the_build_resumes(
    world: Path, truth: dict[str, str], make_disk: MakeDisk, tmp_path: Path
) -> None:
    config = config_of(world, str(tmp_path / "woven"), f"execution.work_dir={make_disk('1m', 'ro')}")
    with pytest.raises(SourceError, match=r"execution\.work_dir: .*Read-only file system.*TMPDIR"):
        build(config)
    assert not (tmp_path / "woven" / "frames").exists()
    make_disk("64m", "rw")
    check_resumed(config, truth)


def test_an_object_replaced_by_one_of_the_same_size_never_mixes_with_its_stored_frames(
    world: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(world, source)
    config = config_of(source, str(tmp_path / "woven"), "recipes.l1.frames_per_sample=2")
    build(config)
    victim = next(source.rglob("*.mp4"))
    original = victim.read_bytes()
    victim.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    more = config_of(source, config.output, "recipes.l1.name=more", "recipes.more.frames_per_sample=9")
    with pytest.raises(IncompleteError, match=rf"{victim.stem} .source_changed: sha256 \w+, \w+ when frames"):
        build(more)
    assert "more" not in manifests(config.output)
    victim.write_bytes(original)
    build(more)
    verify_output(open_store(config.output))


def test_of_two_builds_with_other_settings_on_one_output_at_once_one_is_told(
    world: Path, tmp_path: Path
) -> None:
    output, meeting = str(tmp_path / "woven"), threading.Barrier(2)
    errors: list[WeaveError] = []

    class Together(InProcessExecutor):
        def run(self, step: Step) -> Iterator[Any]:
            if step.name == "decode":
                meeting.wait(timeout=300)  # neither has published when the other has looked
            yield from super().run(step)

    def run(seed: int) -> None:
        try:
            build(config_of(world, output, f"recipes.l4.seed={seed}"), executor=Together())
        except WeaveError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [ConflictError]
    assert "another writer replaced it" in str(errors[0]) or "--replace" in str(errors[0])
    assert set(manifests(output)) == {"l1", "l4"}
    verify_output(open_store(output))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_workers_without_memory_end_a_build_on_ray_and_it_resumes(
    world: Path, truth: dict[str, str], tmp_path: Path
) -> None:
    output = str(tmp_path / "woven")
    config = write_config(tmp_path, str(world), output)
    # Ray's own monitor ends every worker of a machine that has more than this in use
    said = finished(start(config, RAY_memory_usage_threshold="0.01", RAY_task_oom_retries="2"), code=6)
    assert "error: decode: a worker died" in said
    assert "memory" in said
    assert "run the same command again" in said
    assert not manifests(output)
    finished(start(config))
    assert manifests(output) == truth


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_full_scratch_disk_ends_a_build_on_ray_with_its_exit_code_and_one_line(
    world: Path, truth: dict[str, str], make_disk: MakeDisk, tmp_path: Path
) -> None:
    output = str(tmp_path / "woven")
    config = write_config(tmp_path, str(world), output, work_dir=str(make_disk("16k")))
    said = finished(start(config), code=6)
    assert "No space left on device on local scratch" in said
    assert "Traceback" not in said
    make_disk("64m")
    finished(start(config))
    assert manifests(output) == truth
