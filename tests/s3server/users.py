"""A second user of the session's Ceph, with buckets of its own, whose key a test may take away."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from servers import S3Server


@dataclass(frozen=True)
class SecondUser:
    """Attributes:
    conf: Of the Ceph.
    server: As this user sees it.
    others: As the session's own user sees it.
    """

    conf: Path
    server: S3Server
    others: S3Server

    @property
    def environment(self) -> dict[str, str]:
        """What its client processes need."""
        return self.server.environment

    def new_bucket(self) -> str:
        return self.server.new_bucket()

    def copy_of(self, uri: str) -> str:
        """Copy what lies below `s3://bucket/prefix` into a bucket of its own; the new URI."""
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        ours = self.new_bucket()
        pages = self.others.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for key in [item["Key"] for page in pages for item in page["Contents"]]:
            found = self.others.client().get_object(Bucket=bucket, Key=key)
            self.server.client().put_object(
                Bucket=ours, Key=key, Body=found["Body"].read(), Metadata=found["Metadata"]
            )
        return f"s3://{ours}/{prefix}"

    def lose_key(self) -> None:
        """From now on its access key is unknown."""
        _admin(
            self.conf, "key", "rm", f"--uid={self.server.access_key}", "--key-type=s3",
            f"--access-key={self.server.access_key}",
        )  # fmt: skip

    def get_key_back(self) -> None:
        """The same key, good again."""
        _admin(
            self.conf, "key", "create", f"--uid={self.server.access_key}", "--key-type=s3",
            f"--access-key={self.server.access_key}", f"--secret-key={self.server.secret_key}",
        )  # fmt: skip


def second_user(server: S3Server) -> SecondUser:
    """Make one on the session's Ceph."""
    conf = Path(os.environ["WEAVE_TEST_SHARED"]) / "s3" / "ceph" / "ceph.conf"
    name = f"user{uuid.uuid4().hex[:12]}"
    _admin(
        conf, "user", "create", f"--uid={name}", f"--display-name={name}",
        f"--access-key={name}", "--secret-key=its-own-secret",
    )  # fmt: skip
    return SecondUser(conf, S3Server("ceph", server.endpoint, name, "its-own-secret"), server)


def _admin(conf: Path, *arguments: str) -> None:
    command = ["radosgw-admin", "-c", str(conf), "-n", "client.rgw", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
