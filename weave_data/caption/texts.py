"""Everything a recipe's text settings name, read once and known by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weave_data.caption.caption_file import CaptionFile, QuestionFile, read_caption_file, read_question_file
from weave_data.caption.prompts import prompt_pool
from weave_data.config import RecipeConfig

__all__ = ["RecipeTexts", "read_texts"]


@dataclass(frozen=True)
class RecipeTexts:
    """Texts of one recipe.

    Attributes:
        prompts: What the human turn is chosen from; the recipe's own prompt where it names no others.
        captions: Replacements for the source's captions.
        questions: Samples that ask something.
        settings: The recipe's settings, where every file is replaced by its sha256 and every list of
            prompts by the prompts it came to: equal settings give equal samples.
    """

    prompts: tuple[str, ...]
    captions: CaptionFile | None
    questions: QuestionFile | None
    settings: dict[str, Any]


def read_texts(recipe: RecipeConfig) -> RecipeTexts:
    """Read the files that a recipe's `prompts`, `captions` and `questions` name.

    Raises:
        SourceError: One of them can't be used; the message names it.
    """
    settings = recipe.model_dump(mode="json")
    prompts: tuple[str, ...] = (recipe.prompt,)
    if recipe.prompts is not None:
        prompts = prompt_pool(recipe.prompts, recipe.prompt)
        settings["prompts"] = {"choices": list(prompts), "seed": recipe.prompts.seed}
    captions = None
    if (wanted := recipe.captions) is not None:
        captions = read_caption_file(wanted.file, id_column=wanted.id_column, caption_column=wanted.column)
        settings["captions"] = _with_content(settings["captions"], captions.sha256)
    questions = None
    if recipe.questions is not None:
        questions = read_question_file(recipe.questions.file, recipe.questions)
        settings["questions"] = _with_content(settings["questions"], questions.sha256)
    return RecipeTexts(prompts, captions, questions, settings)


def _with_content(settings: dict[str, Any], sha256: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "file"} | {"sha256": sha256}
