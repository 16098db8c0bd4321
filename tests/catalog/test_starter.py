"""`weave-data init`: what lies there is recognised and the configuration says the same."""

from __future__ import annotations

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weave_data.catalog import build_catalog
from weave_data.config import load_build_config
from weave_data.errors import SourceError
from weave_data.starter import write_starter
from weave_data.storage import open_store


def tar_of(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def parquet_of(rows):
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    return data.getvalue()


CLIPS = {f"c{n}.mp4": b"v" for n in range(9)}
WEBVID = [
    {"videoid": n, "contentUrl": f"https://x/{n}", "page_dir": "p", "name": f"text {n}"} for n in range(9)
]
PAIRS = {f"{n}.{suffix}": b"text" for n in range(5) for suffix in ("jpg", "txt")}

CASES = {
    "names": (CLIPS, {"kind": "folder", "captions": "names"}, 9),
    "texts": (CLIPS | {f"c{n}.txt": b"text" for n in range(8)}, {"kind": "folder", "captions": "txt"}, 8),
    "csv": (
        CLIPS | {"meta.csv": b"file_name,text\n" + b"".join(b"c%d.mp4,t\n" % n for n in range(9))},
        {"kind": "manifest", "columns": {"path": "file_name", "caption": "text"}},
        9,
    ),
    "jsonl": (
        {f"videos/{key}": data for key, data in CLIPS.items()}
        | {
            "m.jsonl": b"".join(
                json.dumps({"id": f"n{k}", "video": k, "caption": "t"}).encode() + b"\n" for k in CLIPS
            )
        },
        {"kind": "manifest", "columns": {"path": "video", "caption": "caption", "id": "id"}},
        9,
    ),
    "webvid": (
        {f"p/{n}.mp4": b"v" for n in range(9)} | {"part.parquet": parquet_of(WEBVID)},
        {"kind": "webvid", "path": "{page_dir}/{videoid}.mp4"},
        9,
    ),
    "tars": (
        {"0.tar": tar_of({"a.mp4": b"v", "a.txt": b"t", "b.mp4": b"v"}), "0.parquet": b"x"},
        {"kind": "webdataset"},
        1,
    ),
    "image tars": ({"0.tar": tar_of(PAIRS)}, {"kind": "webdataset"}, 5),
}


@pytest.mark.parametrize("case", CASES)
def test_what_lies_there_is_recognised_and_can_be_built_from(tmp_path, case):
    files, expected, num_clips = CASES[case]
    for key, data in files.items():
        path = tmp_path / "my data: 1" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    said = list(write_starter(str(tmp_path / "my data: 1"), output=None, to=tmp_path / "weave.yaml"))
    assert said[0].startswith(f"kind {expected['kind']}: ")
    config = load_build_config(tmp_path / "weave.yaml")
    written = config.source.model_dump()
    columns = expected.pop("columns", None)
    assert expected.items() <= written.items()
    if columns is not None:
        assert columns.items() <= written["columns"].items()
    assert config.output == str(tmp_path / "my data: 1-woven")
    catalog = build_catalog(config.source, open_store(config.output))
    assert catalog.count.num_out == num_clips
    names = [recipe.name for recipe in config.recipes]
    assert names == (["images"] if case == "image tars" else ["l1"] if num_clips == 1 else ["l1", "l4"])


def test_a_table_that_does_not_fit_is_named_when_videos_are_used_without_it(tmp_path):
    (tmp_path / "a dog.mp4").write_bytes(b"v")
    (tmp_path / "notes.csv").write_bytes(b"k,l\n1,2\n")
    said = list(write_starter(str(tmp_path), output="s3://bucket/out", to=tmp_path / "w.yaml"))
    assert "captions are their names, as 'a dog.mp4'" in said[0]
    assert "notes.csv has the columns k, l" in said[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": b"x"}, "no tar, table or video among 1 files"),
        ({"a.tar": b"x" * 600}, "a.tar holds no pair"),
        ({"a.csv": b"x,y\n1,2\n"}, "a.csv has the columns x, y"),
        ({"a.csv": b"url,caption\nhttps://x/1.mp4,t\n"}, r"a\.csv lists web addresses.*video2dataset"),
        ({"a.parquet": parquet_of(WEBVID)}, r"as 'https://x/0', .*video2dataset.*init on its tars"),
    ],
)
def test_where_nothing_fits_it_says_what_it_looked_at(tmp_path, files, message):
    for key, data in files.items():
        (tmp_path / key).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        list(write_starter(str(tmp_path), output=None, to=tmp_path / "w.yaml"))
