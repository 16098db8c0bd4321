"""Merged record files: byte for byte what the published scripts write, without their memory."""

from __future__ import annotations

import json
import random

import pytest
import typer
from typer.testing import CliRunner

from weave_data.commands import mix as command
from weave_data.errors import ConfigError, SourceError
from weave_data.mixtures.merges import merge_lrv, merge_lvis4v, strip_text_only
from weave_data.mixtures.weighted import mix_weighted, weighted_counts


def record(name, **more):
    turns = [{"from": "human", "value": "<image>\nWhat? \u00fc"}, {"from": "gpt", "value": f"It is {name}."}]
    return {"id": name, **more, "conversations": turns}


BASE = [record(f"b{i}", image=f"coco/{i}.jpg") if i % 3 else record(f"b{i}") for i in range(40)]
LVIS = [record(f"l{i}", image=f"coco/{i}.jpg") for i in range(15)]
LRV = {
    "filter_cap1.json": [{"image_id": str(i), "question": f" Q{i}? ", "answer": "A \n"} for i in range(6)],
    "filter_cap_more1.json": [
        {"image_id": str(i), "question": "more?", "answer": "yes"} for i in range(6, 9)
    ],
    "chart_release_update.json": [
        {"image_id": f"c{i}.x.png", "question": "bar?", "answer": "4"} for i in range(4)
    ],
}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    (tmp_path / "lvis.json").write_text(json.dumps(LVIS))
    (tmp_path / "lrv").mkdir()
    for name, rows in LRV.items():
        (tmp_path / "lrv" / name).write_text(json.dumps(rows))
    (tmp_path / "out").mkdir()
    return tmp_path


def published(numbers, rows):
    """What the scripts do with their lists."""
    rows = list(rows)
    for _ in range(3):
        numbers.shuffle(rows)
    return json.dumps(rows).encode()


def lrv_records():
    found = []
    for name, rows in LRV.items():
        for row in rows:
            picture = row["image_id"]
            is_chart = name.startswith("chart")
            image = f"lrv/lrv-chart/{picture}" if is_chart else f"lrv/lrv-vg/{picture}.jpg"
            turns = [
                {"from": "human", "value": "<image>\n" + row["question"].strip()},
                {"from": "gpt", "value": row["answer"].strip()},
            ]
            found.append({"id": picture.removesuffix(".png"), "image": image, "conversations": turns})
    return found


def test_merges_are_byte_for_byte_the_published_ones(files):
    out = files / "out"
    path, count = merge_lvis4v(files / "base.json", files / "lvis.json", out)
    assert (path.name, count) == ("llava_v1_5_lvis4v_mix888k.json", 55)
    assert path.read_bytes() == published(random.Random(7), BASE + LVIS)
    with_lvis = json.loads(path.read_bytes())
    written = merge_lrv(files / "base.json", path, files / "lrv", out)
    assert [(p.name, n) for p, n in written] == [
        ("llava_v1_5_lrv_mix1008k.json", 53),
        ("llava_v1_5_lvis4v_lrv_mix1231k.json", 68),
    ]
    numbers = random.Random(7)  # seeded once: the second order goes on where the first ended
    assert written[0][0].read_bytes() == published(numbers, BASE + lrv_records())
    assert written[1][0].read_bytes() == published(numbers, with_lvis + lrv_records())
    assert sorted(p.name for p in out.iterdir()) == sorted([path.name, *(p.name for p, _ in written)])


def test_stripped_keeps_records_with_an_image_in_their_order(files):
    path, count, left_out = strip_text_only(files / "base.json", files / "out")
    assert path.name == "llava_v1_5_stripped625k.json"
    assert json.loads(path.read_bytes()) == [row for row in BASE if "image" in row]
    assert (count, left_out) == (26, 14)


