"""Sources that can't be used: one clear line, exit code 3, nothing written."""

from __future__ import annotations

import pytest

from weave_data.catalog import build_catalog
from weave_data.config import SourceConfig
from weave_data.errors import ConfigError, SourceError
from weave_data.storage import open_store

GOOD = b"videoid,contentUrl,name\n1,1.mp4,a clip\n"


def attempt(tmp_path, data=GOOD, *, files=("1.mp4",), **settings):
    (tmp_path / "csv").mkdir()
    if data is not None:
        (tmp_path / "csv" / "clips.csv").write_bytes(data)
    (tmp_path / "videos").mkdir()
    for key in files:
        (tmp_path / "videos" / key).write_bytes(b"v")
    values = {"catalog": str(tmp_path / "csv" / "clips.csv"), "videos": str(tmp_path / "videos"), **settings}
    config = SourceConfig(**{key: value.replace("TMP", str(tmp_path)) for key, value in values.items()})
    store = open_store(str(tmp_path / "output"))
    try:
        return build_catalog(config, store)
    finally:
        if (tmp_path / "output").exists():
            assert list(store.list("")) != []


@pytest.mark.parametrize(
    ("data", "how", "message"),
    [
        (None, {}, r"clips\.csv: no such file; correct the address|holds no file"),
        (GOOD, {"catalog": "TMP/csv/other.csv"}, r"other\.csv: no such file"),
        (GOOD, {"catalog": "TMP/none"}, r"none: no such directory"),
        (GOOD, {"catalog": "TMP/videos"}, r"holds no \.csv or \.parquet file"),
        (GOOD, {"catalog": "TMP/nowhere/c.csv"}, r"nowhere: no such directory"),
        (GOOD, {"videos": "TMP/none"}, r"none: no such directory"),
        (GOOD, {"videos": "TMP/videos", "make": ()}, r"videos: holds no file"),
        (GOOD, {"make": ("2.mp4",)}, r"looked for '1\.mp4', it holds '2\.mp4' and 0 more"),
        (b"", {}, r"clips\.csv: not a CSV"),
        (b"videoid,contentUrl,name\n", {}, r"holds no rows"),
        (
            b"id,contentUrl,text\n1,1.mp4,x\n",
            {},
            r"no column videoid, name; the CSV has id, contentUrl, text\.",
        ),
        (b"videoid,name\n1,x\n", {}, r"no column contentUrl; the CSV has videoid, name\."),
        (
            GOOD,
            {"path": "{page_dir}/{videoid}.mp4"},
            r"no column page_dir; the CSV has videoid, contentUrl, name\.",
        ),
        (b"videoid,name,name,contentUrl\n1,a,b,1.mp4\n", {}, r"the column name is there twice"),
        (b"videoid,contentUrl,name\n1,1.mp4,a,b\n", {}, r"not a CSV in UTF-8 .*Expected 3 columns, got 4"),
        (b"videoid,contentUrl,name\n1,1.mp4,caf\xe9\n", {}, r"not a CSV in UTF-8"),
        (b"\x00\x00\x00\x18ftypmp42", {}, r"no column videoid|not a CSV"),
        (
            b"videoid,contentUrl,name\n1,https://example.org/1.mp4,x\n",
            {},
            r"holds 1 absolute addresses, as 'https://example\.org/1\.mp4'; .*video2dataset.*source\.path",
        ),
    ],
)
def test_an_unusable_source_is_one_line_with_the_rule(tmp_path, data, how, message):
    how = dict(how)
    files = how.pop("make", ("1.mp4",))
    with pytest.raises(SourceError, match=message) as caught:
        attempt(tmp_path, data, files=files, **how)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{videoid", "is not a template"),
        ("fixed.mp4", "names no column"),
        ("{}.mp4", "is not a plain"),
        ("{0}.mp4", "is not a plain"),
        ("{videoid:>5}.mp4", r"\{videoid:>5\}"),
        ("{videoid!r}.mp4", r"\{videoid!r\}"),
        ("{videoid.__class__}", "is not a plain"),
    ],
)
def test_a_bad_path_template_is_a_configuration_error(tmp_path, path, message):
    with pytest.raises(ConfigError, match=message) as caught:
        attempt(tmp_path, path=path)
    assert str(caught.value).startswith("source.path: ")


def test_the_good_source_of_these_tests_is_good(tmp_path):
    assert attempt(tmp_path).count.num_out == 1
