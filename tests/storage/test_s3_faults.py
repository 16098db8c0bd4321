"""S3 misbehaving: refusals, lost replies, bodies that break off, half-sent objects, wrong settings."""

from __future__ import annotations

import hashlib
import http.client
from urllib.parse import urlsplit

import pytest
from s3server.faults import Fault, FaultProxy

from weave_data.errors import SourceError, StoreError
from weave_data.storage import commit_exact, open_source, open_store
from weave_data.storage import s3 as s3_module

pytestmark = pytest.mark.server


@pytest.fixture
def faulty(s3, monkeypatch):
    """A store and a source behind the proxy, and the proxy."""
    bucket = s3.new_bucket()
    with FaultProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield open_store(f"s3://{bucket}/out"), open_source(f"s3://{bucket}/out"), proxy


def test_bursts_of_503_are_ridden_out(faulty):
    store, source, proxy = faulty
    proxy.plan(Fault.REFUSE, 2)
    assert store.put_new("a", b"data").is_ours
    for read in (lambda: store.get("a"), lambda: source.read("a")):
        proxy.plan(Fault.REFUSE, 1)
        assert read() == b"data"
    proxy.plan(Fault.REFUSE, 1)
    assert [info.key for info in store.list("")] == ["a"]
    assert proxy.take("GET") is None  # every planned fault happened


def test_a_server_that_keeps_refusing_is_one_clear_line(faulty, monkeypatch):
    store, _, proxy = faulty
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.plan(Fault.REFUSE, 10)
    with pytest.raises(StoreError, match=r"/out/a: .* answered 503 .*; run the same command again") as caught:
        store.put_new("a", b"data")
    assert "\n" not in str(caught.value)


def test_a_lost_reply_after_the_commit_is_recognised_as_ours(faulty):
    store, _, proxy = faulty
    proxy.plan(Fault.DROP_REPLY, only="PUT")
    committed = commit_exact(store, "a", b"data")
    assert committed.is_ours
    assert [method for method, _, _ in proxy.requests].count("PUT") == 2


def test_a_lost_reply_of_a_replacement_is_no_conflict(faulty):
    store, _, proxy = faulty
    store.put_new("m", b"v1")
    proxy.plan(Fault.DROP_REPLY, only="PUT")
    store.replace("m", b"v2", expected=hashlib.sha256(b"v1").hexdigest())
    assert store.get("m") == b"v2"


def test_a_body_that_breaks_off_is_read_again(faulty):
    store, _, proxy = faulty
    data = bytes(range(256)) * 4096
    store.put_new("a", data)
    proxy.plan(Fault.CUT_BODY, 2, only="GET")
    assert store.get("a") == data
    proxy.plan(Fault.CUT_BODY, 1, only="GET")
    assert store.get_range("a", 1000, 500_000) == data[1000:500_000]


def test_a_source_never_returns_half_a_file(faulty):
    store, source, proxy = faulty
    data = bytes(range(256)) * 4096
    store.put_new("clip.mp4", data)
    proxy.plan(Fault.CUT_BODY, 1, only="GET")
    assert source.read("clip.mp4") == data


def test_a_ranged_read_is_one_request_of_exactly_that_range(faulty):
    store, _, proxy = faulty
    store.put_new("a", b"0123456789")
    proxy.requests.clear()
    assert store.get_range("a", 3, 7) == b"3456"
    assert [(method, asked) for method, _, asked in proxy.requests] == [("GET", "bytes=3-6")]


def test_a_listing_asks_for_one_page_at_a_time(faulty, monkeypatch):
    store, _, proxy = faulty
    monkeypatch.setattr(s3_module, "_PAGE_KEYS", 10)
    for index in range(13):
        store.put_new(f"k/{index:04d}", b"")
    proxy.requests.clear()
    listing = store.list("k/")
    assert next(listing).key == "k/0000"
    assert len(proxy.requests) == 1
    assert [info.key for info in listing] == [f"k/{index:04d}" for index in range(1, 13)]
    assert len(proxy.requests) == 2


