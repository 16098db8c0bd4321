"""Foreign roots: read the same from disk and from S3, never written."""

from __future__ import annotations

import pickle

import pytest

from weave_data.errors import SourceError, StoreError
from weave_data.storage import open_source

FILES = {"b/1.mp4": b"one", "a.csv": b"x,y\n", "b/2.mp4": b"", "b-c/3.mp4": b"three!"}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.server)])
def root_uri(request, tmp_path):
    if request.param == "local":
        for key, data in FILES.items():
            path = tmp_path / "source" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(tmp_path / "source")
    server = request.getfixturevalue("s3")
    bucket = server.new_bucket()
    for key, data in FILES.items():
        server.client().put_object(Bucket=bucket, Key=f"source/{key}", Body=data)
    server.client().put_object(Bucket=bucket, Key="source/b/", Body=b"")  # a folder marker
    return f"s3://{bucket}/source/"


def test_a_source_lists_its_files_sorted_with_sizes(root_uri):
    source = open_source(root_uri)
    assert [(info.key, info.size_bytes) for info in source.list()] == [
        ("a.csv", 4),
        ("b-c/3.mp4", 6),
        ("b/1.mp4", 3),
        ("b/2.mp4", 0),
    ]
    assert [info.key for info in source.list("b/")] == ["b/1.mp4", "b/2.mp4"]


def test_a_source_reads_files_and_knows_their_size(root_uri):
    source = open_source(root_uri)
    assert {key: source.read(key) for key in FILES} == FILES
    assert {key: source.size(key) for key in FILES} == {key: len(data) for key, data in FILES.items()}
    assert source.size("none.mp4") is None
    assert source.size("b") is None


def test_a_file_that_is_gone_is_one_line(root_uri):
    with pytest.raises(StoreError, match=r"none\.mp4: no such file") as caught:
        open_source(root_uri).read("none.mp4")
    assert "\n" not in str(caught.value)


def test_a_source_travels_by_pickle(root_uri):
    source = open_source(root_uri)
    source.read("a.csv")
    assert pickle.loads(pickle.dumps(source)).read("a.csv") == b"x,y\n"


def test_check_passes_where_files_are(root_uri):
    open_source(root_uri).check()


@pytest.mark.parametrize(("make", "message"), [(False, "no such directory"), (True, "holds no file")])
def test_check_says_when_a_local_source_is_missing_or_empty(tmp_path, make, message):
    if make:
        (tmp_path / "source").mkdir()
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path / "source")).check()


def test_an_unknown_protocol_is_refused():
    with pytest.raises(SourceError, match="no protocol 'nonsense'"):
        open_source("nonsense://bucket/x")


def test_other_protocols_of_fsspec_are_read(tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/x/a/1.mp4", b"one")
    source = open_source("memory://bucket/x")
    assert source.read("a/1.mp4") == b"one"


def test_a_source_reads_ranges_and_says_when_a_file_is_shorter(root_uri):
    source = open_source(root_uri)
    data = FILES["b-c/3.mp4"]
    for start, stop in ((0, len(data)), (1, 4), (5, 6), (3, 3)):
        assert source.read_range("b-c/3.mp4", start, stop) == data[start:stop]
    with pytest.raises(StoreError, match=r"3\.mp4: .*shorter"):
        source.read_range("b-c/3.mp4", 2, len(data) + 1)
    with pytest.raises(StoreError, match="shorter"):
        source.read_range("b-c/3.mp4", len(data) + 5, len(data) + 6)
    with pytest.raises(StoreError, match=r"none\.mp4: no such file"):
        source.read_range("none.mp4", 0, 1)
    with pytest.raises(StoreError, match="not a byte range"):
        source.read_range("b-c/3.mp4", 4, 2)
