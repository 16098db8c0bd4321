"""docs/evidence.md says what the published cells answered; anyone can compute it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from experiments.rendered_world.films import draw_family
from experiments.rendered_world.output import write_json_lines
from experiments.rendered_world.questions import question_rows
from weave_train.sweep import adopt_cells, load_cells, run_sweep
from weave_train.sweep.answers import Answers, Used, read_answers, used_until
from weave_train.sweep.metric import parsed
from weave_train.sweep.states import evaluated_at, steps_to_ask

ROOT = Path(__file__).resolve().parents[2]
CELLS = ROOT / "experiments" / "rendered_world" / "evidence" / "hour"
PAGE = ROOT / "docs" / "evidence.md"
METRIC = "questions/frames/likelihood"
TYPES = ("first", "before-after", "how-many", "which-object", "speed", "fine-motion", "repetitions")
"""In the order of the page's columns."""
SCORES = ("likelihood_per_token", "generated")
HELD_OUT = ("combination", "motion")


@dataclass(frozen=True)
class Published:
    """`table.json` of the published cells, what each answered, and what it took, by arm."""

    table: dict[str, Any]
    answers: dict[str, list[Answers]]
    used: dict[str, list[Used]]

    def mean(self, arm: str, metric: str) -> float:
        """Over seeds."""
        return fmean(each.mean(parsed(metric)) or 0.0 for each in self.answers[arm])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Of the published cells, in a directory where nothing else is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("evidence"))
        questions = Path("build/rendered-world/films/questions.jsonl")
        questions.parent.mkdir(parents=True)
        families = (draw_family(101, index) for index in range(240))
        write_json_lines(questions, (row for family in families for row in question_rows(101, family)))
        sweep = load_cells(ROOT / "experiments" / "rendered-world-hour.yaml")
        adopted = adopt_cells(sweep.cells, CELLS)
        assert len(adopted) == len(list(CELLS.glob("*.tar.xz"))) >= 9
        run_sweep(sweep, arms=list(dict.fromkeys(cell.arm for cell in adopted)), say=print)
        answers: dict[str, list[Answers]] = {}
        used: dict[str, list[Used]] = {}
        for cell in adopted:
            (entry,) = cell.evaluations
            folder = evaluated_at(cell, entry, steps_to_ask(cell, entry)[-1]).results
            answers.setdefault(cell.arm, []).append(read_answers(folder))
            used.setdefault(cell.arm, []).append(used_until(cell))
        yield Published(json.loads(Path("build/rendered-world/hour/table.json").read_text()), answers, used)


@pytest.fixture(scope="module")
def outcome(published: Published) -> dict[str, Any]:
    return published.table


def test_the_page_has_every_arms_scores(outcome: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    arms = [arm for arm in outcome["arms"] if arm["seeds"]]
    assert {arm["arm"] for arm in arms} >= {"l1", "woven-4", "unwoven-4"}
    for arm in arms:
        for context in ("long", "short"):
            score = arm["metrics"][f"{METRIC} context={context}"]
            assert f"{score['mean']:.3f} ± {score['sd']:.3f}" in row_of(page, arm["arm"]), (
                arm["arm"],
                context,
            )


def test_the_page_has_every_types_score(published: Published) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for arm in published.answers:
        shown = [short(published.mean(arm, f"{METRIC} type={name}")) for name in TYPES]
        assert row_of(page, arm).endswith(f"| {' | '.join(shown)} |"), (arm, shown)


def test_the_page_has_what_is_reported_and_not_tested(published: Published) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for arm, used in published.used.items():
        shown = [
            *(short(published.mean(arm, f"questions/frames/{score} context=long")) for score in SCORES),
            *(short(published.mean(arm, f"{METRIC} context=long held_out={kind}")) for kind in HELD_OUT),
            f"{fmean(each.samples for each in used):,.0f}",
            f"{fmean(each.tokens for each in used) / 1e6:.2f} M",
            f"{fmean(each.supervised_tokens for each in used) / 1e6:.2f} M",
            f"{fmean(each.flops for each in used) / 1e12:.0f} T",
        ]
        row = f"| {arm}, more | {' | '.join(shown)} |"
        assert row in page, row


def test_the_page_has_every_contrast_that_is_known(outcome: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    known = [each for each in outcome["contrasts"] if each["p_holm"] is not None]
    assert {each["name"] for each in known} >= {"effect-4", "paper-4", "cost-4"}
    for each in known:
        interval = each["interval"]
        row = row_of(page, f"`{each['name']}`")
        shown = f"{interval['mean']:+.3f} ({interval['low']:+.3f} to {interval['high']:+.3f})"
        assert shown in row, each
        assert f"{each['p_holm']:.4f}" in row, each


def test_without_looking_a_model_is_right_in_a_third(outcome: dict[str, Any]) -> None:
    for arm in outcome["arms"]:
        for context in ("long", "short") if arm["seeds"] else ():
            blind = arm["metrics"][f"questions/blind/likelihood context={context}"]
            assert blind["mean"] == pytest.approx(1 / 3, abs=1e-9), (arm["arm"], context)


def short(share: float) -> str:
    """`.457`."""
    return f"{share:.3f}".removeprefix("0")


def row_of(page: str, first: str) -> str:
    """The row of the page's results that begins with a cell."""
    results = page[page.index("## Results") :]
    (row,) = [line for line in results.splitlines() if line.startswith(f"| {first} |")]
    return row
