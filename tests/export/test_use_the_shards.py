"""Every block of docs/use-the-shards.md runs as it is written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from builders import write_woven_dataset
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from weave_data.cli import app

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "use-the-shards.md").read_text(encoding="utf-8")


def blocks(heading: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks of one section."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```(\w+)\n(.*?)^```", section, re.M | re.S)


def weave_data(line: str) -> str:
    command, *words = shlex.split(line)
    assert command == "weave-data"
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def run(heading: str) -> None:
    found = blocks(heading)
    assert found
    for language, text in found:
        if language == "python":
            exec(compile(text, f"use-the-shards.md, {heading}", "exec"), {"__name__": "__main__"})
        else:
            for line in text.strip().splitlines():
                weave_data(line)


@pytest.fixture
def woven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_woven_dataset(
        tmp_path / "woven", rows=6, clips_per_sample=2, frames_per_sample=4, image_px=24, shard_rows=4,
        row_group_rows=2, val_rows=2,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_no_section_without_a_test() -> None:
    tested = {"PyTorch", "Hugging Face datasets", "Ray Data", "WebDataset", "LLaMA-Factory", "ms-swift"}
    assert set(re.findall(r"^## (.*)", PAGE, re.M)) == tested | {
        "How well a model describes held-out samples", "VideoWeave and Prismatic",
    }  # fmt: skip


@pytest.mark.process
def test_pytorch(woven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("PyTorch")
    assert capsys.readouterr().out.count("(24, 24)") == 3  # row groups


def test_hugging_face_datasets(
    woven: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", woven / "cache")
    run("Hugging Face datasets")
    assert "JpegImageFile image mode=RGB size=24x24" in capsys.readouterr().out


@pytest.mark.process
def test_ray_data(woven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100_000_000)
    try:
        run("Ray Data")
    finally:
        ray.shutdown()
    assert capsys.readouterr().out.count("first_frame_bytes") == 2


def test_webdataset(woven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("WebDataset")
    lines = [line for line in capsys.readouterr().out.splitlines() if " 4 " in line]
    assert len(lines) == 6


def test_videoweave_and_prismatic(woven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("VideoWeave and Prismatic")
    assert "[(24, 24), (24, 24), (24, 24), (24, 24)]" in capsys.readouterr().out


def test_held_out_samples_are_asked_about(woven: Path) -> None:
    run("How well a model describes held-out samples")
    (asked,) = Path("described").glob("*-val.json")
    assert len(json.loads(asked.read_text())) == 2


def test_llama_factory_finds_its_data_by_its_own_keys(woven: Path) -> None:
    (_, command), (kind, settings) = blocks("LLaMA-Factory")
    weave_data(command.strip())
    assert kind == "yaml"
    given = YAML(typ="safe").load(settings)
    entry = json.loads(Path(given["dataset_dir"], "dataset_info.json").read_text())[given["dataset"]]
    rows = json.loads(Path(given["dataset_dir"], entry["file_name"]).read_text())
    assert entry["formatting"] == "sharegpt"
    assert len(rows) == 6
    for row in rows:
        turns = row[entry["columns"]["messages"]]
        roles = [turn[entry["tags"]["role_tag"]] for turn in turns]
        assert roles == [entry["tags"]["user_tag"], entry["tags"]["assistant_tag"]]
        text = "".join(turn[entry["tags"]["content_tag"]] for turn in turns)
        images = row[entry["columns"]["images"]]
        assert text.count("<image>") == len(images) == 4
        assert [Image.open(Path(given["media_dir"], name)).size for name in images] == [(24, 24)] * 4


def test_ms_swift_finds_its_data_where_it_starts(woven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weave_data(blocks("LLaMA-Factory")[0][1].strip())
    ((_, text),) = blocks("ms-swift")
    enter, command = text.strip().splitlines()
    assert shlex.split(enter)[0] == "cd"
    monkeypatch.chdir(shlex.split(enter)[1])
    words = shlex.split(command)
    file = str(next(Path().glob(words[words.index("--dataset") + 1])))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", woven / "cache")
    rows = datasets.load_dataset("json", data_files=file, split="train", cache_dir=str(woven / "cache"))
    for row in rows:
        assert [set(turn) for turn in row["messages"]] == [{"role", "content"}] * 2
        assert row["messages"][0]["content"].count("<image>") == len(row["images"]) == 4
        assert all(Image.open(name).size == (24, 24) for name in row["images"])


def test_the_command_asks_which_recipe_where_there_are_several(woven: Path) -> None:
    write_woven_dataset(woven / "woven", rows=2, clips_per_sample=1, frames_per_sample=2, recipe="l1")
    result = CliRunner().invoke(app, ["export", "woven", "out", "--format", "sharegpt"])
    assert result.exit_code == 2
    assert "published recipes: l1, l4; choose one with --recipe" in " ".join(result.output.split())
    assert not Path("out").exists()
