"""Each fault of a store or of credentials is found, said with a remedy, and gone when it is mended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from doctored import (
    DisabledKey,
    Encrypting,
    NoDelete,
    NoRead,
    OtherServer,
    Skewed,
    Unconditional,
    build_config,
    doctor,
    failed,
)
from servers import S3Server

from weave_data.doctor.store import _refused as judge_refusal
from weave_data.errors import StoreError
from weave_data.storage.s3_client import explain

pytestmark = pytest.mark.server

WELL = {"credentials", "endpoint", "clock", "output", "conditional put", "conditional replace", "encryption"}


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    name = s3.new_bucket()
    s3.client().put_object(Bucket=name, Key="clips/a.mp4", Body=b"video")
    return name


@pytest.fixture
def config(bucket: str, tmp_path: Path) -> Path:
    return build_config(tmp_path, source=f"s3://{bucket}/clips", output=f"s3://{bucket}/woven")


def keys(s3: S3Server, bucket: str) -> list[str]:
    return [item["Key"] for item in s3.client().list_objects_v2(Bucket=bucket)["Contents"]]


def test_nothing_is_wrong_with_a_good_bucket_and_nothing_stays_in_it(
    s3: S3Server, bucket: str, config: Path
) -> None:
    code, found = doctor(config)
    assert code == 0, found
    assert WELL | {"source", "versions", "codecs", "scratch"} <= set(found)
    assert {row["status"] for row in found.values()} == {"ok"}
    assert "removed again" in found["output"]["found"]
    assert "bucket in the path" in found["endpoint"]["found"]
    assert keys(s3, bucket) == ["clips/a.mp4"]


ENVIRONMENTS = [
    pytest.param({"AWS_SECRET_ACCESS_KEY": "wrong"}, "bucket", "SignatureDoesNotMatch", id="wrong secret"),
    pytest.param({"AWS_ACCESS_KEY_ID": "nobody"}, "bucket", "InvalidAccessKeyId", id="unknown key"),
    pytest.param({"AWS_ACCESS_KEY_ID": ""}, "credentials", "none in the environment", id="no credentials"),
    pytest.param(
        {"AWS_SESSION_TOKEN": "t", "AWS_CREDENTIAL_EXPIRATION": in_hours(-1)},
        "credentials",
        "expired at",
        id="expired",
    ),
    pytest.param({"AWS_PROFILE": "elsewhere"}, "credentials", "elsewhere", id="no such profile"),
    pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "endpoint", "can't reach", id="nobody answers"),
]


@pytest.mark.parametrize(("environment", "check", "words"), ENVIRONMENTS)
def test_credentials_that_do_not_work_are_found(
    real_s3: S3Server,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    check: str,
    words: str,
) -> None:
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        code, found = doctor(config)
    assert code == 3
    assert failed(found) == {check}
    assert words in found[check]["found"]
    assert found[check]["remedy"]
    assert "output" not in found  # nothing was tried that could only fail as well
    assert doctor(config)[0] == 0


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        pytest.param({"AWS_CREDENTIAL_EXPIRATION": in_hours(0.5)}, "minutes left", id="soon"),
        pytest.param({"AWS_SESSION_TOKEN": "t"}, "until when is not said", id="not said"),
    ],
)
def test_credentials_that_may_not_last_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    from weave_data.doctor.credentials import find_credentials

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A" * 20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    assert find_credentials().status == "ok"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find_credentials()
    assert (found.status, words in found.found) == ("warn", True), found
    assert "not-to-be-shown" not in str(found)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", in_hours(12))
    assert find_credentials().status == "ok"


def test_an_expiration_beside_the_keys_of_a_profile_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from weave_data.doctor.credentials import find_credentials

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    lines = "[default]\naws_access_key_id = k\naws_secret_access_key = s\naws_session_token = t\n"
    (tmp_path / "credentials").write_text(f"{lines}expiration = {in_hours(-2)}\n")
    assert find_credentials().status == "fail"
    (tmp_path / "credentials").write_text(f"{lines}expiration = {in_hours(5)}\n")
    assert find_credentials().status == "ok"


def test_a_bucket_that_is_not_there_is_found(s3: S3Server, config: Path) -> None:
    code, found = doctor(config, "output=s3://no-such-bucket-here/woven")
    assert (code, failed(found)) == (3, {"bucket"})
    assert "no-such-bucket-here" in found["bucket"]["found"]
    assert "create it" in found["bucket"]["remedy"]


def test_a_key_that_refuses_is_told_from_a_bucket_that_does() -> None:
    def refused(message: str) -> StoreError:
        reply: Any = {
            "Error": {"Code": "AccessDenied", "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": 403},
        }
        return explain(ClientError(reply, "PutObject"), "s3://bucket/a")

    by_key = judge_refusal("output", refused("User: x is not authorized to perform: kms:GenerateDataKey"))
    assert by_key.check == "encryption"
    assert "kms:GenerateDataKey" in by_key.remedy
    assert judge_refusal("output", refused("Access Denied")).check == "output"


def test_a_bucket_in_which_nothing_can_be_replaced_is_found(s3: S3Server, bucket: str, config: Path) -> None:
    if s3.kind != "ceph":
        pytest.skip("Ceph alone honours no condition in buckets with versioning")
    versioning = {"Status": "Enabled"}
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioning)
    code, found = doctor(config)
    assert (code, failed(found)) == (3, {"conditional put", "conditional replace"})
    assert "versioning" in found["conditional replace"]["remedy"]


def test_a_source_that_holds_nothing_is_found(config: Path, bucket: str) -> None:
    code, found = doctor(config, f"source.videos=s3://{bucket}/clip")
    assert (code, failed(found)) == (3, {"source"})
    assert found["output"]["status"] == "ok"


def test_buckets_in_host_names_that_nobody_resolves_are_found(
    s3: S3Server, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aws").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
        patch.setenv("AWS_ENDPOINT_URL", "http://store.invalid:9000")
        code, found = doctor(config)
    assert (code, failed(found)) == (3, {"endpoint"})
    assert "addressing_style = path" in found["endpoint"]["remedy"]


SERVERS = [
    pytest.param(Skewed, "clock", "before the store's", "chrony", id="skewed clock"),
    pytest.param(
        Unconditional, "conditional put", "second writer replaced", "AWS, Ceph", id="no If-None-Match"
    ),
    pytest.param(DisabledKey, "encryption", "KMS.DisabledException", "kms:GenerateDataKey", id="KMS key"),
    pytest.param(NoRead, "source", "AccessDenied", "grant the access key", id="listing, no reading"),
]


@pytest.mark.parametrize(("fault", "check", "words", "remedy"), SERVERS)
def test_what_a_server_has_in_another_way_is_found(
    s3: S3Server,
    bucket: str,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: type,
    check: str,
    words: str,
    remedy: str,
) -> None:
    with OtherServer(s3, fault) as other, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", other.endpoint)
        code, found = doctor(config)
    assert code == 3
    assert check in failed(found), found
    assert words in found[check]["found"]
    assert remedy in found[check]["remedy"]
    if fault is Unconditional:
        assert "replaced the object" in found["conditional replace"]["found"]
        assert "If-Match" in found["conditional replace"]["remedy"]
    assert keys(s3, bucket) == ["clips/a.mp4"]
    assert doctor(config)[1][check]["status"] == "ok"


def test_a_probe_that_can_not_be_removed_is_named(
    s3: S3Server, bucket: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtherServer(s3, NoDelete) as other, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", other.endpoint)
        code, found = doctor(config)
    (left,) = [key for key in keys(s3, bucket) if key.startswith("woven/")]
    assert (code, found["output"]["status"]) == (0, "warn")
    assert left in found["output"]["found"]


def test_the_key_that_encrypts_is_named(s3: S3Server, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OtherServer(s3, Encrypting) as other, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", other.endpoint)
        assert doctor(config)[1]["encryption"]["found"] == "aws:kms with key-7; written and read"


def test_credentials_that_expired_are_one_line_for_every_reader_of_a_store(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weave_data.errors import StoreError
    from weave_data.storage import open_source, open_store

    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", in_hours(-1))
    calls: list[Callable[[], object]] = [
        lambda: open_store(f"s3://{bucket}/woven").check(),
        lambda: open_source(f"s3://{bucket}/clips").read("a.mp4"),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="expired.*renew them"):
            call()
