"""Is a recipe there already, and with which settings?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weave_data.caption import RecipeTexts, read_texts
from weave_data.config import BuildConfig, RecipeConfig
from weave_data.embed import embedder_identity
from weave_data.errors import ConflictError
from weave_data.shard import Manifest, check_settings, first_difference, list_recipes, read_manifest
from weave_data.storage import Store
from weave_data.upkeep import retry_identity

__all__ = ["PublishedRecipe", "check_published", "published_recipes", "recipe_settings"]


@dataclass(frozen=True)
class PublishedRecipe:
    """A recipe of the configuration beside what its name shows now.

    `is_current`: published with these settings, over this catalog, every shard in its place.
    """

    recipe: RecipeConfig
    texts: RecipeTexts
    settings: dict[str, Any]
    manifest: Manifest | None
    catalog_key: str
    is_current: bool


def recipe_settings(config: BuildConfig, recipe: RecipeConfig, texts: RecipeTexts) -> dict[str, Any]:
    """Resolved semantic settings of a recipe; weight and text files are named by their content."""
    settings = config.semantic(recipe) | {"recipe": texts.settings}
    if "embedding" in settings:
        settings["embedding"] = embedder_identity(config.embedding)
    return settings


def published_recipes(store: Store, config: BuildConfig, catalog_key: str) -> list[PublishedRecipe]:
    """What each recipe's name shows now."""
    known, retries = list_recipes(store), retry_identity(store)
    found = []
    for recipe in config.recipes:
        texts = read_texts(recipe)
        settings = recipe_settings(config, recipe, texts)
        manifest = read_manifest(store, recipe.name) if recipe.name in known else None
        is_current = manifest is not None and _is_current(store, manifest, settings, catalog_key, retries)
        found.append(PublishedRecipe(recipe, texts, settings, manifest, catalog_key, is_current))
    return found


def check_published(store: Store, published: list[PublishedRecipe], *, replace: bool) -> None:
    """Refuse to take a name from other settings or another catalog, before any work.

    Raises:
        ConflictError: Names the first setting that differs.
    """
    retries = retry_identity(store)
    for entry in published:
        if replace or entry.manifest is None:
            continue
        check_settings(store, recipe=entry.recipe.name, configuration=entry.settings)
        theirs = entry.manifest.inputs["catalog"]
        if theirs != entry.catalog_key:
            raise ConflictError(
                f"recipe {entry.recipe.name}: published over catalog {theirs}, the source now gives "
                f"{entry.catalog_key} (its CSV changed); use --replace or another recipe name"
            )
        if entry.manifest.inputs.get("retries") != retries:
            raise ConflictError(
                f"recipe {entry.recipe.name}: published before weave-data retry asked for another attempt; "
                "use --replace"
            )


def _is_current(
    store: Store, manifest: Manifest, settings: dict[str, Any], catalog_key: str, retries: str | None
) -> bool:
    if first_difference(manifest.configuration, settings):
        return False
    if (manifest.inputs["catalog"], manifest.inputs.get("retries")) != (catalog_key, retries):
        return False
    # after a take-down, shards without the clips stay below the fingerprint they were written for
    sizes = {info.key: info.size_bytes for info in store.list(f"{manifest.recipe}/")}
    return all(sizes.get(shard.path) == shard.bytes for shard in manifest.shards)
