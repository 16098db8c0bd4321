"""`weave-train` on the command line: surface, one-line errors, exit codes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from weave_train import cli
from weave_train.launch import detect_launch, free_port, rank_environment


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["weave-train", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_commands_are_pinned() -> None:
    assert sorted(command.callback.__name__ for command in cli.app.registered_commands) == [
        "chat",
        "compare",
        "doctor",
        "estimate",
        "evaluate",
        "export",
        "generate",
        "index",
        "launch",
        "pretrain",
        "serve",
        "show_batch",
        "sweep",
    ]


def test_help_names_the_flags(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pretrain", "--help"], monkeypatch) == 0
    shown = capsys.readouterr().out
    for flag in ("--dataset.manifest", "--zero_stage", "--deepspeed", "--resume", "--stop_after_steps"):
        assert flag in shown


def test_a_wrong_flag_is_one_line_and_exit_code_2(monkeypatch, capsys) -> None:
    arguments = ["pretrain", "--dataset.manifest", "out/l4", "--model.type", "tiny", "--max_step", "3"]
    assert run(arguments, monkeypatch) == 2
    assert capsys.readouterr().err == (
        "weave-train: command line: max_step: unknown setting (did you mean 'max_steps'?)\n"
    )


def test_debug_shows_the_traceback(monkeypatch, capsys) -> None:
    assert run(["pretrain", "--model.type", "tiny", "--debug"], monkeypatch) == 2
    assert "Traceback" in capsys.readouterr().err


def test_only_the_first_rank_prints_what_every_rank_finds(monkeypatch, capsys) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(["--local_rank=1", "pretrain", "--model.type", "tiny"], monkeypatch) == 2
    assert capsys.readouterr().err == ""


def test_settings_can_come_from_a_file_and_flags_win(tmp_path: Path, monkeypatch, capsys) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: {type: tiny, num_frames: four}\nmax_steps: 3\nseed: -1\n")
    assert (
        run(["pretrain", "--config", str(file), "--seed", "1", "--dataset.manifest", "x"], monkeypatch) == 2
    )
    assert capsys.readouterr().err == (
        "weave-train: command line: model.num_frames: input should be a valid integer, got 'four'\n"
    )


def test_a_data_set_that_is_not_there_is_said_before_any_work(tmp_path: Path, monkeypatch, capsys) -> None:
    for name in rank_environment(0, world_size=1, port=1):
        monkeypatch.setenv(name, "unset")
        monkeypatch.delenv(name)
    arguments = [
        "pretrain",
        "--dataset.manifest",
        str(tmp_path / "out/l4/manifest.json"),
        "--model.type",
        "tiny",
    ]
    assert run(arguments, monkeypatch) in (3, 5)
    assert capsys.readouterr().err.startswith("weave-train: ")
    assert list(tmp_path.iterdir()) == []


def test_generate_without_a_run_says_so(tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(["generate", str(tmp_path), "--video", "a.mp4"], monkeypatch) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_is_asked_about_one_thing(tmp_path: Path, monkeypatch, capsys) -> None:
    for command in ("generate", "chat"):
        arguments = [command, str(tmp_path), "--video", "a.mp4", "--image", "a.jpg"]
        assert run(arguments, monkeypatch) == 2
        assert capsys.readouterr().err == (
            "weave-train: --video and --image: a model is asked about one of them; leave the others out\n"
        )


def test_serve_wants_an_address(tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(["serve", str(tmp_path), "--host", "example.com"], monkeypatch) == 2
    assert "give an IP address" in capsys.readouterr().err


def test_an_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weave_train.config.load_pretrain_config", interrupt)
    assert run(["pretrain"], monkeypatch) == 130


def test_a_rank_is_what_its_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, value in rank_environment(1, world_size=3, port=free_port()).items():
        monkeypatch.setenv(name, value)
    launch = detect_launch()
    assert (launch.rank, launch.world_size, launch.is_first) == (1, 3, False)
