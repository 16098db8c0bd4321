"""Plain folders and manifests: where captions come from, and what is broken about them."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from weave_data.catalog import build_catalog, catalog_key, preview_catalog
from weave_data.catalog.media import ids_of_keys
from weave_data.config import ColumnsConfig, SourceConfig
from weave_data.errors import SourceError
from weave_data.storage import open_store


def write(folder, files):
    for key, data in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(folder)


def built(tmp_path, config):
    """{clip id: caption} of the clips, {(id, reason): detail} of the rejects, the catalog."""
    store = open_store(str(tmp_path / "output"))
    catalog = build_catalog(config, store)
    tables = [catalog.read_part(store, part) for part in catalog.parts]
    clips = pa.concat_tables(tables).to_pylist() if tables else []
    rejects = catalog.read_rejects(store).to_pylist()
    found = {(item["clip_id"], item["reason"]): item["detail"] for item in rejects}
    return {clip["clip_id"]: clip for clip in clips}, found, catalog


def folder(tmp_path, files, **settings):
    return built(tmp_path, SourceConfig(kind="folder", videos=write(tmp_path / "in", files), **settings))


def captions(clips):
    return {clip_id: clip["caption"] for clip_id, clip in clips.items()}


def test_text_files_beside_videos_caption_them(tmp_path):
    files = {
        "a.mp4": b"v",
        "a.txt": b"\xef\xbb\xbf a dog runs \n",
        "sub/b.webm": b"vv",
        "sub/b.txt": "雨\nline".encode(),
        "c.mp4": b"v",
        "d.mp4": b"v",
        "d.txt": b"caf\xe9",
        "e.mp4": b"v",
        "e.txt": b"",
        "f.mp4": b"v",
        "f.txt": b"x" * 70_000,
        "g.mp4": b"",
        "g.txt": b"nothing to see",
        "other.json": b"{}",
    }
    clips, rejects, catalog = folder(tmp_path, files)
    assert captions(clips) == {"a": "a dog runs", "sub_b": "雨\nline"}
    assert clips["sub_b"]["key"] == "sub/b.webm"
    assert clips["sub_b"]["size_bytes"] == 2
    assert rejects == {
        ("c", "empty_caption"): "no .txt of this name beside it",
        ("d", "bad_record"): "its .txt is not UTF-8",
        ("e", "empty_caption"): "caption is empty or blank",
        ("f", "bad_record"): "its .txt is longer than 64 KiB",
        ("g", "empty_file"): "0 bytes",
    }
    assert catalog.count.is_balanced
    assert catalog.count.num_in == 7


def test_an_edited_caption_of_the_same_length_is_another_catalog(tmp_path):
    config = SourceConfig(kind="folder", videos=write(tmp_path, {"a.mp4": b"v", "a.txt": b"left"}))
    before = catalog_key(config)
    assert before == catalog_key(config)
    (tmp_path / "a.txt").write_bytes(b"rite")
    assert catalog_key(config) != before


def test_names_caption_videos_without_anything_else(tmp_path):
    clips, rejects, _ = folder(tmp_path, {"x/a_red-ball  moves.mp4": b"v", "0001.mp4": b"v", "k.png": b"i"})
    assert captions(clips) == {"x_a_red-ball_moves": "a red ball moves"}
    assert rejects == {("0001", "empty_caption"): "the file's name has no letters"}


TABLE = b"file_name,text\na.mp4,one\n./sub/b.mp4,two\nnone.mp4,three\na.mp4,again\n../x.mp4,out\n"


@pytest.mark.parametrize("how", ["found", "named"])
def test_a_table_captions_the_videos_it_names(tmp_path, how):
    files = {"a.mp4": b"v", "sub/b.mp4": b"v", "c.mp4": b"v"}
    settings = {}
    if how == "found":
        files["metadata.csv"] = TABLE
    else:
        settings["catalog"] = write(tmp_path / "tables", {"t.csv": TABLE}) + "/t.csv"
    clips, rejects, catalog = folder(tmp_path, files, **settings)
    assert captions(clips) == {"a": "one", "sub_b": "two"}
    assert rejects == {
        ("none", "missing"): "not in the listing of source.videos",
        ("_x", "missing"): "the key leads out of source.videos",
        ("c", "empty_caption"): "no row of the table names it",
    }
    assert catalog.count.duplicates == 1


def test_a_table_may_name_videos_without_their_suffix(tmp_path):
    files = {"a.mp4": b"v", "b.mp4": b"v", "t.csv": b"id,what\nb,two\na,one\n"}
    clips, _, _ = folder(tmp_path, files, columns=ColumnsConfig(path="id", caption="what"))
    assert captions(clips) == {"b": "two", "a": "one"}


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        pytest.param({"a.png": b"x"}, {}, r"no video below .*a\.png", id="no videos"),
        pytest.param({"a.mp4": b"v"}, {"captions": "csv"}, r"holds 0 CSVs", id="no table"),
        pytest.param({"a.mp4": b"v", "a.csv": b"", "b.csv": b""}, {}, "holds 2 CSVs", id="two tables"),
        pytest.param(
            {"a.mp4": b"v", "a.csv": b"k,l\n1,2\n"}, {}, r"columns k, l don't say", id="wrong columns"
        ),
        pytest.param({"a.mp4": b"v", "a.csv": b""}, {}, "not a CSV", id="empty table"),
        pytest.param(
            {"a.mp4": b"v", "a.csv": b"file,text\na.mp4,caf\xe9\n"}, {}, "not a CSV in UTF-8", id="latin-1"
        ),
        pytest.param(
            {"a.mp4": b"v", "a.csv": b"k,l\n1,2\n"},
            {"columns": ColumnsConfig(path="p")},
            r"no column p, caption; it has k, l",
            id="columns not there",
        ),
    ],
)
def test_a_folder_that_is_no_source_is_one_line(tmp_path, files, settings, message):
    with pytest.raises(SourceError, match=message) as caught:
        folder(tmp_path, files, **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "output").exists()


def test_ids_of_files_are_safe_and_unique(tmp_path):
    keys = [
        "a/b.mp4",
        "a_b.mp4",
        "a_b.webm",
        "./..x y.mp4",
        "雨.mp4",
        "é.d.mp4",
        "...mp4",
        "l" * 99 + ".mp4",
        "a/b.mp4",
    ]
    ids = ids_of_keys(pa.chunked_array([keys[:3], keys[3:]])).to_pylist()
    assert ids[3:6] == ["_..x_y", "雨", "é.d"]
    assert ids[7] == "l" * 60
    assert ids[0] == ids[8]
    assert len(set(ids)) == 8
    assert all(pc.match_substring_regex(pa.array(ids), r"^[^./\\][^/\\]*$").to_pylist())


def as_jsonl(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(rows):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_csv(rows):
    lines = [
        ",".join(rows[0]),
        *(",".join("" if v is None else str(v) for v in row.values()) for row in rows),
    ]
    return "\n".join(lines).encode()


def manifest(tmp_path, name, data, files=("a.mp4", "b.png"), **columns):
    videos = write(tmp_path / "in", dict.fromkeys(files, b"v"))
    catalog = write(tmp_path / "rows", {name: data})
    config = SourceConfig(
        kind="manifest", catalog=catalog, videos=videos, columns=ColumnsConfig(**columns) if columns else None
    )
    return built(tmp_path, config)


@pytest.mark.parametrize(
    ("name", "write_rows"), [("m.jsonl", as_jsonl), ("m.parquet", as_parquet), ("m.csv", as_csv)]
)
def test_a_manifest_names_files_under_its_own_columns(tmp_path, name, write_rows):
    rows = [
        {"n": 1, "where": f"{tmp_path}/in/a.mp4", "what": "one", "site": "s", "rights": "CC0"},
        {"n": 2, "where": "./b.png", "what": "two", "site": None, "rights": None},
        {"n": 2, "where": "a.mp4", "what": "again", "site": None, "rights": None},
        {"n": 3, "where": "a.mp4", "what": None, "site": None, "rights": None},
        {"n": 4, "where": "../a.mp4", "what": "out", "site": None, "rights": None},
        {"n": 5, "where": "c.mp4", "what": "gone", "site": None, "rights": None},
    ]
    columns = {"id": "n", "path": "where", "caption": "what", "page": "site", "licence": "rights"}
    clips, rejects, catalog = manifest(tmp_path, name, write_rows(rows), **columns)
    assert captions(clips) == {"1": "one", "2": "two"}
    assert [(clip["media"], clip["page"], clip["licence"]) for clip in clips.values()] == [
        ("video", "s", "CC0"),
        ("image", "", ""),
    ]
    assert rejects == {
        ("3", "empty_caption"): "what is empty or blank",
        ("4", "missing"): "the key leads out of source.videos",
        ("5", "missing"): "not in the listing of source.videos",
    }
    assert catalog.count.duplicates == 1


def test_a_manifest_without_ids_names_clips_after_their_files(tmp_path):
    rows = [
        {"path": "a.mp4", "caption": "one", "kind": "film"},
        {"path": "b.png", "caption": "two", "kind": "image"},
    ]
    clips, rejects, _ = manifest(tmp_path, "m.jsonl", as_jsonl(rows), media="kind")
    assert captions(clips) == {"b": "two"}
    assert rejects == {("a", "bad_record"): "media is film; video or image is needed"}


def test_an_id_that_leads_out_of_a_folder_is_refused(tmp_path):
    rows = [{"id": "../x", "path": "a.mp4", "caption": "one"}, {"id": "", "path": "a.mp4", "caption": "one"}]
    clips, rejects, _ = manifest(tmp_path, "m.jsonl", as_jsonl(rows), id="id")
    assert clips == {}
    assert rejects == {
        ("../x", "bad_record"): "id is no name: it leads out of a folder",
        ("", "missing"): "id is empty",
    }


ROW = {"path": "a.mp4", "caption": "one"}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        pytest.param("m.txt", b"x", r"holds no \.csv or \.jsonl", id="no manifest"),
        pytest.param("m.jsonl", b"", "not JSON lines", id="empty file"),
        pytest.param("m.jsonl", b'{"path": "a.mp4"', "not JSON lines", id="cut line"),
        pytest.param("m.jsonl", as_jsonl([ROW]) + b"[1]\n", "not JSON lines", id="a line of another shape"),
        pytest.param(
            "m.jsonl",
            b'{"path": "a.mp4", "caption": "caf\xe9"}\n',
            "not in UTF-8 in its column caption",
            id="latin-1",
        ),
        pytest.param(
            "m.jsonl", as_jsonl([ROW, {"path": 3, "caption": "x"}]), "not JSON lines", id="mixed types"
        ),
        pytest.param(
            "m.jsonl", as_jsonl([{"path": "a.mp4"}]), r"no column caption; .* has path\.", id="columns"
        ),
        pytest.param(
            "m.jsonl", as_jsonl([{**ROW, "caption": ["x"]}]), r"caption holds list", id="caption lists"
        ),
        pytest.param(
            "m.jsonl", as_jsonl([{**ROW, "path": "c.mp4"}]), "none of the catalog's videos", id="all gone"
        ),
        pytest.param(
            "m.jsonl",
            as_jsonl([{**ROW, "path": "https://e.org/a.mp4"}]),
            "1 web addresses.*video2dataset",
            id="urls",
        ),
        pytest.param("m.parquet", b"PAR1", "not a Parquet file", id="cut Parquet"),
        pytest.param(
            "m.parquet", as_parquet([{**ROW, "caption": 1.5}]), "caption holds double", id="numbers"
        ),
        pytest.param("m.parquet", as_parquet([ROW])[:-20], "not a Parquet file", id="no footer"),
    ],
)
def test_a_manifest_that_is_none_is_one_line(tmp_path, name, data, message):
    with pytest.raises(SourceError, match=message) as caught:
        manifest(tmp_path, name, data)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "output").exists()


WEBVID = [
    {"videoid": 12, "contentUrl": "a.mp4", "duration": "PT1S", "page_dir": "p1", "name": "one"},
    {"videoid": 13, "contentUrl": "b.mp4", "duration": "PT2S", "page_dir": "p2", "name": None},
]


@pytest.mark.parametrize(
    "order", [list(WEBVID[0]), ["name", "page_dir", "videoid", "duration", "contentUrl"]]
)
@pytest.mark.parametrize("write_rows", [as_parquet, as_csv])
def test_both_published_forms_of_webvid_give_the_same_clips(tmp_path, write_rows, order):
    rows = [{name: row[name] for name in order} for row in WEBVID]
    suffix = "csv" if write_rows is as_csv else "parquet"
    videos = write(tmp_path / "in", {"a.mp4": b"v", "b.mp4": b"v"})
    config = SourceConfig(catalog=write(tmp_path / "rows", {f"p0.{suffix}": write_rows(rows)}), videos=videos)
    clips, rejects, _ = built(tmp_path, config)
    assert captions(clips) == {"12": "one"}
    assert clips["12"]["page"] == "p1"
    assert rejects == {("13", "empty_caption"): "name is empty or blank"}
    assert preview_catalog(config) == 2


def test_a_folder_of_partitions_of_two_forms_is_refused(tmp_path):
    files = {"a.csv": as_csv(WEBVID), "b.parquet": as_parquet(WEBVID)}
    videos = write(tmp_path / "in", {"a.mp4": b"v"})
    with pytest.raises(SourceError, match="files of several forms"):
        built(tmp_path, SourceConfig(catalog=write(tmp_path / "rows", files), videos=videos))
