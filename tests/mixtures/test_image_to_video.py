"""Samples about one image, turned into the two-frame form VideoWeave meant."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from weave_data.errors import AccountingError
from weave_data.mixtures import convert_images
from weave_data.records import SAMPLE_SCHEMA


def samples_of(*rows):
    return pa.Table.from_pylist(
        [
            {
                "sample_key": key,
                "clip_ids": list(clips),
                "conversations": [
                    {"from": "human", "value": f"<image>\nabout {key}?"},
                    {"from": "gpt", "value": f"it is {key}"},
                ],
            }
            for key, clips in rows
        ],
        schema=SAMPLE_SCHEMA,
    )


ROWS = [
    ("a", ["a.jpg"]),
    ("b", ["b.jpg"]),
    ("c", ["c.jpg"]),
    ("text", []),
    ("two", ["x.jpg", "y.jpg"]),
    ("d", ["d.jpg"]),
    ("e", ["e.jpg"]),
    ("f", ["f.jpg"]),
    ("g", ["g.jpg"]),
]
IS_ONE_IMAGE = np.array([len(clips) == 1 for _, clips in ROWS])


def test_two_frames_ask_both_conversations_over_both_orders():
    found = convert_images(samples_of(*ROWS), IS_ONE_IMAGE, form="2-frame")
    assert found.samples.schema == SAMPLE_SCHEMA
    shown = [
        (row["sample_key"], row["clip_ids"], row["conversations"][1]["value"])
        for row in found.samples.to_pylist()
    ]
    assert shown == [
        ("b#2-frame-01", ["a.jpg", "b.jpg"], "it is b"),
        ("a#2-frame-01", ["a.jpg", "b.jpg"], "it is a"),
        ("b#2-frame-10", ["b.jpg", "a.jpg"], "it is b"),
        ("a#2-frame-10", ["b.jpg", "a.jpg"], "it is a"),
        ("f#2-frame-01", ["e.jpg", "f.jpg"], "it is f"),
        ("e#2-frame-01", ["e.jpg", "f.jpg"], "it is e"),
        ("f#2-frame-10", ["f.jpg", "e.jpg"], "it is f"),
        ("e#2-frame-10", ["f.jpg", "e.jpg"], "it is e"),
    ]


def test_two_frames_account_for_every_sample():
    found = convert_images(samples_of(*ROWS), IS_ONE_IMAGE, form="2-frame")
    assert dict(found.filtered) == {"not_one_image": 2, "unpaired": 3}
    used = [key for (key, _), is_used in zip(ROWS, found.is_used, strict=True) if is_used]
    assert used == ["a", "b", "e", "f"]
    assert len(used) + sum(found.filtered.values()) == len(ROWS)


@pytest.mark.parametrize("form", ["none", "1-frame"])
def test_an_image_is_a_clip_of_one_frame_already(form):
    samples = samples_of(*ROWS)
    found = convert_images(samples, IS_ONE_IMAGE, form=form)
    assert found.samples.equals(samples)
    assert found.is_used.all()
    assert found.filtered == {}


@pytest.mark.parametrize("rows", [[], [("a", ["a.jpg"])], [("t", []), ("u", [])]])
def test_without_a_pair_there_is_no_sample(rows):
    is_one = np.array([len(clips) == 1 for _, clips in rows], dtype=bool)
    found = convert_images(samples_of(*rows), is_one, form="2-frame")
    assert found.samples.num_rows == 0
    assert found.samples.schema == SAMPLE_SCHEMA
    assert sum(found.filtered.values()) == len(rows)


def test_chunks_do_not_matter():
    samples = samples_of(*ROWS)
    pieces = pa.concat_tables([samples.slice(0, 1), samples.slice(1, 5), samples.slice(6)])
    whole = convert_images(samples, IS_ONE_IMAGE, form="2-frame")
    assert convert_images(pieces, IS_ONE_IMAGE, form="2-frame").samples.equals(whole.samples)


def test_marks_of_another_length_are_refused():
    with pytest.raises(AccountingError, match="9 samples, 3 marks"):
        convert_images(samples_of(*ROWS), IS_ONE_IMAGE[:3], form="2-frame")
