"""A feed before a store that misbehaves: it completes, or fails in time and names the shard."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from builders import make_world, publish_world
from s3server.faults import Fault, FaultProxy

from weave_data.errors import StoreError, VerificationError
from weave_data.shard import footers
from weave_data.storage import open_store
from weave_train.feed import FeedLimits, RowFeed, WovenSource, open_source
from weave_train.order import TrainingOrder

pytestmark = pytest.mark.server

PATIENT_S, SHORT_S = 30.0, 3.0
FOREVER = 10_000


def product(faults: list[Fault], others: list, few: set) -> list:
    """Every pair; those that are not among `few` are slow."""
    return [
        pytest.param(fault, other, marks=() if (fault, other) in few else pytest.mark.slow)
        for fault in faults
        for other in others
    ]


PASSING = product(
    [fault for fault in Fault if fault is not Fault.DROP_REPLY],
    ["inline", "reference"],
    {
        *((fault, "inline") for fault in Fault if fault is not Fault.STALL),
        (Fault.RESET, "reference"),
        (Fault.SHORTEN, "reference"),
    },
)
LASTING = product(
    [Fault.REFUSE, Fault.RESET, Fault.CUT_BODY, Fault.DRIP, Fault.SILENT],
    [0, 2],
    {(Fault.REFUSE, 2), (Fault.CUT_BODY, 2), (Fault.DRIP, 0), (Fault.SILENT, 2)},
)


def publish_to(server, pixels: str) -> str:
    world = make_world(
        rows=40, clips_per_sample=2, frames_per_sample=4, image_px=48, shard_rows=16, row_group_rows=4
    )
    world.configuration["recipe"]["pixels"] = pixels
    bucket = server.new_bucket()
    publish_world(world, open_store(f"s3://{bucket}/out"))
    return f"s3://{bucket}/out/l4"


@pytest.fixture(scope="module")
def uris(s3) -> dict[str, str]:
    return {pixels: publish_to(s3, pixels) for pixels in ("inline", "reference")}


@pytest.fixture
def proxy(s3, monkeypatch):
    monkeypatch.setattr(footers, "_cache", footers.FooterCache())  # footers are asked for anew
    with FaultProxy(s3.endpoint, stall_seconds=PATIENT_S / 6 + 1) as running:  # longer than it waits
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
        yield running


def make_feed(source: WovenSource, *, workers: int = 2, timeout_s: float = PATIENT_S) -> RowFeed:
    order = TrainingOrder.over(
        source.shard_rows, group_rows=source.group_rows, batch_rows=5, window_groups=2, seed=3
    )
    return RowFeed(
        [source],
        order,
        slots=range(5),
        encode=lambda row: (row["sample_id"], row["frames"]),
        stop_step=order.num_steps(1),
        limits=FeedLimits(num_workers=workers, read_timeout_s=timeout_s),
    )


def all_rows(feed: RowFeed) -> list:
    try:
        return list(itertools.chain.from_iterable(map(feed.batch, range(8))))
    finally:
        feed.close()


@pytest.fixture(scope="module")
def truth(uris) -> list:
    rows = all_rows(make_feed(open_source(uris["inline"], split="train"), workers=0))
    assert len({name for name, _ in rows}) == 40
    return rows


@pytest.mark.parametrize(("fault", "pixels"), PASSING)
def test_a_fault_that_passes_costs_a_retry_and_no_row(uris, truth, proxy, fault, pixels) -> None:
    source = open_source(uris[pixels], split="train")
    source.read(0, 0, 0, epoch=0)
    proxy.plan(fault, 1 if fault is Fault.SHORTEN else 3)  # short twice is a damaged shard
    feed = make_feed(source)
    assert all_rows(feed) == truth
    assert feed.take_stats().num_retries >= 1
    assert proxy.take("GET") is None  # every planned fault happened


def test_a_mix_of_faults_is_ridden_out(uris, truth, proxy) -> None:
    source = open_source(uris["inline"], split="train")
    draw = random.Random(7)
    for _ in range(12):
        proxy.plan(draw.choice([Fault.REFUSE, Fault.RESET, Fault.CUT_BODY, Fault.DROP_REPLY]))
    assert all_rows(make_feed(source)) == truth


@pytest.mark.parametrize(("fault", "workers"), LASTING)
def test_a_fault_that_stays_is_an_error_in_time_that_names_the_shard(uris, proxy, fault, workers) -> None:
    source = open_source(uris["inline"], split="train")
    proxy.plan(fault, FOREVER)
    begin = time.monotonic()
    with pytest.raises(
        StoreError, match=r"shard-0000\d\.parquet, row group \d: not read within 3 s, \d+ attempts; "
    ):
        all_rows(make_feed(source, workers=workers, timeout_s=SHORT_S))
    # a read that failed ahead is tried once more when its rows are needed
    assert time.monotonic() - begin < 20 * SHORT_S


def test_a_reference_shard_whose_tars_are_silent_is_an_error_in_time(uris, proxy) -> None:
    source = open_source(uris["reference"], split="train")
    source.read(0, 0, 0, epoch=0)
    proxy.plan(Fault.SILENT, FOREVER)
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"shard-0000\d\.parquet, row group \d: not read within"):
        all_rows(make_feed(source, timeout_s=SHORT_S))
    assert time.monotonic() - begin < 20 * SHORT_S


def test_a_shard_that_is_shorter_than_its_index_is_read_twice_and_named(uris, proxy) -> None:
    source = open_source(uris["inline"], split="train")
    source.read(0, 0, 0, epoch=0)
    proxy.requests.clear()
    proxy.plan(Fault.SHORTEN, FOREVER)
    with pytest.raises(StoreError, match=r"shard-00000\.parquet, row group 1: .* shorter than its index"):
        source.read(0, 0, 1, epoch=0)
    assert len(proxy.requests) == 2


def test_bytes_that_do_not_parse_are_read_twice_and_named(uris, proxy) -> None:
    source = open_source(uris["inline"], split="train")
    source.read(0, 0, 0, epoch=0)
    key = source.epochs[0][0].path
    data = bytearray(source.store.get(key))
    half = len(data) // 4
    proxy.requests.clear()
    spoiled = open_store(source.store.uri)
    spoiled.delete(key)
    spoiled.put_new(key, bytes(half) + bytes(data[half:]))
    try:
        proxy.requests.clear()
        with pytest.raises(VerificationError, match=r"shard-00000\.parquet, row group 0: .*can't be parsed"):
            source.read(0, 0, 0, epoch=0)
        assert len(proxy.requests) == 2
    finally:
        spoiled.delete(key)
        spoiled.put_new(key, bytes(data))


def test_an_object_that_is_gone_is_said_at_once(uris, proxy) -> None:
    source = open_source(uris["reference"], split="train")
    source.read(0, 2, 0, epoch=0)
    missing = source.epochs[0][2].path
    data = source.store.get(missing)
    spoiled = open_store(source.store.uri)
    spoiled.delete(missing)
    try:
        begin = time.monotonic()
        with pytest.raises(StoreError, match=r"shard-00002\.parquet, row group 1: .*no such object"):
            source.read(0, 2, 1, epoch=0)
        assert time.monotonic() - begin < 60  # the default deadline is 120 s
    finally:
        spoiled.put_new(missing, data)
