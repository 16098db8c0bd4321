"""`weave-train show-batch`: what is learnt is marked, frames are on one sheet, captions can't act."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_world, publish_world, write_woven_dataset
from PIL import Image
from real_tokenizers import TOKENIZERS, real_tokenizer
from rich.console import Console
from tiny_rows import jpeg, woven_row

from weave_data.records import PLAN_SCHEMA
from weave_data.storage import open_store
from weave_train import cli
from weave_train.config import ModelSettings
from weave_train.rows.batch import EncodedRow, make_row
from weave_train.train.batch_view import frame_sheet, row_text, token_runs, visible

EVIL = "\x1b[31mred\x1b[0m \x07\x9b2J [bold]markup[/bold] :smile: \u202eabc\u202c \u200b end\rover"


def show(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["weave-train", "show-batch", *arguments, "--model.type", "tiny"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def encode(question: str, answer: str, tokenizer: Any, frames: int = 2, **more: Any) -> EncodedRow:
    row = woven_row("a", [jpeg((9, 9, 9))] * frames, answer, question=question)
    return make_row(row, tokenizer=tokenizer, settings=ModelSettings(**more))


def printed(text: Any) -> str:
    sink = io.StringIO()
    Console(file=sink, force_terminal=True, color_system="truecolor", width=200).print(text, soft_wrap=True)
    return sink.getvalue()


def test_a_row_reads_as_it_is_encoded_with_what_is_learnt_marked(tokenizer: Any) -> None:
    shown = row_text(encode("What?", "A dot.", tokenizer), tokenizer=tokenizer, settings=ModelSettings())
    head, _, body = shown.plain.partition("\n")
    assert re.fullmatch(r"a  \d+ tokens, \d+ learnt, 2 frames", head)
    assert body == "<s><4 visual x 2>In: What?\\n\nOut:[[A dot.</s>]]"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_put_together_are_the_text(name: str) -> None:
    tokenizer = real_tokenizer(name)
    row = encode(
        "Wo?", "Rot 红点 \U0001f534 \U0001f469‍\U0001f469 é, ok.", tokenizer, llm_backbone_id="hf:any"
    )
    runs = token_runs(row, tokenizer=tokenizer, settings=ModelSettings())
    assert [i for run in runs for i in run.ids] == row.input_ids.tolist()
    learnt = "".join(run.text for run in runs if run.is_learnt)
    assert learnt.strip().startswith("Rot 红点 \U0001f534 \U0001f469‍\U0001f469 é, ok.")
    assert "\ufffd" not in learnt
    shown = row_text(row, tokenizer=tokenizer, settings=ModelSettings(), with_ids=True).plain
    for token in row.input_ids[row.input_ids >= 0].tolist():
        assert re.search(rf"[(,]{token}[),]", shown)


def test_captions_and_sample_ids_can_not_act_on_the_terminal(tokenizer: Any) -> None:
    row = encode(EVIL, EVIL, tokenizer)
    row = EncodedRow(EVIL, row.input_ids, row.labels, row.pixels)
    output = printed(row_text(row, tokenizer=tokenizer, settings=ModelSettings()))
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", output)  # the colours are ours
    assert all(character.isprintable() or character == "\n" for character in stripped)
    for written in (r"\x1b[31mred\x1b[0m", r"\x07", r"\x9b2J", "[bold]markup[/bold] :smile:", r"\u202eabc"):
        assert stripped.count(written) == 3
    assert visible("a\r\nb\ud800") == "a\\r\\n\nb\\ud800"


def test_the_sheet_holds_every_frame_under_its_sample_id(tokenizer: Any) -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    rows = [
        make_row(
            woven_row(EVIL, [jpeg(c) for c in colours], "A."), tokenizer=tokenizer, settings=ModelSettings()
        ),
        encode("What?", "Nothing.", tokenizer, frames=0),
        encode("What?", "Many.", tokenizer, frames=20),
    ]
    sheet = frame_sheet(rows)
    assert sheet.size == (16 * 100 + 4, 22 + 100 + 22 + 22 + 200)
    for index, colour in enumerate(colours):
        corner = np.asarray(sheet.crop((8 + index * 100, 26, 20 + index * 100, 34))).mean((0, 1))
        assert np.abs(corner - colour).max() < 12
    assert frame_sheet(rows[1:2]).size == (480, 22)
    fused = EncodedRow("f", rows[0].input_ids, rows[0].labels, torch.zeros((1, 6, 32, 32), dtype=torch.uint8))
    assert frame_sheet([fused]).size == (480, 122)


def test_the_command_shows_the_first_rows_of_a_step(tmp_path: Path, monkeypatch, capsys) -> None:
    uri = write_woven_dataset(tmp_path / "out", rows=40)
    sheet = tmp_path / "sheet.png"
    assert show(["--dataset.manifest", uri, "--to", str(sheet), "--rows", "3"], monkeypatch) == 0
    shown = capsys.readouterr().out
    assert len(re.findall(r"^[0-9a-f]{32}  \d+ tokens, \d+ learnt, 16 frames$", shown, re.MULTILINE)) == 3
    assert shown.count("<4 visual x 16>In: Describe what is happening in the video.\\n\nOut:[[") == 3
    assert shown.count("</s>]]") == 3
    assert "\x1b" not in shown  # no terminal, no colours
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
        assert picture.size == (16 * 100 + 4, 3 * 122)
    per_clip = ["--model.visual_placement", "per-clip", "--rows", "1", "--step", "0", "--ids"]
    assert show(["--dataset.manifest", uri, *per_clip], monkeypatch) == 0
    with_ids = capsys.readouterr().out
    assert with_ids.count("<4 visual x 4>") == 4
    assert re.search(r"</s>\(\d+\)\]\]", with_ids)


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch, capsys) -> None:
    uri = write_woven_dataset(tmp_path / "out", rows=40)
    assert show(["--dataset.manifest", uri, "--step", "9"], monkeypatch) == 2
    assert "step: 9 is not a step of this run, which has 2" in capsys.readouterr().err
    assert show(["--dataset.manifest", uri, "--to", str(tmp_path / "no" / "x.png")], monkeypatch) == 2
    assert "to: can't write" in capsys.readouterr().err
    clash = ["--dataset.shuffle_frames", "--model.visual_placement", "per-clip"]
    assert show(["--dataset.manifest", uri, *clash], monkeypatch) == 2
    assert "dataset.shuffle_frames: shuffled frames are no clips" in capsys.readouterr().err


def test_a_hostile_data_set_is_shown_harmlessly(tmp_path: Path, monkeypatch, capsys) -> None:
    world = make_world(rows=16)
    rows = world.plan.to_pylist()
    for row in rows:
        row["conversations"][1]["value"] = EVIL
    plan = world.plan.from_pylist(rows, schema=PLAN_SCHEMA)
    publish_world(
        type(world)(plan, world.addresses, world.tars, world.configuration), open_store(str(tmp_path))
    )
    flags = ["--dataset.manifest", f"{tmp_path}/l4/manifest.json", "--model.finetune_global_batch_size", "8"]
    assert show([*flags, "--rows", "2", "--to", str(tmp_path / "s.png")], monkeypatch) == 0
    shown = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert shown.count(r"\x1b[31mred\x1b[0m") == 2
