"""The catalog of small made-up sources, on disk and on S3."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pytest

from weave_data.catalog import build_catalog, catalog_key, preview_catalog
from weave_data.config import SourceConfig
from weave_data.errors import CommitError, SourceError, VerificationError
from weave_data.records import CLIP_DEFAULTS, CLIP_SCHEMA, REJECT_SCHEMA
from weave_data.storage import LocalStore, SourceRoot, open_store

COLUMNS = ("videoid", "contentUrl", "duration", "page_dir", "name")


def csv_bytes(rows, columns=COLUMNS, **how):
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", restval="", **how)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def row(index, **changes):
    values = {
        "videoid": f"{index:04d}",
        "contentUrl": f"{index:04d}.mp4",
        "duration": "PT00H00M02S",
        "page_dir": f"page{index % 3}",
        "name": f"clip number {index}",
    }
    return {**values, **changes}


def write_source(folder, units, videos):
    """Write CSVs (name -> bytes) below `csv/` and videos (key -> bytes) below `videos/`."""
    for below, files in (("csv", units), ("videos", videos)):
        for key, data in files.items():
            path = folder / below / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return SourceConfig(catalog=str(folder / "csv"), videos=str(folder / "videos"))


def simple_source(folder, count=20, **settings):
    rows = [row(index) for index in range(count)]
    videos = {one["contentUrl"]: b"v" * (index + 1) for index, one in enumerate(rows)}
    config = write_source(folder, {"clips.csv": csv_bytes(rows)}, videos)
    return config.model_copy(update={"catalog": f"{config.catalog}/clips.csv", **settings})


def clips_of(catalog, store):
    return pa.concat_tables([catalog.read_part(store, part) for part in catalog.parts]).to_pylist()


def output_bytes(store):
    return {info.key: store.get(info.key) for info in store.list("")}


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "output"))


def test_rows_become_clips_in_csv_order_with_listed_sizes(tmp_path, store):
    catalog = build_catalog(simple_source(tmp_path), store)
    clips = clips_of(catalog, store)
    assert [clip["clip_id"] for clip in clips] == [f"{index:04d}" for index in range(20)]
    found = {"clip_id": "0003", "key": "0003.mp4", "caption": "clip number 3", "size_bytes": 4}
    assert clips[3] == found | CLIP_DEFAULTS | {"page": "page0"}
    assert catalog.read_part(store, catalog.parts[0]).schema == CLIP_SCHEMA
    assert catalog.count.to_json() == {
        "stage": "catalog", "in": 20, "out": 20, "filtered": {}, "rejected": {}, "duplicates": 0
    }  # fmt: skip


def test_every_kind_of_broken_row_is_accounted_for(tmp_path, store):
    rows = [
        row(0),
        row(1, name=""),
        row(2, name=" \t\n "),
        row(3),  # no such file
        row(4),  # zero bytes
        row(0, name="the same id again"),
        row(6, contentUrl="../secret.mp4"),
        row(7, contentUrl="/etc/passwd"),
        row(8, videoid=""),
        row(9),
        row(3, contentUrl="0009.mp4"),  # the id of a rejected row is taken all the same
    ]
    videos = {"0000.mp4": b"v", "0001.mp4": b"v", "0002.mp4": b"v", "0004.mp4": b"", "0009.mp4": b"vv"}
    config = write_source(tmp_path, {"a.csv": csv_bytes(rows)}, videos)
    (tmp_path / "secret.mp4").write_bytes(b"outside")
    catalog = build_catalog(config, store)
    assert catalog.count.to_json() == {
        "stage": "catalog",
        "in": 11,
        "out": 2,
        "filtered": {},
        "rejected": {"empty_caption": 2, "empty_file": 1, "missing": 4},
        "duplicates": 2,
    }
    assert catalog.count.is_balanced
    assert [clip["clip_id"] for clip in clips_of(catalog, store)] == ["0000", "0009"]
    rejects = catalog.read_rejects(store)
    assert rejects.schema == REJECT_SCHEMA
    found = {(item["clip_id"], item["reason"], item["detail"]) for item in rejects.to_pylist()}
    assert found == {
        ("0001", "empty_caption", "name is empty or blank"),
        ("0002", "empty_caption", "name is empty or blank"),
        ("0003", "missing", "not in the listing of source.videos"),
        ("0004", "empty_file", "0 bytes"),
        ("0006", "missing", "the key leads out of source.videos"),
        ("0007", "missing", "the key leads out of source.videos"),
        ("", "missing", "videoid is empty"),
    }
    assert {item["stage"] for item in rejects.to_pylist()} == {"catalog"}


def test_rejects_name_the_part_their_row_lies_in_by_part_and_id(tmp_path, store):
    rows = [row(index, name="" if index in (5, 4, 1) else "fine") for index in range(6)]
    config = write_source(tmp_path, {"u.csv": csv_bytes(rows)}, {f"{i:04d}.mp4": b"v" for i in range(6)})
    catalog = build_catalog(config.model_copy(update={"part_clips": 2}), store)
    rejects = [(item["part"], item["clip_id"]) for item in catalog.read_rejects(store).to_pylist()]
    assert rejects == [("u-00000", "0001"), ("u-00002", "0004"), ("u-00002", "0005")]
    # a part without clips is not there, the others keep their names
    assert [(part.name, part.num_clips) for part in catalog.parts] == [("u-00000", 1), ("u-00001", 2)]


def test_quoted_newlines_commas_quotes_and_other_alphabets_survive(tmp_path, store):
    captions = ['two\nlines, "quoted"', "Überquerung der Straße", "雨の日", "NA", "null", "  spaces kept  "]
    rows = [row(index, name=caption) for index, caption in enumerate(captions)]
    config = write_source(tmp_path, {"a.csv": csv_bytes(rows)}, {f"{i:04d}.mp4": b"v" for i in range(6)})
    clips = clips_of(build_catalog(config, store), store)
    assert [clip["caption"] for clip in clips] == captions


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"columns": tuple(reversed(COLUMNS))}, id="other column order"),
        pytest.param({"columns": (*COLUMNS, "extra")}, id="more columns"),
        pytest.param({"columns": ("name", "videoid", "contentUrl", "page_dir")}, id="fewer columns"),
        pytest.param({"quoting": csv.QUOTE_ALL}, id="all quoted"),
        pytest.param({"lineterminator": "\n"}, id="unix lines"),
        pytest.param({"bom": b"\xef\xbb\xbf"}, id="byte-order mark"),
    ],
)
def test_how_a_csv_is_written_does_not_change_the_clips(tmp_path, change):
    rows = [row(index) for index in range(5)]
    videos = {f"{index:04d}.mp4": b"v" for index in range(5)}
    bom = change.pop("bom", b"")
    read = []
    for name, data in (("plain", csv_bytes(rows)), ("changed", bom + csv_bytes(rows, **change))):
        config = write_source(tmp_path / name, {"a.csv": data}, videos)
        store = LocalStore(tmp_path / name / "output")
        read.append(clips_of(build_catalog(config, store), store))
    assert read[0] == read[1]
    assert len(read[0]) == 5


def test_a_path_template_is_filled_from_the_columns(tmp_path, store):
    rows = [row(index, contentUrl="https://example.org/x.mp4") for index in range(4)]
    videos = {f"page{index % 3}/v-{index:04d}.mp4": b"v" for index in range(4)}
    config = write_source(tmp_path, {"a.csv": csv_bytes(rows)}, videos)
    config = config.model_copy(update={"path": "{page_dir}/v-{videoid}.mp4"})
    assert [clip["key"] for clip in clips_of(build_catalog(config, store), store)] == list(videos)


def test_partitions_are_units_of_their_own_with_readable_unique_part_names(tmp_path, store):
    units, videos, index = {}, {}, 0
    for name in ("train/p 0.csv", "train/p_0.csv", "a.csv", "a.b.CSV", "notes.txt"):
        rows = [row(index + step) for step in range(4)]
        units[name] = csv_bytes(rows)
        videos |= {one["contentUrl"]: b"v" for one in rows}
        index += 4
    catalog = build_catalog(write_source(tmp_path, units, videos).model_copy(update={"part_clips": 3}), store)
    names = [part.name for part in catalog.parts]
    assert [part.num_clips for part in catalog.parts] == [3, 1] * 4
    assert len(set(names)) == 8
    assert names[:4] == ["a.b-00000", "a.b-00001", "a-00000", "a-00001"]  # units by name
    assert all("/" not in name and " " not in name for name in names)


@pytest.mark.parametrize(
    ("rows", "expected"), [(5, [1] * 5), (32, [2] * 16), (33, [3] * 11), (100, [7] * 14 + [2])]
)
def test_parts_of_a_small_unit_are_a_sixteenth_of_it(tmp_path, store, rows, expected):
    catalog = build_catalog(simple_source(tmp_path, rows), store)
    assert [part.num_clips for part in catalog.parts] == expected


def test_a_new_unit_leaves_the_parts_of_the_others_as_they_are(tmp_path):
    first = {"b.csv": csv_bytes([row(index) for index in range(20)])}
    more = {**first, "a.csv": csv_bytes([row(index) for index in range(20, 40)])}
    videos = {f"{index:04d}.mp4": b"v" for index in range(40)}
    parts = []
    for name, units in (("one", first), ("two", more)):
        store = LocalStore(tmp_path / name / "output")
        parts.append(
            {
                p.name: p.sha256
                for p in build_catalog(write_source(tmp_path / name, units, videos), store).parts
            }
        )
    assert parts[0].items() <= parts[1].items()


def test_limit_and_location_do_not_change_the_catalog(tmp_path):
    files = []
    for name, settings in (("one", {}), ("two", {"limit": 3})):
        store = LocalStore(tmp_path / name / "output")
        build_catalog(simple_source(tmp_path / name, **settings), store)
        files.append(output_bytes(store))
    assert files[0] == files[1]


@pytest.mark.parametrize("settings", [{"path": "{contentUrl}"}, {"part_clips": 5}])
def test_settings_that_cut_the_catalog_change_its_key(tmp_path, settings):
    config = simple_source(tmp_path)
    assert catalog_key(config) != catalog_key(config.model_copy(update=settings))
    assert catalog_key(config) == catalog_key(simple_source(tmp_path / "elsewhere"))


def test_one_changed_caption_changes_the_key(tmp_path):
    config = simple_source(tmp_path)
    before = catalog_key(config)
    path = tmp_path / "csv" / "clips.csv"
    path.write_bytes(path.read_bytes().replace(b"number 7", b"number seven"))
    assert catalog_key(config) != before


def test_a_committed_catalog_is_used_without_listing_the_videos(tmp_path, store, monkeypatch):
    config = simple_source(tmp_path)
    first = build_catalog(config, store)
    before = output_bytes(store)

    def refuse(source, prefix=""):
        raise AssertionError("listed again")

    monkeypatch.setattr(SourceRoot, "list", refuse)
    assert build_catalog(config, store) == first
    assert first.key == catalog_key(config)
    assert output_bytes(store) == before


def test_a_build_killed_half_way_is_completed_with_the_same_bytes(tmp_path, store):
    config = simple_source(tmp_path)
    build_catalog(config, store)
    complete = output_bytes(store)
    for key in list(complete)[::2]:
        store.delete(key)
    build_catalog(config, store)
    assert output_bytes(store) == complete


def test_a_half_written_catalog_over_other_videos_says_what_to_delete(tmp_path, store):
    config = simple_source(tmp_path)
    catalog = build_catalog(config, store)
    store.delete(f"catalog/{catalog.key}/catalog.json")
    (tmp_path / "videos" / "0000.mp4").write_bytes(b"other size")
    with pytest.raises(CommitError, match="delete that folder and run again"):
        build_catalog(config, store)


def test_tampered_parts_are_noticed_when_read(tmp_path, store):
    catalog = build_catalog(simple_source(tmp_path), store)
    path = tmp_path / "output" / "catalog" / catalog.key / f"{catalog.parts[0].name}.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(VerificationError, match="sha256"):
        catalog.read_part(store, catalog.parts[0])


def test_many_listing_batches_are_joined_like_one(tmp_path, store, monkeypatch):
    config = simple_source(tmp_path)
    whole = build_catalog(config, store)
    monkeypatch.setattr("weave_data.catalog.listing._BATCH_KEYS", 3)
    again = LocalStore(tmp_path / "again")
    assert build_catalog(config, again) == whole
    assert output_bytes(again) == output_bytes(store)


def test_preview_counts_rows_and_writes_nothing(tmp_path):
    assert preview_catalog(simple_source(tmp_path)) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv", "videos"]


@pytest.mark.server
def test_disk_and_s3_give_the_same_files(tmp_path, s3):
    local = write_source(
        tmp_path,
        {f"p{unit}.csv": csv_bytes([row(unit * 30 + index) for index in range(30)]) for unit in range(2)},
        {f"{index:04d}.mp4": b"v" * index for index in range(0, 60, 2)},
    )
    bucket, client = s3.new_bucket(), s3.client()
    for path in tmp_path.rglob("*.*"):
        client.put_object(Bucket=bucket, Key=f"source/{path.relative_to(tmp_path)}", Body=path.read_bytes())
    remote = SourceConfig(catalog=f"s3://{bucket}/source/csv", videos=f"s3://{bucket}/source/videos/")
    stores = LocalStore(tmp_path / "output"), open_store(f"s3://{bucket}/output")
    catalogs = build_catalog(local, stores[0]), build_catalog(remote, stores[1])
    assert catalogs[0] == catalogs[1]
    assert output_bytes(stores[0]) == output_bytes(stores[1])
    assert catalogs[0].count.num_out == 29
    one = remote.model_copy(update={"catalog": f"s3://{bucket}/source/csv/p1.csv"})
    assert preview_catalog(one) == 30


@pytest.mark.server
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"catalog": "s3://no-such-bucket-here/c.csv"}, "bucket 'no-such-bucket-here' does not exist"),
        ({"catalog": "s3://{bucket}/source/none.csv"}, "none.csv: no such file"),
        ({"catalog": "s3://{bucket}/none"}, "nothing is stored under this prefix"),
        ({"videos": "s3://no-such-bucket-here/v"}, "bucket 'no-such-bucket-here' does not exist"),
        ({"videos": "s3://{bucket}/none"}, "nothing is stored under this prefix"),
    ],
)
def test_what_is_not_on_s3_is_one_line_before_any_work(s3, tmp_path, settings, message):
    bucket = s3.new_bucket()
    s3.client().put_object(Bucket=bucket, Key="source/c.csv", Body=csv_bytes([row(0)]))
    s3.client().put_object(Bucket=bucket, Key="source/videos/0000.mp4", Body=b"v")
    values = {"catalog": "s3://{bucket}/source/c.csv", "videos": "s3://{bucket}/source/videos", **settings}
    config = SourceConfig(**{name: value.format(bucket=bucket) for name, value in values.items()})
    store = LocalStore(tmp_path / "output")
    with pytest.raises(SourceError, match=message) as caught:
        build_catalog(config, store)
    assert "\n" not in str(caught.value)
    assert list(store.list("")) == []
