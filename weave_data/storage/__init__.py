"""Storage: five verbs and one compare-and-swap on local disk and S3.

    open_store(uri) -> Store      list, head, get, get_range, put_new, delete, replace   (an output)
    open_source(uri) -> SourceRoot   list, size, read, read_range                        (never written)
    scratch_folder(parent) -> Path   on a worker's own disk                              (gone afterwards)

A file is committed once, the first writer wins: `commit_exact` for stages that must give the same
bytes, `commit_first` for stages whose first result becomes the data. Both kinds of store pass one
contract suite. Nothing here knows what is stored.
"""

from weave_data.storage.base import (
    MAX_OBJECT_BYTES,
    Committed,
    ObjectInfo,
    RangeReader,
    RequestLimits,
    Store,
    commit_exact,
    commit_first,
    sha256_of,
)
from weave_data.storage.local import LocalStore
from weave_data.storage.opening import limit_reads, open_store
from weave_data.storage.s3 import S3Store
from weave_data.storage.scratch import scratch_folder
from weave_data.storage.sources import SourceRoot, open_source

__all__ = [
    "MAX_OBJECT_BYTES",
    "Committed",
    "LocalStore",
    "ObjectInfo",
    "RangeReader",
    "RequestLimits",
    "S3Store",
    "SourceRoot",
    "Store",
    "commit_exact",
    "commit_first",
    "limit_reads",
    "open_source",
    "open_store",
    "scratch_folder",
    "sha256_of",
]
