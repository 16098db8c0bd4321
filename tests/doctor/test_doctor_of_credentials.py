"""Whoever issues credentials and gives none is a finding of the doctor, and a refusal to every reader."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from doctored import Denying

SIGN_ON = """
[profile work]
sso_start_url = https://example.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = reader
"""
ROLE = """
[profile base]
aws_access_key_id = k
aws_secret_access_key = s
[profile work]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = base
"""
REFUSED = r"no usable S3 credentials .*run the same|S3 is not configured: .* custom-process"
PROGRAM = """
[profile work]
credential_process = false
"""


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        pytest.param(SIGN_ON, "sso: Error loading SSO Token", id="nobody signed on"),
        pytest.param(ROLE, "assume-role: An error occurred (AccessDenied)", id="a role that is denied"),
        pytest.param(PROGRAM, "custom-process", id="a program that fails"),
    ],
)
def test_credentials_that_their_issuer_refuses_are_found_and_refused_by_a_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str, words: str
) -> None:
    from weave_data.doctor.credentials import find_credentials
    from weave_data.errors import StoreError
    from weave_data.storage import open_source, open_store

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(profile)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with Denying() as issuer:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", issuer)
        found = find_credentials()
        assert found.status == "fail"
        assert words in found.found
        assert "aws sso login" in found.remedy or "AWS_PROFILE" in found.remedy
        calls: list[Callable[[], object]] = [
            lambda: open_store("s3://bucket/woven").get("a"),
            lambda: open_source("s3://bucket/clips").read("a.mp4"),
        ]
        for call in calls:
            with pytest.raises(StoreError, match=REFUSED) as caught:
                call()
            assert caught.value.is_refusal
            assert "\n" not in str(caught.value)
