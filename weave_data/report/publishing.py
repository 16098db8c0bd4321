"""Files beside the recipes that say what an output holds: replaced by compare-and-swap."""

from __future__ import annotations

from collections.abc import Callable

from weave_data.errors import ConflictError
from weave_data.storage import Store
from weave_data.tables import sha256_hex

__all__ = ["publish_text"]

_MAX_RACES = 5


def publish_text(store: Store, key: str, render: Callable[[], str]) -> str:
    """Write a text about an output; what was written.

    Two builds that finish together both find their recipe in it: who loses the swap looks again.

    Args:
        store: The output.
        key: Of the file.
        render: Makes the text from what is published now.
    """
    for attempt in range(_MAX_RACES):
        current = store.get(key) if store.head(key) is not None else None
        text = render()
        if current == text.encode():
            break
        try:
            store.replace(key, text.encode(), expected=None if current is None else sha256_hex(current))
        except ConflictError:
            if attempt + 1 == _MAX_RACES:
                raise
        else:
            break
    return text
