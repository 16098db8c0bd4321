"""Table and figure say what lies in the cells' files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sweep_files import load, plain, pretend_answered, pretend_trained

from weave_data.errors import IncompleteError, VerificationError
from weave_train.sweep import Cell, Sweep, run_sweep, write_outcome
from weave_train.sweep.curves import draw_curves, mean_curve


def scored(cell: Cell, number: int, mode: str, score: str) -> float | None:
    """L = 4 is right about every order, else both are right about half; seed 5 lost a question."""
    if cell.seed == 5 and cell.arm == "l1" and number == 3:
        return None
    if mode == "blind":
        return float(number % 4 < 1)
    if cell.arm == "l4" and number % 2:
        return 1.0
    return float((number // 2 + cell.seed) % 2)


def finished(root: Path, **changes: Any) -> Sweep:
    sweep = load(root, {**plain(root), **changes})
    for cell in sweep.cells:
        pretend_trained(cell, steps=(2, cell.last.config.max_steps or 0))
        pretend_answered(cell, scored)
    return sweep


def outcome_of(sweep: Sweep) -> dict[str, Any]:
    path = Path(sweep.config.output) / "table.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_finished_sweep_starts_nothing_and_writes_its_table(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    said: list[str] = []
    written = run_sweep(sweep, say=said.append)
    assert said == ["plain: 6 of 6 cells are done"]
    assert [path.name for path in written] == ["table.md", "table.json", "curves.png", "figure.png"]
    before = [path.read_bytes() for path in written]
    run_sweep(load(tmp_path, plain(tmp_path)), say=said.append)
    assert [path.read_bytes() for path in written] == before


def test_means_are_those_of_the_rows(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    write_outcome(sweep, sweep.cells)
    l1, l4 = outcome_of(sweep)["arms"]
    metric = l4["metrics"]["questions/frames/likelihood"]
    cell = sweep.cells[3]
    by_hand = [float(scored(cell, number, "frames", "likelihood") or 0) for number in range(40)]
    assert metric["by_seed"]["1"] == pytest.approx(np.mean(by_hand))
    assert metric["mean"] == pytest.approx(np.mean(list(metric["by_seed"].values())))
    assert metric["sd"] == pytest.approx(np.std(list(metric["by_seed"].values()), ddof=1))
    assert l1["metrics"]["questions/frames/likelihood"]["lost"] == {"1": 0, "2": 0, "5": 1}
    assert l1["metrics"]["questions/frames/cider"]["mean"] == 0.25  # of no question by itself
    assert l4["used"]["2"] == {
        "steps": 4, "samples": 32, "tokens": 3200, "supervised_tokens": 400, "flops": 2e12,
    }  # fmt: skip


def test_contrasts_are_paired_by_question_and_seed(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    write_outcome(sweep, sweep.cells)
    every, order = outcome_of(sweep)["contrasts"]
    assert (every["questions"], every["videos"], every["unpaired"]) == (39, 20, 1)
    assert (order["questions"], order["videos"], order["unpaired"]) == (19, 19, 1)
    l1, l4 = sweep.cells[1], sweep.cells[4]
    kept = [number for number in range(40) if number != 3]
    differences = [
        float(scored(l4, number, "frames", "")) - float(scored(l1, number, "frames", "")) for number in kept  # type: ignore[arg-type]
    ]  # fmt: skip
    assert every["by_seed"]["2"] == pytest.approx(np.mean(differences))
    assert every["interval"]["mean"] == pytest.approx(np.mean(list(every["by_seed"].values())))
    assert every["interval"]["low"] < every["interval"]["mean"] < every["interval"]["high"]
    assert order["interval"]["mean"] > every["interval"]["mean"] > 0
    ps = sorted([every["interval"]["p"], order["interval"]["p"]])
    assert sorted([every["p_holm"], order["p_holm"]]) == pytest.approx([2 * ps[0], max(2 * ps[0], ps[1])])


def test_tags_whose_values_hold_spaces_are_those_of_the_questions(tmp_path: Path) -> None:
    metric = "questions/frames/likelihood set=two words type=order"
    contrast = {"name": "both", "a": "l4", "b": "l1", "metric": "questions/frames/likelihood"}
    sweep = finished(
        tmp_path, metrics=[metric], contrasts=[{**contrast, "where": {"set": "two words", "type": "order"}}]
    )
    write_outcome(sweep, sweep.cells)
    outcome = outcome_of(sweep)
    (arm,) = [each for each in outcome["arms"] if each["arm"] == "l4"]
    assert arm["metrics"][metric]["mean"] == arm["metrics"][metric]["by_seed"]["1"] == 1.0
    assert outcome["contrasts"][0]["metric"] == metric
    assert outcome["contrasts"][0]["questions"] == 19  # seed 5 lost one


def test_families_are_corrected_apart(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["contrasts"][1]["family"] = "exploratory"
    sweep = finished(tmp_path, contrasts=values["contrasts"])
    write_outcome(sweep, sweep.cells)
    assert all(each["p_holm"] == each["interval"]["p"] for each in outcome_of(sweep)["contrasts"])


def test_the_table_is_markdown_with_axes_blind_scores_contrasts_and_costs(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    text = write_outcome(sweep, sweep.cells)[0].read_text()
    lines = text.splitlines()
    assert lines[0] == "# plain"
    names = [
        f"questions/{mode}/likelihood{tag}" for tag in ("", " type=order") for mode in ("frames", "blind")
    ]
    assert f"| arm | L | kind | seeds | {' | '.join(names)} |" in lines
    (row,) = [line for line in lines if line.startswith("| l4 | 4 | woven | 3 | 0.750 ± 0.000 [")]
    assert "| 0.250 ± 0.000 | 1.000 ± 0.000 | 0.000 ± 0.000 |" in row
    (mean,) = [line for line in lines if line.startswith("| mean of arms |  |  |  | 0.")]
    assert "[" in mean
    assert any(
        line.startswith("| order: l4 - l1 | questions/frames/likelihood type=order |") for line in lines
    )
    assert "| l4 | 4 | 32 | 3,200 | 400 | 2e+12 |" in lines
    assert "l1 seed 5, questions/frames: 1" in text
    for table in text.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1


def test_a_part_of_the_cells_gives_a_table_that_says_so(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    write_outcome(sweep, [cell for cell in sweep.cells if cell.name not in ("l4-s2", "l4-s5")])
    outcome = outcome_of(sweep)
    assert outcome["missing"] == ["l4-s2", "l4-s5"]
    assert outcome["contrasts"][0]["seeds"] == [1]
    assert "**4 of 6 cells; missing: l4-s2, l4-s5**" in (tmp_path / "out" / "table.md").read_text()
    write_outcome(sweep, [])
    assert outcome_of(sweep)["contrasts"][0]["interval"] is None


@pytest.mark.parametrize(
    ("figure", "groups"),
    [
        ({"x": "L", "y": "questions/frames/likelihood", "group": "kind"}, 1),
        ({"x": "samples", "y": "questions/frames/likelihood", "group": "arm"}, 2),
        ({"x": "flops", "y": "questions/frames/likelihood", "group": "L"}, 2),
    ],
)
def test_the_figure_has_a_point_for_each_cell_and_a_colour_for_each_group(
    tmp_path: Path, figure: dict[str, str], groups: int
) -> None:
    sweep = finished(tmp_path, figure=figure)
    path = write_outcome(sweep, sweep.cells)[-1]
    points = outcome_of(sweep)["points"]
    assert len(points) == 6
    assert {point["x"] for point in points} == {
        "L": {1.0, 4.0}, "samples": {24.0, 32.0}, "flops": {1.5e12, 2e12},
    }[figure["x"]]  # fmt: skip
    with Image.open(path) as image:
        assert image.size == (840, 540)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colours = {(31, 119, 180): groups >= 1, (255, 127, 14): groups >= 2, (44, 160, 44): False}
    for colour, is_there in colours.items():
        assert bool((pixels == colour).all(axis=1).any()) is is_there


def test_every_checkpoint_is_a_point_of_a_curve(tmp_path: Path) -> None:
    values = plain(tmp_path)
    values["evaluate"][0]["checkpoints"] = "all"
    values["figure"] = {"x": "samples", "y": "questions/frames/likelihood", "group": "arm"}
    sweep = finished(tmp_path, evaluate=values["evaluate"], figure=values["figure"])
    write_outcome(sweep, sweep.cells)
    points = [(point["arm"], point["step"], point["x"]) for point in outcome_of(sweep)["points"]]
    assert points[::2][:1] == [("l1", 2, 16.0)]
    assert {point for point in points if point[0] == "l4"} == {("l4", 2, 16.0), ("l4", 4, 32.0)}


def test_a_damaged_cell_that_was_not_asked_for_is_named_beside_the_table(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    (damaged,) = [cell for cell in sweep.cells if cell.name == "l4-s1"]
    (damaged.last.run_dir / "config.json").write_text('{"pretrain": ')
    with pytest.raises(
        IncompleteError, match=r"1 of 6 cells failed, .*: l4-s1: .*config.json: can't be read"
    ):
        run_sweep(sweep, arms=["l1"], say=lambda _: None)
    assert outcome_of(sweep)["missing"] == ["l4-s1"]


def test_a_metric_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    sweep = finished(tmp_path, metrics=["questions/frames/generated"])
    with pytest.raises(
        VerificationError, match=r"no metric 'questions/frames/generated'; there are questions/"
    ):
        write_outcome(sweep, sweep.cells)


def test_damaged_answers_are_an_error_with_their_line(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    path = next((tmp_path / "out").rglob("answers.jsonl"))
    path.write_text(path.read_text().replace('"mode"', '"mood"', 1))
    with pytest.raises(VerificationError, match=r"answers.jsonl:1: no answer"):
        write_outcome(sweep, sweep.cells)


def test_metrics_that_lack_steps_are_an_error(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    path = next((tmp_path / "out").rglob("metrics.jsonl"))
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(VerificationError, match="steps are missing"):
        write_outcome(sweep, sweep.cells)


def test_a_curve_is_the_mean_over_seeds_by_supervised_tokens(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    stages = [cell.last for cell in sweep.cells if cell.arm == "l4"]
    tokens, losses = mean_curve(stages)
    assert tokens.tolist() == [100.0, 200.0, 300.0, 400.0]
    assert losses == pytest.approx([6.0, 3.0, 2.0, 1.5])
    lines = [json.loads(line) for line in (stages[0].run_dir / "metrics.jsonl").read_text().splitlines()]
    lines[1]["Finetune/Loss (Raw)"] = None  # skipped: not finite
    lines[2]["Finetune/Supervised Tokens"] = 400
    (stages[0].run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokens, losses = mean_curve(stages[:1])
    assert tokens.tolist() == [100.0, 200.0, 600.0, 700.0]
    assert losses == pytest.approx([6.0, np.nan, 2.0, 1.5], nan_ok=True)
    assert mean_curve(stages[:2])[1] == pytest.approx([6.0, 3.0, 2.0, 1.5])  # the other seed's alone


def test_a_long_curve_has_few_windows_each_a_mean_over_its_tokens(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    stage = sweep.cells[0].last
    lines = [
        {"Finetune/Supervised Tokens": 1 + step % 3, "Finetune/Loss (Raw)": float(step % 3)}
        for step in range(600)
    ]
    (stage.run_dir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokens, losses = mean_curve([stage])
    assert len(tokens) == 60
    assert tokens[-1] == 1200
    assert np.average(losses, weights=np.diff(tokens, prepend=0)) == pytest.approx((0 + 2 + 6) / 6)


def test_curves_are_drawn_with_a_panel_for_each_stage(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    draw_curves(tmp_path / "curves.png", sweep.cells, title="t")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (720, 480)


def test_a_contrast_that_lacks_a_seed_is_not_known_yet(tmp_path: Path) -> None:
    sweep = finished(tmp_path)
    write_outcome(sweep, [cell for cell in sweep.cells if cell.name != "l1-s2"])
    for contrast in outcome_of(sweep)["contrasts"]:
        assert contrast["seeds"] == [1, 5]
        assert contrast["interval"]["p"] is not None
        assert contrast["p_holm"] is None