def test_images_are_looked_for_where_asked(files):
    images = files / "images"
    (images / "coco").mkdir(parents=True)
    for i in range(14):
        (images / f"coco/{i}.jpg").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"lvis.json: row 14: the image 'coco/14.jpg' is not below"):
        merge_lvis4v(files / "base.json", files / "lvis.json", files / "out", images=images)
    assert list((files / "out").iterdir()) == []
    (images / "coco/14.jpg").write_bytes(b"x")
    assert merge_lvis4v(files / "base.json", files / "lvis.json", files / "out", images=images)[1] == 55


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("base.json", None, "can't be read"),
        ("base.json", "[1]", "row 0: a record is an object"),
        ("base.json", '[{"id": "a"}', "not JSON after 1 rows"),
        ("base.json", '{"id": "a"}\n{oops', "line 2 is not JSON"),
        ("lrv/filter_cap1.json", '[{"image_id": "1", "question": 3, "answer": ""}]', "row 0: question is 3"),
    ],
)
def test_a_broken_input_is_named_with_its_row(files, name, text, message):
    (files / name).unlink()
    if text is not None:
        (files / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        merge_lrv(files / "base.json", files / "lvis.json", files / "lrv", files / "out")


def test_weights_say_how_many_of_each_and_nothing_is_taken_twice(files):
    pairs = [(files / "base.json", 0.5), (files / "lvis.json", 0.25)]
    path = files / "out/mix.json"
    assert mix_weighted(pairs, path, seed=3) == [30, 15]
    ids = [row["id"] for row in json.loads(path.read_bytes())]
    assert len(set(ids)) == 45
    assert sum(name.startswith("b") for name in ids) == 30
    first = path.read_bytes()
    mix_weighted(pairs, path, seed=3)
    assert path.read_bytes() == first
    mix_weighted(pairs, path, seed=4)
    assert path.read_bytes() != first


@pytest.mark.parametrize(
    ("inputs", "num_rows", "expected"),
    [
        ([("a", 1, 10), ("b", 1, 10)], None, [10, 10]),
        ([("a", 1, 10), ("b", 3, 9)], None, [3, 9]),
        ([("a", 0.7, 7), ("b", 0.3, 3)], None, [7, 3]),
        ([("a", 1, 9), ("b", 1, 9), ("c", 1, 9)], 10, [4, 3, 3]),
        ([("a", 2, 5)], 3, [3]),
        ([("a", 1, 0), ("b", 1, 5)], None, [0, 0]),
    ],
)
def test_shares_add_up(inputs, num_rows, expected):
    assert weighted_counts(inputs, num_rows=num_rows) == expected


@pytest.mark.parametrize(
    ("inputs", "num_rows", "message"),
    [
        ([("a", 0, 9)], None, "weights are above 0"),
        ([("a", float("nan"), 9)], None, "weights are above 0"),
        ([("a", 1, 3), ("b", 1, 9)], 8, "a: holds 3 records, 4 of 8"),
    ],
)
def test_what_can_not_be_mixed_is_said(inputs, num_rows, message):
    with pytest.raises(ConfigError, match=message):
        weighted_counts(inputs, num_rows=num_rows)


def test_the_commands_write_files_and_fail_in_one_line(files):
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)

    def run(*arguments):
        return CliRunner().invoke(app, ["mix", *map(str, arguments)])

    base, lvis, out = files / "base.json", files / "lvis.json", files / "out"
    assert "55 records" in run("lvis4v", base, lvis, "--to", out).output
    assert (
        "68 records"
        in run("lrv", base, out / "llava_v1_5_lvis4v_mix888k.json", files / "lrv", "--to", out).output
    )
    assert "14 text-only records left out" in run("stripped", base, "--to", out).output
    mixed = run("weighted", f"{base}=2", f"{lvis}=1", "--rows", 9, "--to", out / "m.json")
    assert "6 records at weight 2" in mixed.output
    assert len(json.loads((out / "m.json").read_bytes())) == 9
    assert run("weighted", f"{base}=much", "--to", out / "m.json").exit_code == 2
    assert run("stripped", base, "--to", files / "nowhere").exit_code == 2
    assert run("stripped", files / "gone.json", "--to", out).exit_code == 3
