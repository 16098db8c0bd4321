"""WebDataset tars, as video2dataset and img2dataset write them: clips addressed by offset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from weave_data.catalog.listing import check_videos
from weave_data.catalog.parts import CutCatalog, cut_catalog
from weave_data.catalog.protocol import Unit
from weave_data.catalog.tars import index_tar
from weave_data.config import SourceConfig
from weave_data.errors import SourceError
from weave_data.records import canonical_json
from weave_data.storage import ObjectInfo, SourceRoot, open_source, sha256_of

__all__ = ["WebdatasetSource"]

_HEAD_BYTES = 1 << 16
_THREADS = 8  # they wait for the store; the tars are parsed one after another
_PREVIEWED = 4


class WebdatasetSource:
    """Tars below `source.videos`, a unit each; see `ClipSource`."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config

    @property
    def settings(self) -> Mapping[str, Any]:
        """See `ClipSource.settings`."""
        return {}

    def check(self) -> None:
        """See `ClipSource.check`."""
        self._tars()

    def identities(self) -> Iterator[tuple[str, str]]:
        """See `ClipSource.identities`: of key, size and first 64 KiB, whose headers hold times of writing."""
        root = self._root()
        with ThreadPoolExecutor(_THREADS) as pool:
            tars = self._tars()
            sums = pool.map(lambda tar: _identity(root, tar), tars)
            yield from zip((tar.key for tar in tars), sums, strict=True)

    def units(self) -> Iterator[Unit]:
        """See `ClipSource.units`; rows are `TAR_ROW_SCHEMA`."""
        root = self._root()
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(lambda tar: _unit(root, tar), self._tars())

    def cut(self, units: Sequence[tuple[str, pa.Table]]) -> CutCatalog:
        """See `ClipSource.cut`; nothing is listed, members know their size."""
        cut = cut_catalog(units, None, part_clips=self._config.part_clips)
        if not len(cut.listed):
            reasons = ", ".join(f"{reason} {number}" for reason, number in cut.count.rejected.items())
            raise SourceError(
                f"source.videos: no clip in the {len(units)} tars of {self._config.videos} ({reasons}); a "
                "sample is a video or image and its .txt or .json, of one name"
            )
        if cut.count.duplicates > cut.count.num_out:
            raise SourceError(
                f"source.videos: {cut.count.duplicates} of {cut.count.num_in} samples repeat the name of an "
                "earlier one; names must be unique over all tars: write them anew, or give every json a key"
            )
        return cut

    def count_rows(self) -> int:
        """See `ClipSource.count_rows`: estimated by size from up to four of the tars."""
        root, tars = self._root(), self._tars()
        chosen = tars[:: max(1, -(-len(tars) // _PREVIEWED))]
        rows = sum(len(_unit(root, tar).rows) for tar in chosen)
        size_bytes = sum(tar.size_bytes for tar in chosen)
        return round(rows * sum(tar.size_bytes for tar in tars) / max(1, size_bytes))

    def _root(self) -> SourceRoot:
        if self._config.videos.lower().endswith(".tar"):
            raise SourceError(f"source.videos: {self._config.videos} is a tar; give the folder that holds it")
        return open_source(self._config.videos)

    def _tars(self) -> list[ObjectInfo]:
        root = self._root()
        check_videos(root)
        tars = []
        for info in root.list():
            if info.key.endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")):
                raise SourceError(
                    f"source.videos: {info.key} is compressed; clips are read by range: unpack it to a .tar"
                )
            if info.key.endswith(".tar"):
                tars.append(info)
        if not tars:
            raise SourceError(
                f"source.videos: {root.uri} holds no .tar file; correct the address or source.kind"
            )
        inside = next((tar.key for tar in tars if ".tar/" in tar.key), None)
        if inside is not None:
            raise SourceError(f"source.videos: {inside}: a folder's name may not end with .tar; rename it")
        return tars


def _identity(root: SourceRoot, tar: ObjectInfo) -> str:
    head = root.read_range(tar.key, 0, min(tar.size_bytes, _HEAD_BYTES))
    return sha256_of(canonical_json([tar.key, tar.size_bytes, sha256_of(head)]))


def _unit(root: SourceRoot, tar: ObjectInfo) -> Unit:
    return Unit(tar.key, _identity(root, tar), index_tar(root, tar.key, tar.size_bytes))
