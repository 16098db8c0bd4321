"""Every sweep in experiments/ loads, and lists its cells without data, weights or a cluster."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from weave_train import cli
from weave_train.sweep import Sweep, load_cells, plan_lines

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "experiments").rglob("*.yaml")
    if "\narms:" in path.read_text(encoding="utf-8")
)


def sweep_of(name: str) -> Sweep:
    return load_cells(ROOT / "experiments" / f"{name}.yaml")


@pytest.mark.parametrize("path", SWEEPS, ids=str)
def test_a_sweep_loads_and_lists_its_cells(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what somebody has run in the repository has no part in it
    sweep = load_cells(ROOT / path)
    lines = list(plan_lines(sweep, sweep.cells))
    assert len(sweep.cells) == len(sweep.config.arms) * len(sweep.config.seeds)
    for cell in sweep.cells:
        assert any(line == cell.name or line.startswith(f"{cell.name}:") for line in lines)


def test_the_papers_figures_are_there() -> None:
    for name in ("figure1", "figure2", "figure3", "tiny/figure1", "tiny/figure2", "tiny/figure3"):
        assert Path("experiments") / f"{name}.yaml" in SWEEPS


def test_figure_one_trains_160000_videos_once_and_saves_ten_times() -> None:
    sweep = sweep_of("figure1")
    assert [cell.axes["L"] for cell in sweep.cells] == [1, 2, 4, 8, 16]
    for cell, line in zip(sweep.cells, steps_of(sweep), strict=True):
        assert line == 160_000 // int(cell.axes["L"]) // 2
        assert line // (cell.last.config.save_every_steps or 1) == 10
        assert cell.evaluations[0].checkpoints == "all"


def test_figure_two_takes_5000_steps_of_two_samples_with_five_seeds() -> None:
    sweep = sweep_of("figure2")
    assert len(sweep.cells) == 25
    assert set(steps_of(sweep)) == {5000}
    assert {cell.seed for cell in sweep.cells} == {1, 2, 3, 4, 7}


def test_figure_three_compares_clusters_of_eight_with_figure_twos() -> None:
    sweep = sweep_of("figure3")
    recipes = {cell.axes["kind"]: cell.last.recipe for cell in sweep.cells}
    assert recipes == {"random": "fig2-l8", "clustered": "fig3-l8"}
    assert set(steps_of(sweep)) == {5000}


@pytest.mark.parametrize("name", ["figure1", "figure2", "figure3"])
def test_the_papers_settings_are_those_of_its_presets(name: str) -> None:
    for cell in sweep_of(name).cells:
        config = cell.last.config
        assert config.model.init_from_model == "prism-clip+7b"
        assert (config.model.vision_backbone_id, config.model.num_frames) == ("video-clip-vit-l-336px", 16)
        assert (config.model.llm_backbone_id, config.model.rope_scaling_factor) == ("llama2-7b-pure", 3.0)
        assert (config.hyper.global_batch_size, config.hyper.epochs, config.num_ranks) == (2, 1, 2)
        (asked,) = cell.evaluations
        assert (asked.task, asked.flags) == ("videomme", {"num-frames": 16})


def test_the_file_on_the_page_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    path = tmp_path / "experiments" / "page.yaml"
    path.parent.mkdir()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path.write_text(text)
    sweep = load_cells(path)
    assert [cell.name for cell in sweep.cells[-3:]] == ["none-s1", "none-s2", "none-s3"]
    assert len(sweep.builds[0].config.recipes) == 2 * 3  # fig2-l1, which an arm reads, too, and fig2-l4


def steps_of(sweep: Sweep) -> list[int]:
    from weave_train.sweep.plan_lines import num_steps

    return [num_steps(sweep, cell.last) or 0 for cell in sweep.cells]


def test_a_dry_run_prints_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(ROOT / "experiments" / "figure2.yaml")
    monkeypatch.setattr(sys, "argv", ["weave-train", "sweep", file, "--dry-run", "--only", "l4,l16"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert shown.startswith("figure2: 10 cells, 2 arms x 5 seeds")
    assert "weave-train pretrain --num_ranks 2 --model.type videoweave-l16" in shown
    assert list(tmp_path.iterdir()) == []
