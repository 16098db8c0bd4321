"""Stand-in decoders and small builds are shared with the tests of their rooms."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for room in ("decode", "pipeline"):
    if str(TESTS / room) not in sys.path:
        sys.path.append(str(TESTS / room))
