"""How a process talks to S3: one client per process and environment, bounded, with deadlines.

Endpoint, region and credentials come from the standard AWS_* environment. Retries are botocore's
`standard` mode (exponential back-off with jitter on 5xx, throttling and broken connections;
AWS_MAX_ATTEMPTS changes how many): ten attempts outlast a server that is away for half a minute. At
most `MAX_REQUESTS` requests of a process are in flight.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    LoginError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from weave_data.errors import StoreError
from weave_data.foreign_text import redact

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "CHECK_ATTEMPTS",
    "CONNECT_SECONDS",
    "MAX_REQUESTS",
    "READ_SECONDS",
    "aws_environment",
    "back_off",
    "endpoint",
    "error_code",
    "error_status",
    "explain",
    "has_expired",
    "max_attempts",
    "request_slot",
    "s3_client",
]

MAX_REQUESTS = 16
"""Requests in flight per process; also the size of its connection pool."""

CHECK_ATTEMPTS = 3
"""Attempts of a preflight check: about two seconds when nobody answers."""

CONNECT_SECONDS = 10
READ_SECONDS = 60

_SLOTS = threading.BoundedSemaphore(MAX_REQUESTS)
_MAKING = threading.Lock()

_REFUSED_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UserSuspended",
    }
)
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
"""There are none, or whoever issues them (a sign-on, a role, a program) gives no new ones."""

_ISSUING = frozenset(
    {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "CreateToken", "GetRoleCredentials"}
)
"""Requests with which botocore renews credentials."""

_KMS_ACTION = re.compile(r"kms:\w+")  # named in the message of an AccessDenied, whose code does not tell
_BUSY = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestThrottled"})


def aws_environment() -> tuple[tuple[str, str], ...]:
    """AWS_* variables: clients are cached under them, so that a changed environment is seen."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


def max_attempts() -> int:
    """Attempts per request, the first included; 10 unless AWS_MAX_ATTEMPTS says otherwise."""
    return int(os.environ.get("AWS_MAX_ATTEMPTS", "10"))


def endpoint() -> str:
    """The S3 endpoint of this environment, for messages."""
    return redact(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS")


def s3_client(attempts: int | None = None, idle_seconds: float = READ_SECONDS) -> S3Client:
    """Return this process' client for the present environment.

    Args:
        attempts: Instead of `max_attempts()`; `check` asks for few, to fail soon.
        idle_seconds: Longest wait for the next byte of a reply.

    Raises:
        StoreError: The environment can't make a client (profile, region).
    """
    try:
        with _MAKING:  # one takes a third of a second of computing: threads that start together share it
            return _cached_client(os.getpid(), aws_environment(), attempts or max_attempts(), idle_seconds)
    except (BotoCoreError, ValueError) as error:
        reason = _one_line(error).rstrip(":.")
        explained = StoreError(f"S3 is not configured: {reason}; correct the AWS_* environment")
        explained.is_refusal = _is_refusal(error)
        raise explained from error


@functools.lru_cache(maxsize=8)
def _cached_client(
    pid: int,  # noqa: ARG001 - clients don't survive a fork
    environment: tuple[tuple[str, str], ...],  # noqa: ARG001
    attempts: int,
    idle_seconds: float,
) -> S3Client:
    # a session of its own: boto3's default session is not thread-safe and keeps old credentials
    return boto3.session.Session().client(
        "s3",
        config=Config(
            connect_timeout=min(CONNECT_SECONDS, idle_seconds),
            read_timeout=idle_seconds,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=MAX_REQUESTS,
            # we send a sha256 of our own; the default trailing checksum is not understood everywhere
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextlib.contextmanager
def request_slot() -> Iterator[None]:
    """Hold one of the process' `MAX_REQUESTS` slots."""
    with _SLOTS:
        yield


def back_off(attempt: int, *, base_seconds: float = 0.1, cap_seconds: float = 5.0) -> None:
    """Sleep a random part of an exponentially growing interval; `attempt` counts from 0."""
    time.sleep(random.uniform(0, min(cap_seconds, base_seconds * 2**attempt)))  # noqa: S311 - jitter


def error_code(error: ClientError) -> str:
    """S3's error code, `404` and the like for HEAD requests."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_status(error: ClientError) -> int:
    """HTTP status of an error reply."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def has_expired(error: Exception) -> bool:
    """True for what botocore raises when the environment's credentials are past their expiration."""
    return isinstance(error, RuntimeError) and "still expired" in str(error)


def explain(error: Exception, uri: str) -> StoreError:
    """Turn a client's error into one line: what, value, rule, next action.

    Args:
        error: From boto3 or s3fs, or one that `has_expired`.
        uri: `s3://bucket/key` that was asked for.
    """
    bucket = uri.removeprefix("s3://").partition("/")[0]
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        reason = "no usable S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"
    elif has_expired(error):
        reason = (
            f"no usable S3 credentials ({_one_line(error).rstrip('.')}); renew them and "
            "AWS_CREDENTIAL_EXPIRATION, then run the same command again: it resumes"
        )
    elif isinstance(error, _NO_CREDENTIALS) or _is_refused_issue(error):
        reason = (
            f"no usable S3 credentials ({_one_line(error).rstrip('.')}); renew them (`aws sso login`, or "
            "whatever issued them), then run the same command again: it resumes"
        )
    elif isinstance(error, NoRegionError):
        reason = "no region; set AWS_DEFAULT_REGION"
    elif isinstance(error, (BotoConnectionError, ConnectTimeoutError, HTTPClientError)):
        reason = f"can't reach {endpoint()} ({type(error).__name__}); check AWS_ENDPOINT_URL and the network"
    elif isinstance(error, ClientError):
        reason = _explain_reply(error, bucket)
    else:
        reason = f"{_one_line(error)}; check the AWS_* environment"
    explained = StoreError(f"{uri}: {reason}")
    explained.is_transient = _is_transient(error)
    explained.is_refusal = _is_refusal(error)
    return explained


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error_code(error) in _REFUSED_CREDENTIALS or _is_refused_issue(error)
    return has_expired(error) or isinstance(error, _NO_CREDENTIALS)


def _is_refused_issue(error: Exception) -> bool:
    """Credentials were to be renewed, and the issuer said no."""
    return isinstance(error, ClientError) and error.operation_name in _ISSUING and not _is_transient(error)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error_status(error) in (408, 429) or error_status(error) >= 500 or error_code(error) in _BUSY
    return isinstance(error, (BotoConnectionError, HTTPClientError, IncompleteReadError))


def _explain_reply(error: ClientError, bucket: str) -> str:
    code, status = error_code(error), error_status(error)
    if code == "NoSuchBucket":
        return f"bucket {bucket!r} does not exist at {endpoint()}; create it or correct the name"
    if code in _REFUSED_CREDENTIALS:
        return (
            f"{endpoint()} refused the credentials ({code}); renew or correct AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_ENDPOINT_URL, then run the same command again: "
            "it resumes"
        )
    action = _KMS_ACTION.search(str(error))
    if status == 403 and action is not None:
        return (
            f"{endpoint()} denied access ({code}): the key that encrypts {bucket!r} was refused; grant "
            f"{action[0]} on it (kms:GenerateDataKey to write, kms:Decrypt to read)"
        )
    if status == 403:
        return f"{endpoint()} denied access ({code}); grant the access key list, read and write on {bucket!r}"
    if code in {"NoSuchKey", "404"}:
        return "no such object; correct the name, or run the build again to restore it"
    if code == "InvalidRange":
        return "the object is shorter than its index says; run `weave-data verify`"
    return f"{endpoint()} answered {status} {code}; run the same command again, it resumes"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
