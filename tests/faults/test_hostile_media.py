"""Hostile media cost themselves alone: no job ends, nothing outlives its deadline, all is accounted for."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from bad_decoders import BUG, CRASH, EXIT, GREEDY, HANG
from hostile_builds import HostileFolder
from hostile_media import KINDS, load_bases, variants
from hostile_run import Books, Limits, run_variants

from weave_data.config import BuildConfig
from weave_data.errors import IncompleteError
from weave_data.pipeline import build
from weave_data.records import CONTENT_REASONS, RejectReason
from weave_data.shard import iter_rows, list_recipes, read_manifest, verify_output
from weave_data.storage import open_store

pytestmark = pytest.mark.process

MISBEHAVING, LEAKING = "bad_decoders:MisbehavingDecoder", "bad_decoders:LeakingDecoder"


def check_books(books: Books, num_inputs: int) -> None:
    summary = books.summary()
    assert summary["problems"] == []
    assert summary["inputs"] == num_inputs
    assert summary["decoded"] + summary["rejected"] + summary["open"] == num_inputs
    assert set(books.outcomes) == set(KINDS)


def test_every_hostile_input_ends_with_a_typed_reason_in_time_and_memory() -> None:
    inputs = variants(load_bases(is_light=True), seed=6, count=6 * len(KINDS))
    books = run_variants(inputs, Limits(timeout_seconds=60.0))
    check_books(books, 6 * len(KINDS))
    assert books.num_started < 10  # most are refused without losing the process
    assert min(books.total(name) for name in ("decoded", "corrupt", "not_an_image", "truncated")) > 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_thousands_of_hostile_inputs_end_with_the_same_reason_twice(decoder: str) -> None:
    count = 100 * len(KINDS) if decoder == "pyav" else 20 * len(KINDS)
    inputs = variants(load_bases(), seed=2026, count=count)
    check_books(run_variants(inputs, Limits(decoder=decoder), twice=decoder == "pyav"), count)


@pytest.mark.parametrize("leaks", [False, True])
def test_a_build_of_hostile_media_names_what_it_lost_and_builds_the_rest(leaks: bool, tmp_path: Path) -> None:
    folder = HostileFolder(tmp_path)
    inputs = variants(load_bases(is_light=True), seed=11, count=len(KINDS))
    good = folder.fill([] if leaks else inputs, [] if leaks else [CRASH, EXIT, BUG], num_good=20)
    limits = {"in_process": True, "clip_timeout_seconds": 60.0, "clip_memory_bytes": 1 << 28}
    config = folder.config(decoder=LEAKING if leaks else MISBEHAVING, **limits)
    if not leaks:
        config = without_the_lost(folder, config, {"killed": 2})
    build(config)
    check_build(config, good)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_ray_build_of_a_thousand_hostile_media_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers look for the decoder, too
    folder = HostileFolder(tmp_path)
    inputs = variants(load_bases(), seed=12, count=40 * len(KINDS))
    commands = [CRASH, EXIT, BUG, HANG, GREEDY] * 2
    good = folder.fill(inputs, commands, num_good=60)
    limits = {"num_cpus": 2, "clip_timeout_seconds": 10.0, "clip_memory_bytes": 1 << 29}
    config = without_the_lost(
        folder, folder.config(decoder=MISBEHAVING, **limits), {"killed": 6, "timeout": 2}
    )
    build(config)
    check_build(config, good)


def without_the_lost(folder: HostileFolder, config: BuildConfig, at_least: dict[str, int]) -> BuildConfig:
    """Build once, read which clips circumstances took, and give them up as the message says."""
    with pytest.raises(IncompleteError, match=r"rejects\.quarantine=") as caught:
        build(config)
    lost = re.findall(r"\d{5}", str(caught.value).partition("rejects.quarantine")[2])
    reasons = Counter(re.findall(r"\((timeout|killed):", str(caught.value)))
    assert sum(at_least.values()) <= len(lost)
    assert set(reasons) <= {RejectReason.TIMEOUT.value, RejectReason.KILLED.value}
    assert not list_recipes(open_store(config.output))  # nothing is published of a part of it
    rejects = config.rejects.model_copy(update={"quarantine": lost})
    return config.model_copy(update={"rejects": rejects})


def check_build(config: BuildConfig, good: list[str]) -> None:
    """Every clip is in the manifest's totals, and every good one in the data."""
    store = open_store(config.output)
    verify_output(store)
    manifest = read_manifest(store, "one")
    catalog, decode, *_ = manifest.totals
    assert all(count.is_balanced for count in manifest.totals)
    assert catalog.num_in == len(list(Path(config.source.videos).iterdir()))
    assert catalog.num_out == decode.num_in
    assert set(decode.rejected) <= {reason.value for reason in CONTENT_REASONS}
    assert decode.filtered.get("quarantined", 0) == len(config.rejects.quarantine)
    assert good_clips(config) >= set(good)


def good_clips(config: BuildConfig) -> set[str]:
    """Ids of the clips that rows of the one recipe were made of."""
    store = open_store(config.output)
    return {clip.clip_id for row in iter_rows(store, read_manifest(store, "one")) for clip in row.clips}
