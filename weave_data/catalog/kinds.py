"""Which class reads which `source.kind`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from weave_data.catalog.conversation_source import ConversationsSource
from weave_data.catalog.folder import FolderSource
from weave_data.catalog.manifest import ManifestSource
from weave_data.catalog.protocol import ClipSource
from weave_data.catalog.webdataset import WebdatasetSource
from weave_data.catalog.webvid import WebvidSource
from weave_data.config import SourceConfig

__all__ = ["KINDS", "open_clip_source"]

KINDS: Mapping[str, Callable[[SourceConfig], ClipSource]] = {
    "webvid": WebvidSource,
    "folder": FolderSource,
    "webdataset": WebdatasetSource,
    "manifest": ManifestSource,
    "conversations": ConversationsSource,
}


def open_clip_source(config: SourceConfig) -> ClipSource:
    """The source a configuration describes; nothing is read yet."""
    return KINDS[config.kind](config)
