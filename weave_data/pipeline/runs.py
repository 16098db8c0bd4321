"""`runs/<id>/`: where and how a build ran. Nothing reads it back, so clocks and hosts may stand here."""

from __future__ import annotations

import datetime as dt
import os
import platform
import secrets
import sys
from dataclasses import dataclass
from typing import Any

from weave_data.config import BuildConfig
from weave_data.records import canonical_json
from weave_data.storage import Store

__all__ = ["RunLog"]


@dataclass(frozen=True)
class RunLog:
    """One run of `build` on an output."""

    store: Store
    run_id: str

    @classmethod
    def start(cls, store: Store, config: BuildConfig) -> RunLog:
        """Write `runs/<id>/start.json`: configuration with locations, host, versions, command."""
        now = dt.datetime.now(dt.timezone.utc)
        log = cls(store, f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}")
        log._write(
            "start.json",
            {
                "configuration": config.model_dump(mode="json"),
                "command": sys.argv,
                "host": platform.node(),
                "platform": platform.platform(),
                "python": platform.python_version(),
                "process_id": os.getpid(),
                "started": now.isoformat(),
            },
        )
        return log

    def finish(self, outcome: str, details: dict[str, Any]) -> None:
        """Write `runs/<id>/end.json`."""
        now = dt.datetime.now(dt.timezone.utc)
        self._write("end.json", {"outcome": outcome, "ended": now.isoformat(), **details})

    def _write(self, name: str, values: dict[str, Any]) -> None:
        self.store.put_new(f"runs/{self.run_id}/{name}", canonical_json(values))
