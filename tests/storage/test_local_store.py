"""What only the local store has to care about: leftovers of killed writers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from weave_data.errors import SourceError, StoreError
from weave_data.storage import LocalStore, open_store
from weave_data.storage import local as local_module


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it may be relied on."""


def test_leftovers_of_a_killed_writer_are_never_listed_or_in_the_way(tmp_path):
    store = LocalStore(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".tmp-0123").write_bytes(b"half")
    (tmp_path / ".tmp-0456").write_bytes(b"half")
    assert list(store.list("")) == []
    assert list(store.list("a/")) == []
    assert store.put_new("a/b", b"whole").is_ours
    assert [info.key for info in store.list("")] == ["a/b"]


@pytest.mark.process
def test_a_writer_killed_before_its_link_leaves_nothing_visible(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from weave_data.storage import open_store\n"
        "os.link = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_store(sys.argv[1]).put_new('a/b', b'x' * 100000)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    store = LocalStore(tmp_path)
    assert len(list((tmp_path / "a").iterdir())) == 1  # the leftover is really there
    assert list(store.list("")) == []
    assert store.head("a/b") is None
    assert store.put_new("a/b", b"again").is_ours


def test_data_is_on_disk_before_its_name_is(tmp_path, monkeypatch):
    events = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor):
        events.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "data")
        real_fsync(descriptor)

    def link(old, new):
        events.append("link")
        real_link(old, new)

    (tmp_path / "a").mkdir()
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    LocalStore(tmp_path).put_new("a/b", b"x")
    assert events == ["data", "link", "folder"]


def test_a_replacement_killed_before_it_shows_is_completed_by_the_next_writer(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)
    store.put_new("m", b"v1")
    settle, calls = local_module._settle, []

    def killed_the_second_time(path):
        calls.append(path)
        if len(calls) == 2:
            raise KilledError
        return settle(path)

    with monkeypatch.context() as patch:
        patch.setattr(local_module, "_settle", killed_the_second_time)
        with pytest.raises(KilledError):
            store.replace("m", b"v2", expected=digest(b"v1"))
    assert (tmp_path / "m").read_bytes() == b"v1"  # decided, not shown yet
    store.replace("m", b"v3", expected=digest(b"v2"))
    assert store.get("m") == b"v3"
    assert [info.key for info in store.list("")] == ["m"]


def test_a_writer_that_shows_an_old_version_late_is_corrected(tmp_path):
    store = LocalStore(tmp_path)
    store.put_new("m", b"v1")
    store.replace("m", b"v2", expected=digest(b"v1"))
    store.replace("m", b"v3", expected=digest(b"v2"))
    late = next(path for path in tmp_path.glob(".m.next-*") if path.read_bytes() == b"v2")
    os.link(late, tmp_path / ".tmp-late")
    (tmp_path / ".tmp-late").replace(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"v2"
    store.replace("m", b"v4", expected=digest(b"v3"))
    assert store.get("m") == b"v4"


def test_a_file_replaced_by_hand_is_a_new_beginning(tmp_path):
    store = LocalStore(tmp_path)
    store.put_new("m", b"v1")
    store.replace("m", b"v2", expected=digest(b"v1"))
    (tmp_path / "m").unlink()
    (tmp_path / "m").write_bytes(b"v1")
    store.replace("m", b"v3", expected=digest(b"v1"))
    assert store.get("m") == b"v3"


def test_addresses_of_one_folder_open_the_same_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uri in ("out", str(tmp_path / "out"), f"file://{tmp_path}/out"):
        assert open_store(uri).uri == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "empty"),
        ("s3://", "no bucket"),
        ("gs://bucket/x", "gs:// is not a store"),
        ("file://host/x", "name no host"),
    ],
)
def test_an_address_we_cannot_write_to_is_refused_with_the_rule(uri, message):
    with pytest.raises(StoreError, match=message):
        open_store(uri)


def test_check_says_when_the_output_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError, match="is a file"):
        open_store(str(tmp_path / "file" / "out")).check()


def test_a_file_where_a_folder_is_needed_is_one_clear_line(tmp_path):
    store = LocalStore(tmp_path)
    store.put_new("a", b"")
    with pytest.raises(StoreError, match="a/b: ") as caught:
        store.put_new("a/b", b"")
    assert "\n" not in str(caught.value)
