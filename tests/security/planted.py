"""Things an attacker would plant: pickles that leave a mark, text that acts on terminals and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ACTING = "\x1b]0;title\x07\x1b[31mred\x1b[2J \x9b5m \rover \u202eback\u202c [bold]markup[/bold] :smile:"
"""Escape sequences of both kinds, a carriage return, a direction override, rich's markup."""

MARKUP = "<script>alert('x')</script>\"><img src=x onerror=alert(1)> | ` \\"

HARMFUL = frozenset("\x1b\x07\x9b\r\u202e\u202c")


class Mark:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def harmful(text: str) -> set[str]:
    """Characters of a text that act on a terminal."""
    return HARMFUL & set(text)
