"""Builds that last long enough to break something in their middle."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from servers import S3Server
from small_builds import settings

from weave_data.storage import open_store

NUM_CLIPS = 26
WAIT_SECONDS = 600


def host_settings(source: str, output: str) -> dict[str, Any]:
    """One clip a part, so that there is a middle."""
    values = settings(source, output)
    values["source"]["part_clips"] = 1
    return values | {"execution": {}}


def write_config(folder: Path, source: str, s3: S3Server, **sections: Any) -> tuple[Path, str]:
    """A configuration with an output of its own: the file and the output."""
    output = f"s3://{s3.new_bucket()}/woven"
    path = folder / f"{output.split('/')[2]}.yaml"
    path.write_text(json.dumps(host_settings(source, output) | sections))
    return path, output


def manifest_hash(output: str, recipe: str = "l4") -> str:
    """sha256 of the bytes of a published manifest."""
    return hashlib.sha256(open_store(output).get(f"{recipe}/manifest.json")).hexdigest()


def num_parts(output: str) -> int:
    """Parts whose frames are committed."""
    return sum(item.key.endswith(".tar") for item in open_store(output).list("frames/"))


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)
