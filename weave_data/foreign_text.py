r"""Text that others wrote, made fit to be shown and kept.

visible   nothing in it acts on a terminal: control and direction characters are written out (`\x1b`)
redact    passwords in addresses and signatures in their queries are left out
"""

from __future__ import annotations

import re

__all__ = ["redact", "visible"]

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY = re.compile(
    r"([?&][\w.-]*(?:sig|signature|token|secret|password|credential|key|auth)[\w.-]*=)[^&\s'\"]+", re.I
)


def visible(text: str) -> str:
    r"""Write out what a terminal would obey; new lines and tabs stay.

    `"a\x1b[31m"` -> `"a\\x1b[31m"`. Joiners that scripts and emoji need stay as they are.
    """
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def redact(text: str) -> str:
    """Leave out what an address must not tell.

    `https://me:secret@host/x?sig=1` -> `https://***@host/x?sig=***`.
    """
    return _QUERY.sub(r"\1***", _USERINFO.sub("***@", text))
