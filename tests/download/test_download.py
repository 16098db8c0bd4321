"""Downloads from a server that drops, lies, is busy and changes its mind."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile

import numpy as np
import pytest
import typer
from fault_server import fault_server
from PIL import Image
from typer.testing import CliRunner

from weave_data.commands import download as command
from weave_data.download import (
    DATASETS,
    RemoteFile,
    RetryPolicy,
    convert_to_jpeg,
    download_dataset,
    fetch_file,
    find_dataset,
    unpack,
)
from weave_data.errors import ConfigError, SourceError

DATA = np.random.default_rng(7).bytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server():
    with fault_server() as running:
        running.files["/f.bin"] = DATA
        yield running


@pytest.fixture
def waits():
    return []


@pytest.fixture
def policy(waits):
    return RetryPolicy(max_failures=3, connect_seconds=20, read_seconds=20, sleep=waits.append)


def fetch(server, folder, policy, **settings):
    return fetch_file(f"{server.url}/f.bin", folder / "f.bin", policy=policy, **settings)


def test_a_file_gets_its_name_when_it_is_whole(server, tmp_path, policy, waits):
    got = fetch(server, tmp_path, policy, sha256=SHA256)
    assert (got.size_bytes, got.sha256, got.resumed_at, got.restarts) == (len(DATA), SHA256, 0, 0)
    assert (tmp_path / "f.bin").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["f.bin"]
    assert waits == []


def test_a_dropped_connection_is_continued_where_it_ended(server, tmp_path, policy, waits):
    server.faults["/f.bin"] = [("drop", 131_072), ("drop", 65_536)]
    assert fetch(server, tmp_path, policy).sha256 == SHA256
    assert server.requests == [
        ("/f.bin", None, None),
        ("/f.bin", "bytes=131072-", '"v1"'),
        ("/f.bin", "bytes=196608-", '"v1"'),
    ]
    assert len(waits) == 2


def test_another_run_continues_what_the_first_left(server, tmp_path, policy):
    server.faults["/f.bin"] = [("drop", 131_072), *[("drop", 0)] * 3]
    with pytest.raises(SourceError, match=r"gave up after 3 failures .* 131072 bytes are kept"):
        fetch(server, tmp_path, policy)
    assert not (tmp_path / "f.bin").exists()
    server.faults.clear()
    got = fetch(server, tmp_path, policy)
    assert (got.sha256, got.resumed_at) == (SHA256, 131_072)
    assert server.requests[-1] == ("/f.bin", "bytes=131072-", '"v1"')


def test_a_file_that_changed_between_resumes_is_begun_anew(server, tmp_path, policy):
    other = bytes(reversed(DATA))
    server.faults["/f.bin"] = [("drop", 131_072), ("change", other)]
    got = fetch(server, tmp_path, policy)
    assert (tmp_path / "f.bin").read_bytes() == other
    assert (got.restarts, got.resumed_at) == (1, 0)


@pytest.mark.parametrize(
    ("fault", "etag"),
    [(("ignore_range",), '"v1"'), (("wrong_range",), '"v1"'), (None, 'W/"weak"'), (None, "")],
    ids=["no ranges", "another range", "weak ETag", "no ETag"],
)
def test_what_can_not_be_continued_safely_is_begun_anew(server, tmp_path, policy, fault, etag):
    server.etags["/f.bin"] = etag
    server.faults["/f.bin"] = [("drop", 131_072), fault]
    assert fetch(server, tmp_path, policy).sha256 == SHA256
    assert (tmp_path / "f.bin").read_bytes() == DATA


def test_a_part_of_unknown_origin_is_not_continued(server, tmp_path, policy):
    (tmp_path / "f.bin.part").write_bytes(b"x" * 1000)
    assert fetch(server, tmp_path, policy).sha256 == SHA256
    assert server.requests == [("/f.bin", None, None)]


def test_a_part_that_was_whole_already_is_taken(server, tmp_path, policy):
    (tmp_path / "f.bin.part").write_bytes(DATA)
    notes = {"url": f"{server.url}/f.bin", "validator": '"v1"', "size_bytes": len(DATA), "sha256": None}
    (tmp_path / "f.bin.part.json").write_text(json.dumps(notes))
    assert fetch(server, tmp_path, policy).sha256 == SHA256
    assert len(server.requests) == 1


def test_a_busy_server_says_how_long_to_wait(server, tmp_path, policy, waits):
    server.faults["/f.bin"] = [("status", 503, {"Retry-After": "7"}), ("status", 429, {}), None]
    assert fetch(server, tmp_path, policy).sha256 == SHA256
    assert waits[0] == 7
    assert 1 <= waits[1] <= 2  # the second failure, 2 s with jitter


def test_a_wait_may_be_a_date(server, tmp_path, policy, waits):
    server.faults["/f.bin"] = [("status", 503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})]
    assert fetch(server, tmp_path, policy).sha256 == SHA256
    assert waits == [0.0]


def test_a_wait_beyond_patience_ends_with_what_to_do(server, tmp_path, policy, waits):
    server.faults["/f.bin"] = [("status", 503, {"Retry-After": "86400"})]
    with pytest.raises(SourceError, match="asks to wait 86400 s"):
        fetch(server, tmp_path, policy)
    assert waits == []


def test_a_server_that_stays_busy_is_given_up(server, tmp_path, policy, waits):
    server.faults["/f.bin"] = [("status", 500, {})] * 9
    with pytest.raises(SourceError, match=r"gave up after 3 failures in a row \(HTTP 500\)"):
        fetch(server, tmp_path, policy)
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_not_tried_again(server, tmp_path, policy, code):
    server.faults["/f.bin"] = [("status", code, {})] * 2
    with pytest.raises(SourceError, match=f"HTTP {code}"):
        fetch(server, tmp_path, policy)
    assert len(server.requests) == 1


def test_fewer_bytes_than_announced_are_never_a_file(server, tmp_path, policy):
    server.faults["/f.bin"] = [("length", 10)] * 20
    with pytest.raises(SourceError, match="f.bin"):
        fetch(server, tmp_path, policy)
    assert not (tmp_path / "f.bin").exists()


def test_a_wrong_sum_is_never_a_file(server, tmp_path, policy):
    with pytest.raises(SourceError, match=f"sha256 {SHA256} of 300000 bytes, {'0' * 64} was promised"):
        fetch(server, tmp_path, policy, sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_the_sum_that_hugging_face_sends_is_checked(server, tmp_path, policy):
    server.headers["/f.bin"] = {"X-Linked-ETag": f'"{"1" * 64}"'}
    with pytest.raises(SourceError, match=f"{'1' * 64} was promised"):
        fetch(server, tmp_path, policy)


@pytest.mark.parametrize("url", ["nowhere", "ftp://h/x", "http://"])
def test_what_is_no_address_is_said_at_once(tmp_path, policy, url, waits):
    with pytest.raises(SourceError, match="no address"):
        fetch_file(url, tmp_path / "x", policy=policy)
    assert waits == []


def zip_of(members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def tar_of(members, link=None):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return data.getvalue()


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_archives_unpack_with_and_without_their_top_folder(tmp_path, pack):
    path = tmp_path / "a.archive"
    path.write_bytes(pack({"top/x/1.jpg": b"one", "top/2.jpg": b"two", "__MACOSX/top/._2.jpg": b"junk"}))
    assert unpack(path, tmp_path / "plain") == 2
    assert unpack(path, tmp_path / "stripped", strip_top=True) == 2
    assert (tmp_path / "plain/top/x/1.jpg").read_bytes() == b"one"
    assert (tmp_path / "stripped/x/1.jpg").read_bytes() == b"one"
    assert sorted(p.name for p in (tmp_path / "stripped").iterdir()) == ["2.jpg", "x"]


def lying_zip():
    """Its one member says that it is 10 bytes long and unpacks to 5 MB."""
    data = bytearray(zip_of({"bomb": b"\0" * 5_000_000}))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(mark) + at
        data[place : place + 4] = (10).to_bytes(4, "little")
    return bytes(data)


def spoiled_zip():
    data = bytearray(zip_of({"x": DATA[:5000]}))
    data[100:140] = b"\xff" * 40
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(zip_of({"ok": b"", "../out": b"x"}), "leads out", id="zip: parent"),
        pytest.param(zip_of({"/etc/x": b"x"}), "leads out", id="zip: absolute"),
        pytest.param(zip_of({"a\\..\\..\\x": b"x"}), "leads out", id="zip: backslash"),
        pytest.param(zip_of({"C:/x": b"x"}), "leads out", id="zip: drive"),
        pytest.param(tar_of({"a/../../out": b"x"}), "leads out", id="tar: parent"),
        pytest.param(tar_of({}, link="inside"), "is a link or a device", id="tar: link"),
        pytest.param(zip_of({"bomb": b"\0" * 5_000_000}), "like a bomb", id="zip: bomb"),
        pytest.param(tar_of({"bomb": b"\0" * 5_000_000}), "like a bomb", id="tar: bomb"),
        pytest.param(lying_zip(), "damaged", id="zip: bomb that lies"),
        pytest.param(spoiled_zip(), "damaged", id="zip: spoiled"),
        pytest.param(b"no archive at all" * 100, "damaged or no archive", id="no archive"),
        pytest.param(zip_of({"x.jpg": b"x" * 4000})[:-30], "damaged or no archive", id="zip: cut"),
    ],
)
def test_an_archive_that_is_not_to_be_trusted_writes_nothing(tmp_path, monkeypatch, data, message):
    monkeypatch.setattr("weave_data.download.archives._SLACK_BYTES", 1000)
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        unpack(path, tmp_path / "to")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_too_many_members_or_several_tops_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of({"x/1": b"", "y/2": b"", "z/3": b""}))
    with pytest.raises(SourceError, match="3 members, at most 2"):
        unpack(path, tmp_path / "to", max_members=2)
    with pytest.raises(SourceError, match="one top folder was expected, found x, y, z"):
        unpack(path, tmp_path / "to", strip_top=True)
    assert not (tmp_path / "to").exists()


def picture(form, colour=(200, 30, 40)):
    data = io.BytesIO()
    Image.new("RGB", (16, 12), colour).save(data, format=form)
    return data.getvalue()


def test_gif_and_png_get_a_jpeg_beside_them(tmp_path):
    (tmp_path / "a.png").write_bytes(picture("PNG"))
    (tmp_path / "b.gif").write_bytes(picture("GIF"))
    (tmp_path / "c.jpg").write_bytes(picture("JPEG"))
    (tmp_path / "d.png").write_bytes(picture("PNG"))
    (tmp_path / "d.jpg").write_bytes(b"there already")
    assert convert_to_jpeg(tmp_path) == 2
    for name in ("a.jpg", "b.jpg"):
        with Image.open(tmp_path / name) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (16, 12))
    assert (tmp_path / "d.jpg").read_bytes() == b"there already"
    assert convert_to_jpeg(tmp_path) == 0


@pytest.mark.parametrize(("name", "message"), [("x.bmp", ".bmp is not expected"), ("x.png", "no picture")])
def test_what_can_not_be_converted_is_named(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(SourceError, match=message):
        convert_to_jpeg(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.fixture
def dataset(server):
    server.files["/chat.json"] = b"[]"
    server.files["/ocr.zip"] = zip_of({"any/1.gif": picture("GIF"), "any/2.jpg": picture("JPEG")})
    return (
        RemoteFile(f"{server.url}/chat.json", "chat.json"),
        RemoteFile(f"{server.url}/ocr.zip", "ocr.zip", unpack_to="ocr/images", strip_top=True, to_jpeg=True),
    )


def test_a_data_set_is_fetched_once_and_checked_after(server, dataset, tmp_path, policy):
    folder = tmp_path / "set"
    done = list(download_dataset(dataset, folder, policy=policy))
    assert [(d.name, d.num_unpacked, d.num_converted) for d in done] == [
        ("chat.json", None, 0),
        ("ocr.zip", 2, 1),
    ]
    assert sorted(p.name for p in (folder / "ocr/images").iterdir()) == ["1.gif", "1.jpg", "2.jpg"]
    assert list(download_dataset(dataset, folder, policy=policy)) == done
    assert len(server.requests) == 2
    (folder / "ocr.zip").unlink()  # unpacked already: room may be made
    assert list(download_dataset(dataset, folder, policy=policy)) == done
    assert len(server.requests) == 2


def test_a_file_that_changed_or_is_not_ours_is_refused(dataset, tmp_path, policy):
    list(download_dataset(dataset, tmp_path, policy=policy))
    (tmp_path / "chat.json").write_bytes(b"[1]")
    with pytest.raises(SourceError, match="the file changed"):
        list(download_dataset(dataset, tmp_path, policy=policy))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/chat.json").write_bytes(b"mine")
    with pytest.raises(SourceError, match="was not fetched by this command"):
        list(download_dataset(dataset, tmp_path / "other", policy=policy))
    (tmp_path / "downloads.json").write_text("{}")
    with pytest.raises(SourceError, match="not a list of downloads"):
        list(download_dataset(dataset, tmp_path, policy=policy))


def test_the_table_holds_what_the_scripts_fetched_and_what_they_left_out():
    names = {dataset_id: [file.name for file in files] for dataset_id, files in DATASETS.items()}
    assert names["llava-laion-cc-sbu-558k"] == ["chat.json", "images.zip"]
    assert {"llava_v1_5_mix665k.json", "train2017.zip"} <= set(names["llava-v1.5-instruct"])
    folders = {file.unpack_to for file in DATASETS["llava-v1.5-instruct"]} - {None}
    assert folders == {
        "coco/train2017", "gqa/images", "ocr_vqa/images", "textvqa/train_images", "vg/VG_100K", "vg/VG_100K_2"
    }  # fmt: skip
    for files in DATASETS.values():
        assert len({file.name for file in files}) == len(files)
        assert all(re.match(r"https?://", file.url) for file in files)
    with pytest.raises(ConfigError, match="did you mean 'llava-v1.5-instruct'"):
        find_dataset("llava-v15-instruct")


def test_the_command_fetches_lists_and_fails_in_one_line(dataset, tmp_path, monkeypatch):
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    monkeypatch.setitem(DATASETS, "small", dataset)
    run = CliRunner().invoke
    listed = run(app, ["download", "small", "--list"])
    assert listed.exit_code == 0
    assert "ocr.zip -> ocr/images/" in listed.output
    done = run(app, ["download", "small", str(tmp_path / "set")])
    assert done.exit_code == 0, done.output
    assert "chat.json: 2 bytes, sha256 " in done.output
    assert "2 files unpacked, 1 JPEGs written" in done.output
    assert (tmp_path / "set/ocr/images/1.jpg").exists()
    assert run(app, ["download", "smal", str(tmp_path)]).exit_code == 2
    assert run(app, ["download"]).exit_code == 2
