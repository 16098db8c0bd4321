"""Names in tars, archives, tables and JSON can't lead out of their root.

What catalogs refuse is shown in `tests/catalog`, archives that name parents in `tests/download`, keys of
stores in `tests/storage`; here is what lies between them.
"""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from weave_data.catalog import build_catalog
from weave_data.config import SourceConfig
from weave_data.download.archives import unpack
from weave_data.errors import SourceError, StoreError, WeaveError
from weave_data.storage import LocalStore, open_source

LINKS = [
    pytest.param(tarfile.SYMTYPE, id="symbolic"),
    pytest.param(tarfile.LNKTYPE, id="hard"),
]


def add(
    tar: tarfile.TarFile, name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, to: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, to, len(data)
    tar.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("to", ["/etc/passwd", "../../secret.mp4"])
def test_a_link_in_a_tar_of_a_source_is_no_clip(tmp_path: Path, kind: bytes, to: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"outside")
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "a.tar", "w") as tar:
        add(tar, "good.mp4", b"inside")
        add(tar, "good.txt", b"a caption")
        add(tar, "bad.mp4", kind=kind, to=to)
        add(tar, "bad.txt", b"another")
    store = LocalStore(tmp_path / "out")
    catalog = build_catalog(SourceConfig(kind="webdataset", videos=str(tmp_path / "tars")), store)
    clips = [clip for part in catalog.parts for clip in catalog.read_part(store, part)["clip_id"].to_pylist()]
    rejects = catalog.read_rejects(store).to_pylist()
    assert clips == ["good"]
    assert [(row["clip_id"], row["reason"]) for row in rejects] == [("bad", "missing")]


@pytest.mark.parametrize("kind", LINKS)
def test_a_download_writes_through_no_link_that_it_brings(tmp_path: Path, kind: bytes) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "folder", kind=kind, to=str(outside))
        add(tar, "folder/planted", b"x")
    with pytest.raises(SourceError, match="link or a device"):
        unpack(tmp_path / "a.tar", tmp_path / "to")
    assert list(outside.iterdir()) == []


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("folder")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
        archive.writestr("folder/planted", b"x")
    with pytest.raises(SourceError, match="link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "to")
    assert not (tmp_path / "to" / "folder" / "planted").exists()


@pytest.mark.parametrize("key", ["../secret.mp4", "/etc/passwd", "a/../../secret.mp4", "a/.."])
def test_a_source_reads_nothing_outside_its_root(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"outside")
    (tmp_path / "root" / "a").mkdir(parents=True)
    root = open_source(str(tmp_path / "root"))
    for ask in (root.read, root.size, lambda name: root.read_range(name, 0, 1)):
        with pytest.raises(StoreError, match="leads out of this root"):
            ask(key)


@pytest.mark.parametrize("name", ["../secret.jpg", "{tmp}/secret.jpg", "x/../../secret.jpg"])
def test_json_lists_of_a_run_name_nothing_outside_their_folder(tmp_path: Path, name: str) -> None:
    from PIL import Image

    from weave_train.feed.json_list_media import FrameSampling
    from weave_train.feed.json_lists import open_json_lists

    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    (tmp_path / "media").mkdir()
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "this"}]
    record = {"id": "1", "image": name.format(tmp=tmp_path), "conversations": turns}
    (tmp_path / "list.json").write_text(json.dumps([record]))
    lists = [str(tmp_path / "list.json")]
    source = open_json_lists(lists, str(tmp_path / "media"), name="x", sampling=FrameSampling())
    with pytest.raises(WeaveError, match="leads out of this root"):
        source.read(0, 0, 0, epoch=0)


def test_files_of_a_run_in_a_store_are_not_written_elsewhere(tmp_path: Path) -> None:
    from weave_data.errors import VerificationError
    from weave_data.storage import ObjectInfo
    from weave_train.checkpoint.run_files import fetch_run_files

    class Hostile:
        """A bucket: keys there may hold anything."""

        uri = "s3://bucket/run"

        def list(self, prefix: str) -> list[ObjectInfo]:
            return [ObjectInfo("tokenizer/../../../planted", 1)] if prefix == "tokenizer/" else []

        def get(self, key: str) -> bytes:
            return b"x"

    with pytest.raises(VerificationError, match="not a name of a run's file"), fetch_run_files(Hostile()):  # type: ignore[arg-type]
        pass
