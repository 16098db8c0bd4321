"""What one node answers. Facts only: what they mean is decided where all nodes' answers come together.

echo QUESTIONS_AS_JSON | python -m weave_data.doctor.node
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

from weave_data.doctor import codecs, devices, disk, network, versions, weights
from weave_data.doctor.questions import Questions
from weave_data.errors import WeaveError
from weave_data.storage import open_store

__all__ = ["look_at_node"]


def look_at_node(questions: str) -> dict[str, Any]:
    """Answer.

    Args:
        questions: `Questions` as JSON.

    Returns:
        Values that JSON can hold: `host`, `time` (seconds since 1970), and one entry for each family of
        checks, as its `look` gives it.
    """
    asked = Questions.model_validate_json(questions)
    return {
        "host": socket.gethostname(),
        "time": time.time(),
        "versions": versions.look(asked.packages),
        "codecs": codecs.look(asked.decoder, asked.formats),
        "weights": [weights.look(question) for question in asked.weights],
        "devices": devices.look(needs_torch=asked.needs_torch, times_frames=asked.times_frames),
        "disk": disk.look(asked.folders),
        "network": network.look(),
        "readable": {uri: _problem(uri) for uri in asked.readable},
    }


def _problem(uri: str) -> str:
    try:
        open_store(uri).check()
    except WeaveError as error:
        return str(error)
    return ""


def main() -> None:
    """Read questions from standard input, write one line of JSON."""
    sys.stdout.write(json.dumps(look_at_node(sys.stdin.read())) + "\n")


if __name__ == "__main__":
    main()
