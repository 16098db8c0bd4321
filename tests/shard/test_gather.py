from __future__ import annotations

import io
import itertools
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from builders import CountingStore, World, make_world, write_world
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.errors import VerificationError
from weave_data.shard import ADDRESS_SCHEMA, locate_frames
from weave_data.shard.addresses import FramePlaces
from weave_data.shard.gather import gather_frames, plan_ranges
from weave_data.storage import Store


def places_of(frames: list[tuple[int, int, int]]) -> FramePlaces:
    tar, offset, size = (np.array([frame[i] for frame in frames], np.int64) for i in range(3))
    count = len(frames)
    return FramePlaces(
        row_offsets=np.array([0, count]),
        tar_code=tar,
        tars=("a.tar", "b.tar", "c.tar"),
        offset=offset,
        size_bytes=size,
        seconds=np.zeros(count, np.float32),
        width=np.ones(1, np.int32),
        height=np.ones(1, np.int32),
        clip_id=pa.array(["clip"] * count),
        frame_index=np.arange(count),
    )


@st.composite
def stored_frames(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Frames that do not overlap within a tar, in any order, some asked for twice."""
    frames = []
    for tar in range(draw(st.integers(1, 3))):
        position = 0
        for gap, size in draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), max_size=8)):
            position += gap
            frames.append((tar, position, size))
            position += size
    repeated = frames + (draw(st.lists(st.sampled_from(frames), max_size=3)) if frames else [])
    return draw(st.permutations(repeated))


@settings(deadline=None, max_examples=40)
@given(stored_frames(), st.integers(0, 60))
def test_ranges_cover_every_frame_and_leave_only_gaps_too_wide(
    frames: list[tuple[int, int, int]], max_gap_bytes: int
) -> None:
    places = places_of(frames)
    ranges = plan_ranges(places, 0, len(frames), max_gap_bytes=max_gap_bytes)
    spans = list(zip(ranges.tars, ranges.starts.tolist(), ranges.stops.tolist(), strict=True))
    for (tar, offset, size), which in zip(frames, ranges.range_of.tolist(), strict=True):
        name, start, stop = spans[which]
        assert name == places.tars[tar]
        assert start <= offset
        assert offset + size <= stop
    for (tar_a, _, stop_a), (tar_b, start_b, _) in itertools.pairwise(spans):
        assert tar_a != tar_b or start_b - stop_a > max_gap_bytes


def test_frames_of_one_clip_are_one_request(world: World, store: Store) -> None:
    write_world(world, store)
    counting = CountingStore(store)
    places = locate_frames(world.plan.slice(0, 1), world.addresses)
    list(gather_frames(places, [(0, 8)], counting, num_threads=4))
    # four clips lie side by side in one tar, only tar headers between their frames
    assert len(counting.named("get_range")) == 1


def test_gathered_frames_are_the_bytes_of_the_tar_members(world: World, store: Store) -> None:
    write_world(world, store)
    places = locate_frames(world.plan, world.addresses)
    bounds = [(int(a), int(b)) for a, b in itertools.pairwise(places.row_offsets)]
    gathered = [jpeg for jpegs in gather_frames(places, bounds, store, num_threads=3) for jpeg in jpegs]
    members = {}
    for data in world.tars.values():
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members.update({entry.name: tar.extractfile(entry).read() for entry in tar.getmembers()})
    expected = [
        members[f"{row['clips'][slot]['clip_id']}/{index:06d}.jpg"]
        for row in world.plan.to_pylist()
        for slot, index in zip(row["frame_clip"], row["frame_index"], strict=True)
    ]
    assert gathered == expected


def test_a_tar_that_disagrees_with_its_index_names_clip_frame_and_tar(world: World, store: Store) -> None:
    key, data = next(iter(world.tars.items()))
    address = world.addresses.slice(0, 1).to_pylist()[0]
    broken = bytearray(data)
    broken[address["frame_offset"][1]] = 0
    store.put_new(key, bytes(broken))
    places = locate_frames(world.plan.slice(0, 1), world.addresses)
    clip, index = address["clip_id"], address["frame_index"][1]
    with pytest.raises(VerificationError, match=rf"clip {clip}: frame {index} in {key} .*: no JPEG"):
        list(gather_frames(places, [(0, 8)], store, num_threads=2))


def test_a_jpeg_cut_short_by_its_index_is_refused(world: World, store: Store) -> None:
    write_world(world, store)
    rows = world.addresses.to_pylist()
    rows[0]["frame_bytes"][0] -= 5
    places = locate_frames(world.plan.slice(0, 1), pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA))
    with pytest.raises(VerificationError, match="no whole JPEG"):
        list(gather_frames(places, [(0, 8)], store, num_threads=2))


def test_a_store_that_returns_too_little_is_found_out(world: World, store: Store) -> None:
    write_world(world, store)

    class Short:
        def get_range(self, key: str, start: int, stop: int) -> bytes:
            return store.get_range(key, start, stop - 1)

    places = locate_frames(world.plan.slice(0, 1), world.addresses)
    with pytest.raises(VerificationError, match=r"\d+ bytes instead of \d+"):
        list(gather_frames(places, [(0, 8)], Short(), num_threads=2))


def test_a_planned_clip_without_stored_frames_is_named(world: World) -> None:
    missing = world.plan["clips"][0][1]["clip_id"].as_py()
    rows = [row for row in world.addresses.to_pylist() if row["clip_id"] != missing]
    with pytest.raises(VerificationError, match=f"clip {missing}: no stored frames"):
        locate_frames(world.plan, pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA))


def test_a_planned_frame_that_is_not_stored_is_named(world: World) -> None:
    rows = world.addresses.to_pylist()
    lost = rows[3]["frame_index"][1]
    rows[3]["frame_index"][1] = 999_999
    with pytest.raises(VerificationError, match=rf"clip {rows[3]['clip_id']}: frame {lost} is planned"):
        locate_frames(world.plan, pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA))


def test_a_clip_with_two_address_rows_is_refused(world: World) -> None:
    twice = pa.concat_tables([world.addresses, world.addresses.slice(0, 1)])
    with pytest.raises(VerificationError, match="names 1 clips twice"):
        locate_frames(world.plan, twice)


@settings(max_examples=20, deadline=None)
@given(st.randoms(), st.booleans())
def test_places_do_not_depend_on_address_order_chunks_or_tar_encoding(
    world: World, random: object, is_encoded: bool
) -> None:
    order = list(range(world.addresses.num_rows))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = world.addresses.take(order)
    if is_encoded:
        kind = pa.list_(pa.field("element", pa.dictionary(pa.int32(), pa.string()), nullable=False))
        column = pa.array(shuffled["frame_tar"].to_pylist(), kind)
        shuffled = shuffled.set_column(shuffled.column_names.index("frame_tar"), "frame_tar", column)
    shuffled = pa.concat_tables([shuffled.slice(0, 7), shuffled.slice(7)])
    plan = world.plan.slice(3, 11)
    found, expected = locate_frames(plan, shuffled), locate_frames(plan, world.addresses)
    assert found.offset.tolist() == expected.offset.tolist()
    assert found.seconds.tolist() == expected.seconds.tolist()
    assert [found.tars[code] for code in found.tar_code] == [expected.tars[c] for c in expected.tar_code]
    assert found.row_offsets.tolist() == expected.row_offsets.tolist()


def test_a_sample_takes_the_size_of_its_first_frame() -> None:
    world = make_world(rows=2, clips_per_sample=2, frames_per_sample=2)
    rows = world.addresses.to_pylist()
    for position, row in enumerate(rows):
        row["width"], row["height"] = 100 + position, 50 + position
    places = locate_frames(world.plan, pa.Table.from_pylist(rows, schema=ADDRESS_SCHEMA))
    assert (places.width.tolist(), places.height.tolist()) == ([100, 102], [50, 52])
