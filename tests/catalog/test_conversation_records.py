"""Records of every form become samples and clips; broken ones become counted rejects."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest

from weave_data.catalog.conversation_rows import RECORD_SCHEMA, read_records
from weave_data.catalog.conversations import cut_conversations
from weave_data.catalog.listing import LISTING_SCHEMA
from weave_data.errors import SourceError
from weave_data.records import CLIP_SCHEMA, REJECT_SCHEMA, SAMPLE_SCHEMA


def turns(*values):
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


ASK = turns("<image>\nWhat is this?", "A cat.")


def record(record_id="a", conversations=None, **media):
    return {"id": record_id, **media, "conversations": ASK if conversations is None else conversations}


def records_of(rows, name="chat.json"):
    return name, read_records(io.BytesIO(json.dumps(rows).encode()), name=name)


def listing_of(**sizes):
    rows = [{"key": key, "size_bytes": size} for key, size in sorted(sizes.items())]
    return pa.Table.from_pylist(rows, schema=LISTING_SCHEMA)


FILES = listing_of(**{f"{name}.jpg": 10 for name in "abcdef"}, **{"v.mp4": 20, "w.mp4": 30, "empty.jpg": 0})


def cut(*units, listing=FILES, **settings):
    named = [records_of(unit) if isinstance(unit, list) else unit for unit in units]
    return cut_conversations(named, listing, part_clips=settings.pop("part_clips", "auto"), **settings)


def clips_of(result):
    return pa.concat_tables([CLIP_SCHEMA.empty_table(), *(table for _, table in result.parts)]).to_pylist()


def only_record(row):
    _, table = records_of([row])
    assert table.schema == RECORD_SCHEMA
    return table.to_pylist()[0]


@pytest.mark.parametrize(
    ("row", "keys", "num_videos"),
    [
        pytest.param(record(image="a.jpg"), ["a.jpg"], 0, id="LLaVA"),
        pytest.param(record(image=["a.jpg", "b.jpg"]), ["a.jpg", "b.jpg"], 0, id="several images"),
        pytest.param(record(video="v.mp4"), ["v.mp4"], 1, id="Video-LLaVA"),
        pytest.param(record(image="a.jpg", video="v.mp4"), ["v.mp4", "a.jpg"], 1, id="video before image"),
        pytest.param(
            record(frames=["7/0000.png", "7/0001.png"]),
            ["7/0000.png", "7/0001.png"],
            0,
            id="VideoWeave frames",
        ),
        pytest.param(
            record(videos=["v.mp4", "w.mp4"], num_frames_per_video=2), ["v.mp4", "w.mp4"], 2, id="videos"
        ),
        pytest.param(record(conversations=turns("hi", "hello")), [], 0, id="text only"),
        pytest.param(record(conversations=turns("hi", "hello"), image=None), [], 0, id="null is no image"),
        pytest.param(
            record(conversations=turns("what does <image> do in SVG?", "It ...")),
            [],
            0,
            id="mark-up in a text",
        ),
    ],
)
def test_every_form_of_record_gives_its_media_in_order(row, keys, num_videos):
    found = only_record(row)
    assert (found["keys"], found["num_videos"], found["reason"]) == (keys, num_videos, None)
    assert found["conversations"] == row["conversations"]
    assert found["frames_per_video"] == row.get("num_frames_per_video")


def test_one_object_a_line_uses_the_first_conversation_and_counts_the_others():
    lines = [
        {
            "id": "train-0000001",
            "source": "webvid10m",
            "conversations": [
                {"images": ["a.jpg", "b.jpg"], "user": "Describe it.", "assistant": "Winter."},
                {"images": ["c.jpg"], "user": "And this?", "assistant": "Summer."},
            ],
        },
        {"id": "val-train-2", "conversations": [{"images": [], "user": "Hi", "assistant": "Hello"}]},
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    result = cut(("rows.jsonl", read_records(io.BytesIO(data), name="rows.jsonl")))
    assert result.samples.to_pylist() == [
        {
            "sample_key": "0000001",
            "record_id": "0000001",
            "clip_ids": ["a.jpg", "b.jpg"],
            "conversations": turns("<image>\nDescribe it.", "Winter."),
        },
        {
            "sample_key": "val-train-2",
            "record_id": "val-train-2",
            "clip_ids": [],
            "conversations": turns("Hi", "Hello"),
        },
    ]
    assert result.num_unused == 1


def test_woven_ids_survive_as_they_are():
    rows = [record("12, 7, 3, 9,", frames=["a.jpg", "b.jpg"], conversations=turns("<image>\nD.", "x. y."))]
    result = cut(rows)
    assert result.samples["sample_key"].to_pylist() == ["12, 7, 3, 9,"]
    assert result.samples["clip_ids"].to_pylist() == [["a.jpg", "b.jpg"]]


BROKEN = [
    pytest.param([1, 2], "bad_record", "a record is an object, this one is a list", id="a list"),
    pytest.param({"conversations": ASK}, "bad_record", "id is not there", id="no id"),
    pytest.param(record(7), "bad_record", "id is 7; ids are texts", id="number as id"),
    pytest.param(record(""), "bad_record", 'id is ""', id="empty id"),
    pytest.param(record(image=""), "bad_record", 'image is ""', id="empty image"),
    pytest.param(record(image=3), "bad_record", "image is 3", id="number as image"),
    pytest.param(record(frames=[]), "bad_record", "frames is []", id="no frames"),
    pytest.param(record(frames="a.jpg"), "bad_record", 'frames is "a.jpg"', id="frames as text"),
    pytest.param(record(image=["a.jpg", None]), "bad_record", "image is", id="null among images"),
    pytest.param(record(frames=["a.jpg"] * 1025), "bad_record", "1025 media", id="too many"),
    pytest.param(
        record(), "bad_record", "asks about <image>, none is named", id="question without its image"
    ),
    pytest.param(
        record(video="v.mp4", num_frames_per_video="4"),
        "bad_record",
        "num_frames_per_video is",
        id="k as text",
    ),
    pytest.param({"id": "a", "image": "a.jpg"}, "bad_turns", "conversations is not there", id="no turns"),
    pytest.param(
        record(image="a.jpg", conversations=[]), "bad_turns", "conversations is []", id="empty list"
    ),
    pytest.param(record(image="a.jpg", conversations="hi"), "bad_turns", 'conversations is "hi"', id="text"),
    pytest.param(
        record(image="a.jpg", conversations=ASK[::-1]), "bad_turns", "turn 0 is from", id="gpt first"
    ),
    pytest.param(
        record(image="a.jpg", conversations=[ASK[0], ASK[0]]),
        "bad_turns",
        "gpt's turn it is",
        id="human twice",
    ),
    pytest.param(
        record(image="a.jpg", conversations=[{"from": "system", "value": "be"}, *ASK]),
        "bad_turns",
        '"system"',
        id="system",
    ),
    pytest.param(record(image="a.jpg", conversations=ASK[:1]), "bad_turns", "has no answer", id="no answer"),
    pytest.param(
        record(image="a.jpg", conversations=turns("?", " \n")),
        "bad_turns",
        "turn 1: value is",
        id="blank answer",
    ),
    pytest.param(
        record(image="a.jpg", conversations=["?", "!"]), "bad_turns", "turn 0 is a text", id="turns as texts"
    ),
    pytest.param(
        record(conversations=[{"images": ["a.jpg"], "user": "?"}]),
        "bad_turns",
        "assistant is not there",
        id="user only",
    ),
    pytest.param(
        record(conversations=[{"user": "?", "assistant": "!"}]),
        "bad_record",
        "images is not there",
        id="no images",
    ),
    pytest.param(
        record(conversations=[{"images": ["a.jpg"], "user": " ", "assistant": "!"}]),
        "bad_turns",
        "user is empty",
        id="empty user",
    ),
    pytest.param(record(image="gone.jpg"), "missing", "not in the listing", id="missing file"),
    pytest.param(record(image="../a.jpg"), "missing", "leads out", id="parent folder"),
    pytest.param(record(image="/etc/passwd"), "missing", "leads out", id="absolute"),
    pytest.param(record(image="x/../../a.jpg"), "missing", "leads out", id="parent inside"),
    pytest.param(record(image="..\\a.jpg"), "missing", "leads out", id="backslash"),
    pytest.param(record(image="https://h/a.jpg"), "missing", "leads out", id="an address"),
    pytest.param(record(image="empty.jpg"), "empty_file", "0 bytes", id="empty file"),
    pytest.param(record(video="f.jpg"), "bad_record", "as image and as video", id="image as video"),
]


@pytest.mark.parametrize(("row", "reason", "detail"), BROKEN)
def test_a_broken_record_is_refused_alone_with_its_reason(row, reason, detail):
    fine = record("fine", image="f.jpg")
    result = cut([fine, row])
    assert result.count.to_json() == {
        "stage": "catalog", "in": 2, "out": 1, "filtered": {}, "rejected": {reason: 1}, "duplicates": 0
    }  # fmt: skip
    assert result.samples["sample_key"].to_pylist() == ["fine"]
    (reject,) = result.rejects.to_pylist()
    assert result.rejects.schema == REJECT_SCHEMA
    assert (reject["stage"], reject["part"], reject["reason"]) == ("catalog", "chat", reason)
    assert reject["detail"].startswith("row 1: ")
    assert detail in reject["detail"]
    assert [clip["clip_id"] for clip in clips_of(result)] == ["f.jpg"]


def test_a_broken_line_is_refused_alone():
    lines = [
        json.dumps(record("a", image="a.jpg")),
        "{oops",
        json.dumps(record("b", image="b.jpg", conversations=turns("<image>\n?", "\ud800"))),
        json.dumps(record("\udfff", image="b.jpg")),
        "",
    ]
    data = "\n".join(lines).encode()
    result = cut(("rows.json", read_records(io.BytesIO(data), name="rows.json")))
    assert result.count.rejected == {"bad_record": 3}
    details = result.rejects["detail"].to_pylist()
    assert [detail[:35] for detail in details] == [
        "row 1: line 2 is not JSON (Expectin",
        "row 3: text that UTF-8 can't hold (",
        "row 2: text that UTF-8 can't hold (",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(json.dumps([record(image="a.jpg")])[:-5], "not JSON after 0 rows", id="breaks off"),
        pytest.param('[{"id": 1}, {"id" 2}]', "not JSON after 1 rows", id="damage inside"),
        pytest.param('{\n  "data": []\n}', "first line is no whole JSON object", id="an object over lines"),
        pytest.param("id,caption\n", "begins with b'i'", id="a CSV"),
    ],
)
def test_a_file_that_is_no_records_is_one_clear_error(data, message):
    with pytest.raises(SourceError, match=message) as raised:
        read_records(io.BytesIO(data.encode()), name="chat.json")
    assert str(raised.value).startswith("chat.json: ")


@pytest.mark.parametrize("data", [b"", b" \n", b"[]", b"\xef\xbb\xbf[]"])
def test_a_file_without_records_has_no_rows(data):
    assert read_records(io.BytesIO(data), name="chat.json").num_rows == 0


def test_equal_records_count_once_and_shared_ids_stay_apart():
    first, other = record("7", image="a.jpg"), record("7", image="b.jpg")
    result = cut([first, other, first, record("8", image="a.jpg")])
    assert result.count.duplicates == 1
    keys = result.samples["sample_key"].to_pylist()
    assert keys[0] == "7"
    assert keys[1].startswith("7#")
    assert len(keys[1]) == 10
    assert keys[2] == "8"
    assert cut([first, record("z", image="c.jpg"), other]).samples["sample_key"].to_pylist()[2] == keys[1]


def test_an_id_that_stands_for_another_record_is_an_error():
    first, other = record("7", image="a.jpg"), record("7", image="b.jpg")
    taken = cut([first, other]).samples["sample_key"].to_pylist()[1]
    with pytest.raises(SourceError, match=r"is the id of one record and stands for another"):
        cut([record(taken, image="c.jpg"), first, other])


def test_media_are_clips_once_and_remember_what_they_are():
    rows = [
        record("1", video="v.mp4", conversations=turns("<video>\n?", "two cats")),
        record("2", image="a.jpg", conversations=turns("<image>\n?", "x", "and?", "y")),
        record("3", image=["b.jpg", "a.jpg"]),
        record("4", image="a.jpg", conversations=turns("<image>\n?", "one cat")),
        record("5", image="a.jpg", conversations=turns("<image>\nAgain?", "still one cat")),
    ]
    clips = clips_of(cut(rows))
    assert [(clip["clip_id"], clip["media"], clip["caption"]) for clip in clips] == [
        ("v.mp4", "video", "two cats"),
        ("a.jpg", "image", "one cat"),
        ("b.jpg", "image", ""),
    ]
    assert [clip["size_bytes"] for clip in clips] == [20, 10, 10]
    assert {clip["offset"] for clip in clips} == {-1}


def test_clips_of_refused_records_are_not_decoded():
    result = cut([record("1", image="a.jpg"), record("2", image=["b.jpg", "gone.jpg"])])
    assert [clip["clip_id"] for clip in clips_of(result)] == ["a.jpg"]
    assert result.rejects["key"].to_pylist() == ["gone.jpg"]


def test_parts_are_ranges_of_the_media_a_file_is_the_first_to_name():
    one = records_of([record(name, image=f"{name}.jpg") for name in "abc"], "one.json")
    two = records_of([record(name, image=f"{name}.jpg") for name in "cdef"], "two.json")
    result = cut(one, two, part_clips=2)
    named = [(name, table["clip_id"].to_pylist()) for name, table in result.parts]
    assert named == [
        ("one-00000", ["a.jpg", "b.jpg"]),
        ("one-00001", ["c.jpg"]),
        ("two-00000", ["d.jpg", "e.jpg"]),
        ("two-00001", ["f.jpg"]),
    ]
    without_b = FILES.filter(pa.compute.not_equal(FILES["key"], "b.jpg"))
    moved = cut(one, two, part_clips=2, listing=without_b)
    assert [(name, table["clip_id"].to_pylist()) for name, table in moved.parts] == [
        ("one-00000", ["a.jpg"]),
        *named[1:],
    ]


def test_text_alone_needs_no_media():
    result = cut([record("t", conversations=turns("hi", "hello"))], listing=LISTING_SCHEMA.empty_table())
    assert result.parts == ()
    assert result.samples.schema == SAMPLE_SCHEMA
    assert result.samples.num_rows == result.count.num_out == 1


def test_frames_of_each_video_must_agree_with_the_configuration():
    rows = [record("1", video="v.mp4"), record("2", videos=["v.mp4", "w.mp4"], num_frames_per_video=2)]
    assert cut(rows, frames_per_video=2).count.num_out == 2
    with pytest.raises(
        SourceError, match=r"chat.json: row 1 \(id '2'\) takes 2 frames of each video, .* is 4"
    ):
        cut(rows, frames_per_video=4)
    with pytest.raises(SourceError, match="is not set; set it to 2"):
        cut(rows)


def test_rows_come_out_the_same_however_they_are_batched(monkeypatch):
    rows = [record(str(i), image="abcdef"[i % 6] + ".jpg") for i in range(50)]
    whole = cut(rows)
    monkeypatch.setattr("weave_data.catalog.conversation_rows._BATCH_ROWS", 7)
    pieces = cut(rows)
    assert pieces.samples.equals(whole.samples)
    assert clips_of(pieces) == clips_of(whole)


def test_two_frame_conversion_counts_what_it_leaves_out():
    rows = [record(name, image=f"{name}.jpg") for name in "abc"]
    rows += [record("t", conversations=turns("hi", "hello")), record("v", video="v.mp4")]
    result = cut(rows, image_to_video="2-frame")
    assert result.count.to_json() == {
        "stage": "catalog",
        "in": 5,
        "out": 2,
        "filtered": {"not_one_image": 2, "unpaired": 1},
        "rejected": {},
        "duplicates": 0,
    }
    assert len(result.samples) == 4
    assert [clip["clip_id"] for clip in clips_of(result)] == ["a.jpg", "b.jpg"]
