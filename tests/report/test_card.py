from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from builders import write_woven_dataset

from weave_data.config import read_yaml
from weave_data.errors import ConflictError
from weave_data.records import StageCount
from weave_data.report import publish_card, render_card
from weave_data.report.stored import Licences
from weave_data.shard import Manifest, manifest_sha256, read_manifest
from weave_data.storage import Store, open_store


@pytest.fixture
def manifest(store: Store) -> Manifest:
    return read_manifest(store, "l4")


def test_the_card_is_a_function_of_the_manifests(store: Store, manifest: Manifest) -> None:
    other = read_manifest(store, "l1")
    assert render_card([manifest, other]) == render_card([other, manifest])


def test_the_card_shows_rows_bytes_and_identity_of_every_recipe(store: Store) -> None:
    text = render_card([read_manifest(store, name) for name in ("l1", "l4")])
    for name in ("l1", "l4"):
        manifest = read_manifest(store, name)
        assert f"## {name}" in text
        assert manifest.fingerprint in text
        assert manifest_sha256(manifest) in text
        assert f"{manifest.num_bytes:,} bytes" in text
    assert "8 woven samples of 4 clips and 8 frames, " in text
    assert "| val | 0 | 2 | 1 |" in text


def test_the_accounting_on_the_card_balances_to_the_reader(manifest: Manifest) -> None:
    rows = re.findall(
        r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| yes \|$", render_card([manifest]), re.M
    )
    assert [row[0] for row in rows] == ["catalog", "decode", "weave"]
    for _, *numbers in rows:
        clips_in, clips_out, filtered, rejected, duplicates = map(int, numbers)
        assert clips_in == clips_out + filtered + rejected + duplicates


def test_every_reason_is_listed_with_its_count(manifest: Manifest) -> None:
    text = render_card([manifest])
    for line in (
        "| catalog | rejected | empty_caption | 1 |",
        "| decode | rejected | truncated | 1 |",
        "| decode | rejected | too_short | 1 |",
    ):
        assert line in text


def test_an_unbalanced_stage_can_not_be_overlooked(manifest: Manifest) -> None:
    broken = dataclasses.replace(manifest, totals=(StageCount("decode", 5, 3, {}, {"corrupt": 1}),))
    assert "| decode | 5 | 3 | 0 | 1 | 0 | NO |" in render_card([broken])


def test_a_build_that_refused_nothing_says_so(manifest: Manifest) -> None:
    clean = dataclasses.replace(manifest, totals=(StageCount("decode", 5, 5),))
    assert "Nothing was filtered or rejected." in render_card([clean])


@pytest.mark.parametrize(
    ("embedding", "why"),
    [
        ({"model": "none", "pretrained": "openai"}, "`embedding.model` is `none`"),
        ({"model": "ViT-B-32", "pretrained": "random"}, "random weights"),
        ({"model": "ViT-B-32", "pretrained": "openai"}, None),
    ],
)
def test_groups_without_meaning_are_called_that(
    manifest: Manifest, embedding: dict[str, str], why: str | None
) -> None:
    text = render_card(
        [dataclasses.replace(manifest, configuration={**manifest.configuration, "embedding": embedding})]
    )
    assert ("Groups are not semantic" in text) == (why is not None)
    assert why is None or why in text


def test_weights_versions_and_similarity_are_shown_where_there_are_any(manifest: Manifest) -> None:
    with_model = dataclasses.replace(
        manifest,
        weights_sha256={"embedding": "e" * 64},
        float_stages={
            "embed": {"device": "cuda", "packages": {"torch": "2.13.0"}},
            "groups": {"mean_pair_cosine": 0.6891, "random_pair_cosine": 0.0123},
        },
    )
    text = render_card([with_model])
    assert f"| weights of embedding, sha256 | `{'e' * 64}` |" in text
    assert "| ran with embed.packages.torch | `2.13.0` |" in text
    assert "Mean cosine of clip pairs within a sample: 0.6891 (clips put together at random: 0.0123)." in text


