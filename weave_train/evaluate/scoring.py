"""Scores of open answers, once all of them are there: some metrics look at the whole corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from weave_data.errors import DeviceError
from weave_train.evaluate.answer import Answer
from weave_train.evaluate.exact import exact_match, plain_words
from weave_train.evaluate.tasks.catalog import Metric
from weave_train.evaluate.wups import Wups, open_wordnet

__all__ = ["check_metrics", "score_open"]


def check_metrics(metrics: Sequence[Metric], *, wordnet: Path | None = None) -> None:
    """Make sure, before any question is asked, that what scores need is there.

    Raises:
        DeviceError: A package or WordNet is missing.
    """
    if "captions" in metrics:
        _caption_scorers()
    if "wups" in metrics:
        with open_wordnet(wordnet):
            pass


def score_open(
    answers: Sequence[Answer], metrics: Sequence[Metric], *, wordnet: Path | None = None
) -> list[Answer]:
    """Add the scores of open answers; others stay as they are.

    `exact`; `wups_0.9` and `wups_0.0`; `cider`, `bleu_4` and `rouge_l`, each sentence's own: their mean is
    not the corpus BLEU-4 of captioning tables.

    Args:
        answers: Of one mode: CIDEr weighs words by how many of these references have them.
        metrics: Of the task.
        wordnet: See `open_wordnet`.

    Raises:
        DeviceError: As `check_metrics`.
    """
    is_open = [answer.references is not None and answer.generated is not None for answer in answers]
    asked = [answer for answer, taken in zip(answers, is_open, strict=True) if taken]
    added: list[dict[str, float]] = [{} for _ in asked]
    with ExitStack() as stack:
        wups = Wups(stack.enter_context(open_wordnet(wordnet))) if "wups" in metrics and asked else None
        for answer, scores in zip(asked, added, strict=True):
            written, references = answer.generated or "", answer.references or ()
            if "exact" in metrics:
                scores["exact"] = exact_match(written, references)
            if wups is not None:
                for threshold in (0.9, 0.0):
                    scores[f"wups_{threshold}"] = wups.score(written, references, threshold=threshold)
    if "captions" in metrics and asked:
        for name, values in _caption_scores(asked).items():
            for scores, value in zip(added, values, strict=True):
                scores[name] = float(value)
    scored = iter([replace(answer, scores=scores) for answer, scores in zip(asked, added, strict=True)])
    return [next(scored) if taken else answer for answer, taken in zip(answers, is_open, strict=True)]


def _caption_scorers() -> Mapping[str, Any]:
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise DeviceError(
            "caption metrics need pycocoevalcap, which is not installed: pip install 'videoweave[evaluate]'"
        ) from error
    return {"cider": Cider(), "bleu_4": Bleu(4), "rouge_l": Rouge()}


def _caption_scores(asked: Sequence[Answer]) -> dict[str, Sequence[float]]:
    """Per sentence, from the coco-caption code, over `plain_words`, not its Java tokenizer's: no articles."""
    references = {
        number: [" ".join(plain_words(text)) for text in answer.references or ()]
        for number, answer in enumerate(asked)
    }
    candidates = {
        number: [" ".join(plain_words(answer.generated or ""))] for number, answer in enumerate(asked)
    }
    found: dict[str, Sequence[float]] = {}
    for name, scorer in _caption_scorers().items():
        if name == "bleu_4":
            _, by_order = scorer.compute_score(references, candidates, verbose=0)
            found[name] = by_order[3]
        else:
            _, found[name] = scorer.compute_score(references, candidates)
    return found
