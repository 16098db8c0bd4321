"""`runs/<id>/`: how one run of a build began, how far it is and how it ended.

    start.json           once, before any work: configuration, command, host
    alive-<n>.json       the n-th sign of life; a newer one takes its place every 30 seconds
    end.json             once, with the last progress; no sign of life stays beside it

A sign of life is a new object and the old one is deleted: nothing in an output but `manifest.json`
and `card.md` is ever replaced. Nothing of data reads any of this back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weave_data.errors import ConflictError
from weave_data.storage import ObjectInfo, Store

__all__ = ["BEAT_SECONDS", "RunRecord", "check_no_run", "read_runs"]

BEAT_SECONDS = 30
_ALIVE_BEATS = 4
_UNCERTAIN_BEATS = 20  # who deletes waits longer than who only looks

_KEY = re.compile(r"runs/(?P<run>[^/]+)/(?:(?P<name>start|end)|alive-\d+)\.json")


@dataclass(frozen=True)
class RunRecord:
    """One run as the store shows it.

    Attributes:
        run_id: Name below `runs/`.
        started: Seconds since 1970 on the store's clock.
        last_seen: When it last wrote into `runs/`, on the same clock.
        start: Content of `start.json`.
        progress: Of the last sign of life, or of the end: stages with done, total, unit, busy seconds.
        end: Content of `end.json`; None while it runs, and for ever when it was killed.
        has_beat: It has given a sign of life; a run that never did can't be told from a dead one.
    """

    run_id: str
    started: float
    last_seen: float
    start: Mapping[str, Any]
    progress: Mapping[str, Any]
    end: Mapping[str, Any] | None
    has_beat: bool

    def state(self, now: float) -> str:
        """`finished`, `running`, or `dead` (no end and no sign of life for two minutes)."""
        if self.end is not None:
            return "finished"
        return "running" if now - self.last_seen < _ALIVE_BEATS * BEAT_SECONDS else "dead"


def read_runs(store: Store) -> list[RunRecord]:
    """Runs of an output, the latest last."""
    found: dict[str, dict[str, ObjectInfo]] = {}
    for info in store.list("runs/"):
        match = _KEY.fullmatch(info.key)
        if match:
            found.setdefault(match["run"], {})[match["name"] or "alive"] = info
    records = [_record(store, run, infos) for run, infos in found.items()]
    return sorted(records, key=lambda record: (record.started, record.run_id))


def _record(store: Store, run_id: str, infos: Mapping[str, ObjectInfo]) -> RunRecord:
    contents = {name: _read(store, info.key) for name, info in infos.items()}
    times = [info.modified or 0.0 for info in infos.values()]
    beat = contents.get("alive") or contents.get("end") or {}
    return RunRecord(
        run_id=run_id,
        started=min(times),
        last_seen=max(times),
        start=contents.get("start") or {},
        progress=beat.get("progress", {}),
        end=contents.get("end") if "end" in infos else None,
        has_beat="alive" in infos,
    )


def _read(store: Store, key: str) -> dict[str, Any]:
    """Content of a run's object; a sign of life may be gone again, then there is a newer one."""
    if store.head(key) is None:
        return {}
    return dict(json.loads(store.get(key)))


def check_no_run(store: Store, *, now: float, verb: str) -> None:
    """Refuse to take files away from under a build.

    Args:
        store: The output.
        now: Seconds since 1970.
        verb: What was asked for, for the message.

    Raises:
        ConflictError: A build gave a sign of life within ten minutes, or began within a day and none yet.
    """
    for record in read_runs(store):
        silence = now - record.last_seen
        limit = _UNCERTAIN_BEATS * BEAT_SECONDS if record.has_beat else 86_400
        if record.end is None and silence < limit:
            raise ConflictError(
                f"{store.uri}: {verb} refused: run {record.run_id} on {record.start.get('host', '?')} was "
                f"seen {silence:.0f} s ago and has not ended; wait for it, or delete runs/{record.run_id} if "
                "you know that it is dead"
            )
