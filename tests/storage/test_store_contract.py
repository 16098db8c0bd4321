"""What both kinds of store promise."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weave_data.errors import CommitError, ConflictError, SourceError, StoreError
from weave_data.storage import commit_exact, commit_first, open_store
from weave_data.storage.base import MAX_OBJECT_BYTES


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.server)])
def uri(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "output")
    return f"s3://{request.getfixturevalue('s3').new_bucket()}/some/output"


@pytest.fixture
def store(uri):
    return open_store(uri)


def at_once(count, work):
    """Run `work(i)` in `count` threads that start together."""
    barrier = threading.Barrier(count)

    def run(index):
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_what_was_put_is_read_back_whole_and_in_ranges(store):
    data = bytes(range(256)) * 5
    committed = store.put_new("frames/ab/part.tar", data)
    assert committed.is_ours
    assert (committed.sha256, committed.size_bytes) == (digest(data), len(data))
    assert store.get("frames/ab/part.tar") == data
    for start, stop in [(0, 1), (0, 1280), (5, 5), (1280, 1280), (1279, 1280), (300, 777)]:
        assert store.get_range("frames/ab/part.tar", start, stop) == data[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(0, 11), (9, 12), (10, 11), (50, 60), (3, 2), (-1, 2)])
def test_a_range_that_is_not_there_is_an_error_never_short_data(store, start, stop):
    store.put_new("a", b"0123456789")
    with pytest.raises(StoreError):
        store.get_range("a", start, stop)


def test_a_file_on_disk_is_put_like_bytes(store, tmp_path):
    path = tmp_path / "spool.tar"
    path.write_bytes(b"tar" * 1000)
    assert store.put_new("a/b.tar", path).sha256 == digest(b"tar" * 1000)
    assert store.get("a/b.tar") == b"tar" * 1000
    assert path.exists()


def test_head_knows_size_and_sha256_and_says_none_for_what_is_not_there(store):
    store.put_new("a/b", b"data")
    info = store.head("a/b")
    assert (info.key, info.size_bytes, info.sha256) == ("a/b", 4, digest(b"data"))
    assert store.head("a/c") is None
    assert store.head("a") is None
    assert store.head("a/b/c") is None


def test_reading_what_is_not_there_is_one_line_that_names_it(store):
    for read in (lambda: store.get("a/none"), lambda: store.get_range("a/none", 0, 4)):
        with pytest.raises(StoreError, match="a/none: no such") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_the_first_writer_wins_and_the_second_learns_what_is_stored(store):
    store.put_new("a", b"first")
    second = store.put_new("a", b"second!")
    assert (second.is_ours, second.sha256, second.size_bytes) == (False, digest(b"first"), 5)
    assert store.get("a") == b"first"


def test_sixteen_writers_at_once_have_one_winner(store):
    results = at_once(16, lambda index: store.put_new("a/b", b"writer %d" % index))
    winners = [index for index, result in enumerate(results) if result.is_ours]
    assert len(winners) == 1
    stored = b"writer %d" % winners[0]
    assert store.get("a/b") == stored
    assert {result.sha256 for result in results} == {digest(stored)}


def test_committing_the_same_bytes_twice_is_done_twice(store):
    assert commit_exact(store, "a", b"same").is_ours
    assert not commit_exact(store, "a", b"same").is_ours


def test_an_exact_stage_that_gives_other_bytes_is_an_error_with_both_sums(store):
    commit_exact(store, "a", b"one")
    with pytest.raises(CommitError) as caught:
        commit_exact(store, "a", b"two")
    assert digest(b"one") in str(caught.value)
    assert digest(b"two") in str(caught.value)
    assert store.get("a") == b"one"


def test_a_float_stage_uses_what_the_first_writer_left(store):
    commit_first(store, "a", b"one")
    assert commit_first(store, "a", b"two").sha256 == digest(b"one")
    assert store.get("a") == b"one"


def test_replace_swaps_exactly_the_content_it_names(store):
    store.replace("m.json", b"v1", expected=None)
    store.replace("m.json", b"v2", expected=digest(b"v1"))
    for stale in (None, digest(b"v1"), digest(b"never")):
        with pytest.raises(ConflictError):
            store.replace("m.json", b"v3", expected=stale)
    assert store.get("m.json") == b"v2"
    assert store.head("m.json").sha256 == digest(b"v2")


def test_replacing_with_what_is_there_already_is_done(store):
    store.replace("m", b"v1", expected=None)
    store.replace("m", b"v1", expected=None)
    store.replace("m", b"v2", expected=digest(b"v1"))
    store.replace("m", b"v2", expected=digest(b"v1"))
    assert store.get("m") == b"v2"


def test_content_may_return_and_be_replaced_again(store):
    store.replace("m", b"a", expected=None)
    for _ in range(3):
        store.replace("m", b"b", expected=digest(b"a"))
        store.replace("m", b"a", expected=digest(b"b"))
    assert store.get("m") == b"a"


def test_replacing_what_is_not_there_is_a_conflict(store):
    with pytest.raises(ConflictError):
        store.replace("m", b"a", expected=digest(b"b"))
    assert store.head("m") is None


@pytest.mark.parametrize("content", [None, b"old"])
def test_sixteen_replacements_at_once_have_one_winner(store, content):
    if content is not None:
        store.put_new("m", content)
    expected = None if content is None else digest(content)

    def swap(index):
        try:
            store.replace("m", b"new %d" % index, expected=expected)
        except ConflictError:
            return None
        return b"new %d" % index

    winners = [result for result in at_once(16, swap) if result]
    assert winners == [store.get("m")]


def test_no_update_is_lost_between_competing_replacements(store):
    store.put_new("counter", b"0 start")

    def count_up(writer):
        done = 0
        while done < 4:
            seen = store.get("counter")
            count = int(seen.split()[0]) + 1
            try:
                # every content is unique: equal content would count as done for both writers
                store.replace("counter", b"%d %d" % (count, writer), expected=digest(seen))
            except ConflictError:
                continue
            done += 1

    at_once(5, count_up)
    assert store.get("counter").split()[0] == b"20"


def test_delete_removes_and_forgives(store):
    store.put_new("a/b", b"")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    assert store.head("a/b") is None
    assert store.put_new("a/b", b"again").is_ours


def test_a_listing_has_every_key_once_in_byte_order(store):
    keys = ["a.b", "a-b/x", "a/b", "a/c/d", "a0", "b/a", "B/a", "ä/é", "a/c.d", "a/c-d", "z z/1+1=2&"]
    for key in keys:
        store.put_new(key, key.encode())
    listed = list(store.list(""))
    assert [info.key for info in listed] == sorted(keys, key=str.encode)
    assert [info.size_bytes for info in listed] == [len(info.key.encode()) for info in listed]
    assert [info.key for info in store.list("a/")] == ["a/b", "a/c-d", "a/c.d", "a/c/d"]
    assert [info.key for info in store.list("a/c")] == ["a/c-d", "a/c.d", "a/c/d"]
    assert list(store.list("nothing/here")) == []


def test_a_listing_is_streamed(store):
    for index in range(5):
        store.put_new(f"k/{index}", b"")
    assert [info.key for info in itertools.islice(store.list("k/"), 2)] == ["k/0", "k/1"]


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "../a", "a/../b", ".hidden", "a/.b", "a\\b", "a\nb"])
def test_unclean_names_are_refused(store, key):
    for use in (store.get, store.head, store.delete, lambda name: store.put_new(name, b"")):
        with pytest.raises(StoreError, match="key"):
            use(key)


def test_an_object_over_one_gibibyte_is_refused_before_it_is_sent(store, tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(MAX_OBJECT_BYTES + 1)  # sparse
    with pytest.raises(StoreError, match=r"1073741825 bytes; objects are at most 1073741824"):
        store.put_new("large", path, sha256="0" * 64)


def test_a_store_travels_to_another_process_by_pickle(store):
    store.put_new("a", b"x")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.get("a") == b"x"
    assert copy.uri == store.uri


def test_a_read_only_store_refuses_every_write(store, uri):
    store.put_new("a", b"x")
    reader = open_store(uri, readonly=True)
    for write in (
        lambda: reader.put_new("b", b""),
        lambda: reader.delete("a"),
        lambda: reader.replace("a", b"y", expected=digest(b"x")),
        lambda: reader.replace("b", b"y", expected=None),
    ):
        with pytest.raises(StoreError, match="read-only"):
            write()
    assert reader.get("a") == b"x"


def test_check_passes_for_a_new_output_and_leaves_nothing_behind(store):
    store.check(write=True)
    assert list(store.list("")) == []


def test_check_of_a_read_only_root_wants_something_to_read(store, uri):
    with pytest.raises(SourceError):
        open_store(uri, readonly=True).check()
    store.put_new("a", b"x")
    open_store(uri, readonly=True).check()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.sets(st.text("abz-./0", min_size=1, max_size=6), max_size=8),
    prefix=st.text("abz-./0", max_size=3),
)
def test_local_listing_equals_sorting_and_filtering_all_keys(tmp_path_factory, names, prefix):
    store = open_store(str(tmp_path_factory.mktemp("listing")))
    stored = []
    for name in sorted(names):
        try:
            store.put_new(name, b"")
        except StoreError:  # unclean, or a file where a folder is needed
            continue
        stored.append(name)
    expected = sorted(name for name in stored if name.startswith(prefix))
    assert [info.key for info in store.list(prefix)] == expected


@pytest.mark.parametrize("prefix", ["/", "../", "/etc/", "a/../../", "./"])
def test_a_prefix_never_leads_out_of_the_store(store, prefix):
    store.put_new("a/b", b"")
    assert list(store.list(prefix)) == []
