"""Captions, names and licences with control characters or HTML are text, on every terminal and page."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from planted import ACTING, MARKUP, harmful
from small_builds import settings
from typer.testing import CliRunner
from world import render_world

from weave_data.cli import app
from weave_data.foreign_text import redact, visible
from weave_data.report import render_card
from weave_data.report.stored import Licences
from weave_data.shard import read_manifest
from weave_data.storage import open_store
from weave_train.commands.ask import _Terminal

EVIL = f"{MARKUP} {ACTING}"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build whose captions, prompt and broken file names are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    render_world(folder, num_clips=10, seed=5, size_px=(64, 80), seconds=1.5)
    with (folder / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        row["name"] = f"{EVIL} {row['name']}"
        if index == 3:
            row["contentUrl"] = f"\x1b[31m{MARKUP}.mp4"
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    values = settings(str(folder), str(folder / "woven"))
    values["recipes"] = [{**values["recipes"][0], "prompt": f"```\n{EVIL}\n```\n"}]
    values["rejects"] = {"max_fraction": 0.5}
    (folder / "build.yaml").write_text(json.dumps(values))
    code, said = weave_data("build", str(folder / "build.yaml"))
    assert code == 0, said
    assert not harmful(said)
    return folder / "woven"


def weave_data(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def a_sample(output: Path) -> str:
    from weave_data.shard import iter_rows

    store = open_store(str(output), readonly=True)
    manifest = read_manifest(store, "l1")
    sample = next(iter(iter_rows(store, manifest, split="train")))
    assert harmful("".join(clip.caption for clip in sample.clips))  # the plant is in the data
    return sample.sample_id


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "status": lambda output: ["status", str(output)],
    "status --json": lambda output: ["status", str(output), "--json"],
    "explain": lambda output: ["explain", str(output), a_sample(output)],
    "explain --json": lambda output: ["explain", str(output), a_sample(output), "--json"],
    "inspect": lambda output: ["inspect", str(output), "--sample", a_sample(output)],
    "inspect --json": lambda output: ["inspect", str(output), "--json", "--sample", a_sample(output)],
    "inspect settings": lambda output: ["inspect", str(output), "--json"],
    "diff": lambda output: ["diff", str(output), str(output)],
    "gc": lambda output: ["gc", str(output), "--min-age", "0s"],
    "doctor": lambda output: ["doctor", str(output.with_name("build.yaml")), f"output={output}/\x1b[31m"],
    "a wrong setting": lambda output: ["build", str(output.with_name("build.yaml")), "recipes.l1.\x1b[2J=1"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_that_was_written_acts_on_the_terminal(output: Path, name: str) -> None:
    said = weave_data(*COMMANDS[name](output))[1]
    assert said.strip()
    assert not harmful(said)
    if "explain" in name or "--sample" in name or name == "inspect":
        assert "[bold]markup[/bold] :smile:" in said
        assert r"\x1b[31mred" in said or r"\u001b[31mred" in said
    if "json" in name:
        json.loads(said)


@pytest.mark.parametrize("name", ["card.md", "report.html"])
def test_pages_hold_the_text_and_obey_none_of_it(output: Path, name: str) -> None:
    text = (output / name).read_text(encoding="utf-8")
    assert not harmful(text)
    outside = (
        re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^(`{3,}).*?^\1$", "", text)) if name == "card.md" else text
    )
    assert "<script>alert" not in outside
    assert "<img src=x" not in outside
    assert "alert" in text or name == "card.md"


def test_a_licence_is_no_markup_on_the_card(output: Path) -> None:
    manifest = read_manifest(open_store(str(output), readonly=True), "l1")
    text = render_card([manifest], Licences({f"{EVIL} [x](javascript:1)": 3}))
    (row,) = [line for line in text.splitlines() if line.endswith("| 3 |")]
    assert not harmful(row)
    assert "&lt;script&gt;" in row
    assert "<" not in row
    assert "\\[x\\](javascript:1)" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_an_answer_of_a_model_and_an_error_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = _Terminal()
    terminal.write(f"two\tlines\n{ACTING}")
    terminal.complain(f"no file {ACTING}")
    said = capsys.readouterr()
    assert "two\tlines\n" in said.out
    assert not harmful(said.out + said.err)


def test_scripts_and_emoji_that_need_joiners_stay_as_they_are() -> None:
    for text in ("می‌خواهم", "👩‍👩‍👧", "क्‍ष", "naïve — £5"):
        assert visible(text) == text
    assert visible(ACTING).count("\\") == len([one for one in ACTING if one in "\x1b\x07\x9b\r\u202e\u202c"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/x", "https://***@host/x"),
        ("can't reach http://key@host:9000; check", "can't reach http://***@host:9000; check"),
        ("s3://b/k?X-Amz-Signature=abc&x=1", "s3://b/k?X-Amz-Signature=***&x=1"),
        ("https://h/v?api_key=1 and", "https://h/v?api_key=*** and"),
        ("mail me@host about s3://bucket/a@b.mp4", "mail me@host about s3://bucket/a@b.mp4"),
    ],
)
def test_addresses_tell_no_password(text: str, shown: str) -> None:
    assert redact(text) == shown
