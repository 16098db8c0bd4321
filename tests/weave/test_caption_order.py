from __future__ import annotations

import numpy as np
import pytest
from small_recipes import catalog, group, lengths, recipe, weave

from weave_data.config import RecipeConfig
from weave_data.weave import make_plan

CLIPS, FRAMES = catalog(400), lengths(400, shortest=16)


def told(plan) -> list[list[str]]:
    """Captions as each sample's answer has them."""
    return [turns[1]["value"].rstrip(".").split(". ") for turns in plan["conversations"].to_pylist()]


def shown(plan) -> list[list[str]]:
    return [[clip["caption"] for clip in row] for row in plan["clips"].to_pylist()]


def test_shuffled_captions_are_those_of_the_samples_clips_in_an_order_of_their_own() -> None:
    plain, _, _ = weave(recipe(seed=3), CLIPS, FRAMES)
    plan, _, _ = weave(recipe(seed=3, caption_order="shuffled"), CLIPS, FRAMES)
    assert told(plain) == shown(plain)
    assert sorted(map(sorted, told(plan))) == sorted(map(sorted, told(plain)))
    places = np.array(
        [[row.index(text) for text in texts] for row, texts in zip(shown(plan), told(plan), strict=True)]
    )
    assert np.abs(np.array([np.bincount(column, minlength=4) for column in places.T]) - 25).max() < 18
    frames = {tuple(clip["clip_id"] for clip in row) for row in plain["clips"].to_pylist()}
    assert frames == {tuple(clip["clip_id"] for clip in row) for row in plan["clips"].to_pylist()}


def test_another_epoch_or_seed_shuffles_otherwise_and_other_clips_change_nothing() -> None:
    chosen = recipe(seed=3, caption_order="shuffled")
    groups = group(chosen, CLIPS)
    orders = {}
    for name, epoch, seed in (("here", 0, 3), ("epoch", 1, 3), ("seed", 0, 4)):
        changed = chosen.model_copy(update={"seed": seed})
        plan = make_plan(changed, clips=CLIPS, frames=FRAMES, groups=groups, epoch=epoch)
        orders[name] = {tuple(row): texts for row, texts in zip(shown(plan), told(plan), strict=True)}
    assert orders["here"] != orders["epoch"]
    assert orders["here"] != orders["seed"]
    few = groups.filter(np.isin(groups["group_index"].to_numpy(), [0, 1]))
    plan = make_plan(chosen, clips=CLIPS, frames=FRAMES, groups=few)
    for row, texts in zip(shown(plan), told(plan), strict=True):
        assert orders["here"][tuple(row)] == texts


@pytest.mark.parametrize("others", [{"clips": 1}, {"clip_questions": {}}])
def test_an_order_that_is_not_there_or_would_make_answers_false_is_refused(others) -> None:
    with pytest.raises(ValueError, match="caption_order shuffled needs several clips"):
        recipe(caption_order="shuffled", **others)


def test_a_recipe_that_keeps_the_order_is_recorded_as_before_there_was_one() -> None:
    assert "caption_order" not in recipe().model_dump(mode="json")
    written = recipe(caption_order="shuffled").model_dump(mode="json")
    assert written["caption_order"] == "shuffled"
    assert RecipeConfig(**written).caption_order == "shuffled"