def test_a_preview_is_marked(manifest: Manifest) -> None:
    source = {**manifest.configuration["source"], "limit": 2000}
    limited = dataclasses.replace(manifest, configuration={**manifest.configuration, "source": source})
    assert "**A preview**: only the first 2,000 clips" in render_card([limited])
    assert "A preview" not in render_card([manifest])


def test_shorter_samples_of_leftovers_are_mentioned(manifest: Manifest) -> None:
    recipe = {**manifest.configuration["recipe"], "remainder": "keep"}
    assert "shorter samples" in render_card([dataclasses.replace(manifest, configuration={"recipe": recipe})])
    assert "shorter samples" not in render_card([manifest])


def test_settings_with_table_characters_stay_in_their_cell(manifest: Manifest) -> None:
    recipe = {**manifest.configuration["recipe"], "prompt": "what | is\n`this` here?"}
    text = render_card([dataclasses.replace(manifest, configuration={"recipe": recipe})])
    assert r"| recipe.prompt | `what \| is 'this' here?` |" in text


def test_the_card_knows_no_place_and_no_time(store: Store) -> None:
    text = render_card([read_manifest(store, "l4")])
    assert store.uri not in text
    assert not re.search(r"20\d\d-\d\d-\d\d", text)


def test_the_stored_card_follows_the_recipes(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    write_woven_dataset(tmp_path, rows=2, clips_per_sample=1, frames_per_sample=2, recipe="l1")
    first = publish_card(store)
    assert store.get("card.md").decode() == first == publish_card(store)
    write_woven_dataset(tmp_path, rows=2, clips_per_sample=2, frames_per_sample=2, recipe="l2")
    assert "## l2" in publish_card(store)
    assert "## l2" in store.get("card.md").decode()


def test_two_builds_that_finish_together_leave_one_whole_card(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    write_woven_dataset(tmp_path, rows=2, clips_per_sample=1, frames_per_sample=2, recipe="l1")

    class Raced:
        """The other recipe is published, with its card, just before our swap."""

        lost = 0

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
            if not self.lost:
                self.lost += 1
                write_woven_dataset(tmp_path, rows=2, clips_per_sample=2, frames_per_sample=2, recipe="l2")
                publish_card(store)
                raise ConflictError("holds something else")
            store.replace(key, data, expected=expected)

    text = publish_card(Raced())  # type: ignore[arg-type]
    assert store.get("card.md").decode() == text
    assert "## l1" in text
    assert "## l2" in text


def test_filters_and_matched_subsets_are_told(manifest: Manifest) -> None:
    recipe = {**manifest.configuration["recipe"], "match": {"by": "videos", "count": 12000}}
    values = {**manifest.configuration, "recipe": recipe, "filters": {"motion": {"min": 0.01}}}
    text = render_card([dataclasses.replace(manifest, configuration=values)])
    assert "Each epoch weaves the same 12,000 train clips (`match`)." in text
    values["recipe"] = {**recipe, "match": {"by": "samples", "count": 300}}
    samples = render_card([dataclasses.replace(manifest, configuration=values)])
    assert "Each epoch's train plan ends at 300 samples (`match`)." in samples
    assert "Clips were filtered: `motion.min: 0.01`." in text
    assert "were filtered:" not in render_card([manifest])


def test_the_card_says_how_to_build_it_again(store: Store) -> None:
    text = render_card([read_manifest(store, name) for name in ("l1", "l4")])
    values = read_yaml(text.split("```yaml\n")[1].split("```")[0], origin="card.md")
    assert [recipe["name"] for recipe in values["recipes"]][-1] == "l4"
    assert values["recipes"][-1] == read_manifest(store, "l4").configuration["recipe"]
    assert values["output"] == "OUTPUT"
    assert "weave-data build weave.yaml" in text


def test_licences_are_counted_as_given(manifest: Manifest) -> None:
    text = render_card([manifest], Licences({"": 3, "CC BY | 4.0": 1200}, is_whole=False))
    assert "| not given | 3 |" in text
    assert r"| CC BY \| 4.0 | 1,200 |" in text
    assert "(of some parts of the catalog)" in text
    assert "Licences" not in render_card([manifest])
