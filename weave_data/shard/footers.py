"""Footers, kept per process: raw bytes for many shards, parsed for the few in use.

A parsed footer takes ten times its bytes (1 MB for 64 row groups) and parsing one takes 2 ms, so a
reader that hops between shards keeps bytes and parses again rather than holding hundreds parsed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import pyarrow.parquet as pq

from weave_data.errors import VerificationError
from weave_data.shard.layout import parse_footer
from weave_data.shard.manifest import ShardEntry
from weave_data.storage import RangeReader

__all__ = ["FooterCache", "read_footer"]

_MAX_RAW_BYTES = 64 << 20  # about 650 shards of 1024 rows
_MAX_PARSED = 16

_Key = tuple[str, str, str]


class FooterCache:
    """Least recently used footers go first; safe to use from threads.

    Args:
        max_raw_bytes: Bytes of unparsed footers to keep.
        max_parsed: Parsed footers to keep.
    """

    def __init__(self, *, max_raw_bytes: int = _MAX_RAW_BYTES, max_parsed: int = _MAX_PARSED) -> None:
        self._max_raw_bytes = max_raw_bytes
        self._max_parsed = max_parsed
        self._raw: OrderedDict[_Key, bytes] = OrderedDict()
        self._parsed: OrderedDict[_Key, pq.FileMetaData] = OrderedDict()
        self._raw_bytes = 0
        self._lock = threading.Lock()

    def read(self, store: RangeReader, shard: ShardEntry) -> pq.FileMetaData:
        """See `read_footer`."""
        key = (store.uri, shard.path, shard.sha256)
        with self._lock:
            if key in self._parsed:
                self._parsed.move_to_end(key)
                return self._parsed[key]
            raw = self._raw.get(key)
        if raw is None:
            stop = shard.footer_offset + shard.footer_bytes
            raw = store.get_range(shard.path, shard.footer_offset, stop)
        footer = parse_footer(raw, name=shard.path)
        if footer.num_rows != shard.rows:
            raise VerificationError(f"{shard.path}: {footer.num_rows} rows, the manifest says {shard.rows}")
        self._keep(key, raw, footer)
        return footer

    def _keep(self, key: _Key, raw: bytes, footer: pq.FileMetaData) -> None:
        with self._lock:
            if key not in self._raw:
                self._raw_bytes += len(raw)
            self._raw[key] = raw
            self._raw.move_to_end(key)
            while self._raw_bytes > self._max_raw_bytes:
                self._raw_bytes -= len(self._raw.popitem(last=False)[1])
            self._parsed[key] = footer
            while len(self._parsed) > self._max_parsed:
                self._parsed.popitem(last=False)


_cache = FooterCache()


def read_footer(store: RangeReader, shard: ShardEntry) -> pq.FileMetaData:
    """Parquet metadata of a shard: one GET the first time in this process, none after.

    Raises:
        StoreError: The range can't be read.
        VerificationError: The bytes at the manifest's offset are not this shard's footer.
    """
    return _cache.read(store, shard)
