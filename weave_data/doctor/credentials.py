"""S3 credentials: where they come from, and until when they hold."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from weave_data.doctor.finding import Finding, Status

__all__ = ["find_credentials"]

SOON_SECONDS = 3600.0
_RENEW = "renew them (`aws sso login`, or whatever issued them) before you start; a stopped run resumes"
_ASKED_AGAIN = frozenset(
    {
        "assume-role",
        "assume-role-with-web-identity",
        "sso",
        "login",
        "iam-role",
        "container-role",
        "custom-process",
    }
)
"""Methods of botocore that fetch new credentials by themselves."""


def find_credentials(*, now: float | None = None) -> Finding:
    """Look for credentials as boto3 does; no request to S3 is made.

    Args:
        now: Seconds since 1970; the clock's by default.
    """
    session = botocore.session.get_session()
    try:
        found: Any = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        return _none(_one_line(error))
    if found is None:
        return _none("none in the environment, in ~/.aws, or from this machine's role")
    try:  # roles and sign-ons are asked for keys when these are looked at
        return _judge(session, found, now)
    except (BotoCoreError, ClientError, RuntimeError, ValueError) as error:
        return Finding("credentials", Status.FAIL, f"{found.method}: {_one_line(error)}", _RENEW)


def _judge(session: Any, found: Any, now: float | None) -> Finding:
    expiry = getattr(found, "_expiry_time", None) or _noted_expiry(session)
    key = f"{found.method}, key ending in {_tail(found, expiry)}"
    if found.method in _ASKED_AGAIN:
        return Finding("credentials", Status.OK, f"{key}; renewed by themselves")
    if expiry is not None:
        return _until(key, expiry, now)
    if os.environ.get("AWS_SESSION_TOKEN") or _token(found):
        said = "set AWS_CREDENTIAL_EXPIRATION (`aws configure export-credentials --format env` does)"
        return Finding(
            "credentials", Status.WARN, f"{key}, temporary; until when is not said", f"{said}, or use a role"
        )
    return Finding("credentials", Status.OK, f"{key}; they don't expire")


def _until(key: str, expiry: datetime, now: float | None) -> Finding:
    left = expiry.timestamp() - (datetime.now(UTC).timestamp() if now is None else now)
    if left <= 0:
        return Finding("credentials", Status.FAIL, f"{key}: expired at {expiry.isoformat()}", _RENEW)
    said = f"{key}, until {expiry.isoformat()}: {left / 60:,.0f} minutes left"
    if left < SOON_SECONDS:
        return Finding("credentials", Status.WARN, said, _RENEW)
    return Finding("credentials", Status.OK, said)


def _noted_expiry(session: Any) -> datetime | None:
    """As tools note it beside keys of a profile (`expiration`, `x_security_token_expires`)."""
    profile = session.full_config.get("profiles", {}).get(session.profile or "default", {})
    for name in ("aws_expiration", "expiration", "x_security_token_expires"):
        try:
            noted = datetime.fromisoformat(str(profile[name]))
        except (KeyError, ValueError):
            continue
        return noted if noted.tzinfo is not None else noted.replace(tzinfo=UTC)
    return None


def _tail(found: Any, expiry: datetime | None) -> str:
    """Last letters of the key id, which is no secret; not of credentials that can't be asked any more."""
    if expiry is not None and expiry <= datetime.now(UTC):
        return "..."
    return f"...{found.access_key[-4:]}" if len(found.access_key) > 8 else "..."


def _token(found: Any) -> bool:
    return bool(found.token)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _none(reason: str) -> Finding:
    remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role"
    return Finding("credentials", Status.FAIL, reason, remedy)
