"""`runs/<id>/`: where and how a build ran. Nothing of data reads it, so clocks and hosts may stand here.

While the build lives a thread writes a sign of life every 30 seconds, with how far each stage is:
`weave-data status` reads it, `gc` and `remove` keep their hands off an output that has one.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import secrets
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from weave_data.config import BuildConfig
from weave_data.errors import StoreError
from weave_data.foreign_text import redact
from weave_data.pipeline.progress import OnProgress
from weave_data.records import canonical_json
from weave_data.storage import Store
from weave_data.upkeep import BEAT_SECONDS

__all__ = ["RunLog"]


class RunLog:
    """One run of `build` on an output; `start` it, `finish` it in every case.

    Args:
        store: The output.
        run_id: Name below `runs/`.
        beat_seconds: Time between two signs of life.
    """

    def __init__(self, store: Store, run_id: str, *, beat_seconds: float = BEAT_SECONDS) -> None:
        self.store = store
        self.run_id = run_id
        self._beat_seconds = beat_seconds
        self._lock = threading.Lock()
        self._stages: dict[str, dict[str, Any]] = {}
        self._beats = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="run-log", daemon=True)

    @classmethod
    def start(cls, store: Store, config: BuildConfig, *, beat_seconds: float = BEAT_SECONDS) -> RunLog:
        """Write `runs/<id>/start.json` (configuration with locations, host, command); begin to beat."""
        now = dt.datetime.now(dt.UTC)
        log = cls(store, f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}", beat_seconds=beat_seconds)
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
        log._beat()
        log._thread.start()
        return log

    def observing(self, on_progress: OnProgress) -> OnProgress:
        """Note what passes on its way to `on_progress`, for `weave-data status`."""

        def note(stage: str, done: int, total: int, unit: str) -> None:
            with self._lock:
                self._entry(stage).update(done=done, total=total, unit=unit)
            on_progress(stage, done, total, unit)

        return note

    def add_busy(self, stage: str, busy_seconds: float, *, workers: int) -> None:
        """Note that a stage's workers spent time on work, as an item's outcome reports it.

        Args:
            stage: `decode`, `embed` or `shards`.
            busy_seconds: Of one item.
            workers: Cores or actors that share the stage.
        """
        with self._lock:
            entry = self._entry(stage)
            entry["busy_seconds"] = entry.get("busy_seconds", 0.0) + busy_seconds
            entry["workers"] = workers

    def note_catalog(self, key: str) -> None:
        """Note which catalog this run reads, for an output that holds several."""
        with self._lock:
            self._entry("catalog")["key"] = key

    def finish(self, outcome: str, details: dict[str, Any]) -> None:
        """Stop beating and write `runs/<id>/end.json`.

        Raises:
            StoreError: The store refused; the run then looks dead, as it should.
        """
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        now = dt.datetime.now(dt.UTC)
        progress = self._progress()
        self._write(
            "end.json", {**details, "outcome": outcome, "ended": now.isoformat(), "progress": progress}
        )
        self.store.delete(self._alive_key(self._beats))

    def _entry(self, stage: str) -> dict[str, Any]:
        return self._stages.setdefault(stage, {"began": time.time()})

    def _live(self) -> None:
        while not self._is_over.wait(self._beat_seconds):
            # a store that is away for a while is the build's business; here the next beat tries again
            with suppress(StoreError):
                self._beat()

    def _beat(self) -> None:
        number = self._beats + 1
        self._write(f"alive-{number:06d}.json", {"progress": self._progress()})
        self._beats = number
        if number > 1:
            self.store.delete(self._alive_key(number - 1))

    def _progress(self) -> dict[str, Any]:
        with self._lock:
            return {name: dict(values) for name, values in self._stages.items()}

    def _alive_key(self, number: int) -> str:
        return f"runs/{self.run_id}/alive-{number:06d}.json"

    def _write(self, name: str, values: dict[str, Any]) -> None:
        text = redact(canonical_json(values).decode())  # addresses and the command may tell a password
        self.store.put_new(f"runs/{self.run_id}/{name}", text.encode())
