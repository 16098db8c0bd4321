"""A run directory belongs to whoever started on it last.

    start -> runner.json = a fresh token, host, process, time
    step  -> the token is still there? else this run ends

No lock: a lock that a killed run left behind would have to be broken by hand, and file systems that clusters
share don't all honour one. The newer start wins, because it is the one that somebody is waiting for.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path

from weave_data.errors import ConflictError
from weave_train.whole_files import write_whole

__all__ = ["Claim"]


class Claim:
    """Of the first rank, on its run's directory.

    Args:
        run_dir: Of the run; made when it is not there.

    Raises:
        StoreError: `runner.json` can't be written.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "runner.json"
        self._token = secrets.token_hex(16)
        values = {
            "token": self._token,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_whole(self._path, json.dumps(values) + "\n")

    @property
    def holds(self) -> bool:
        """Whether nobody started on the directory since."""
        return self._holder() is None

    def check(self) -> None:
        """Call before every step.

        Raises:
            ConflictError: Somebody else started on the directory; the message says who. No launcher starts
                this run anew after it.
        """
        holder = self._holder()
        if holder is not None:
            process, host, started = (holder.get(name, "?") for name in ("process", "host", "started"))
            raise ConflictError(
                f"{self._path.parent}: process {process} on {host} started the same run at {started} and "
                "goes on with it, so this one ends; its complete checkpoints stay. For two runs give each "
                "its --run_id"
            )

    def _holder(self) -> dict[str, object] | None:
        """Who started since; None where nobody is known to have."""
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # taken away, or not readable just now
        is_other = isinstance(values, dict) and values.get("token") != self._token
        return values if is_other else None