def test_an_upload_that_breaks_off_leaves_nothing_visible(s3):
    bucket = s3.new_bucket()
    url = urlsplit(
        s3.client().generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "out/a"})
    )
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("Content-Length", "100000")
    connection.endheaders()
    connection.send(b"x" * 50_000)
    connection.close()
    store = open_store(f"s3://{bucket}/out")
    assert store.head("a") is None
    assert list(store.list("")) == []
    assert store.put_new("a", b"whole").is_ours


def test_an_object_of_another_tool_is_compared_by_its_bytes(s3):
    bucket = s3.new_bucket()
    s3.client().put_object(Bucket=bucket, Key="out/a", Body=b"copied")
    store = open_store(f"s3://{bucket}/out")
    assert store.head("a").sha256 is None
    assert not commit_exact(store, "a", b"copied").is_ours
    store.replace("a", b"new", expected=hashlib.sha256(b"copied").hexdigest())
    assert store.get("a") == b"new"


@pytest.mark.parametrize("keeps", [True, False])
def test_older_versions_are_purged_where_a_bucket_keeps_them(real_s3, keeps):
    bucket, client = real_s3.new_bucket(), real_s3.client()
    if keeps:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket=bucket, Key="out-of-it", Body=b"1")
    client.put_object(Bucket=bucket, Key="out-of-it", Body=b"2")
    store = open_store(f"s3://{bucket}/out")
    store.put_new("a", b"old")
    if keeps and real_s3.kind == "ceph":
        with pytest.raises(StoreError, match="refuses to replace an object that nobody changed"):
            store.replace("a", b"new", expected=hashlib.sha256(b"old").hexdigest())
    client.put_object(Bucket=bucket, Key="out/a", Body=b"new")
    store.put_new("b/c", b"taken down")
    store.delete("b/c")
    assert store.purge_versions() == (3 if keeps else 0)  # a's first, b/c, b/c's delete marker
    left = client.list_object_versions(Bucket=bucket, Prefix="out/")
    assert [(each["Key"], each["IsLatest"]) for each in left["Versions"]] == [("out/a", True)]
    assert "DeleteMarkers" not in left
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == (3 if keeps else 2)
    assert store.get("a") == b"new"


def one_line(action, *, error=SourceError):
    with pytest.raises(error) as caught:
        action()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.mark.parametrize("kind", ["store", "source"])
def test_a_missing_bucket_is_named(s3, kind):
    uri = "s3://no-such-bucket-here/out"
    root = open_store(uri) if kind == "store" else open_source(uri)
    assert "bucket 'no-such-bucket-here' does not exist" in one_line(root.check)


def test_a_missing_prefix_is_named(s3):
    uri = f"s3://{s3.new_bucket()}/nothing/here"
    assert f"{uri}: nothing is stored under this prefix" in one_line(open_source(uri).check)


@pytest.mark.parametrize(
    ("variable", "code"),
    [("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")],
)
def test_wrong_credentials_are_refused_and_said(real_s3, monkeypatch, variable, code):
    bucket = real_s3.new_bucket()
    monkeypatch.setenv(variable, "wrong")
    for root in (open_store(f"s3://{bucket}/out"), open_source(f"s3://{bucket}/out")):
        assert f"refused the credentials ({code})" in one_line(root.check)


def test_missing_credentials_are_said(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for action in (
        open_store("s3://bucket/out").check,
        open_source("s3://bucket/out").check,
        lambda: open_source("s3://bucket/out").read("a"),
    ):
        assert "no usable S3 credentials" in one_line(action)


def test_an_endpoint_nobody_listens_on_is_said(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "can't reach http://127.0.0.1:9" in one_line(open_store("s3://bucket/out").check)


def test_an_unknown_profile_is_said(s3, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in one_line(open_store("s3://bucket/out").check)
