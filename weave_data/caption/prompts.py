"""Which question each sample opens with.

    prompt_pool       settings -> k distinct prompts, the recipe's own one first
    choose_prompts    one of them per sample, uniformly

Both draws hash (seed, text or key): the order of a list or of samples decides nothing, and one more
sample changes no other's prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
import pyarrow as pa

from weave_data.caption.text_file import read_text
from weave_data.config.captions import PromptsConfig
from weave_data.errors import SourceError
from weave_data.keyed_hash import keyed_hashes

__all__ = ["choose_prompts", "normalise_quotes", "prompt_pool", "shipped_prompts"]

_QUOTES = str.maketrans("’“”", "'''")  # noqa: RUF001 (the quotes that are meant)


def choose_prompts(
    prompts: Sequence[str], keys: pa.StringArray | pa.ChunkedArray, *, seed: int
) -> pa.StringArray:
    """Draw a prompt for every sample, each with probability 1 / len(prompts).

    Args:
        prompts: At least one.
        keys: string[g], what tells samples apart (a prefix for the epoch draws anew in each).
        seed: Another seed is another draw.

    Returns:
        string[g].

    Source:
        VideoWeave, `random.choice` per sample. Differs: seeded, and a function of the sample alone.
    """
    if len(prompts) == 1:
        return pa.array(prompts).take(pa.array(np.zeros(len(keys), dtype=np.int64)))
    # 2**64 is so much larger than any list that the remainder's bias is below 1e-15
    places = keyed_hashes(keys, key=f"prompt:{seed}") % np.uint64(len(prompts))
    return pa.array(list(prompts), pa.string()).take(pa.array(places))


def prompt_pool(config: PromptsConfig, default: str) -> tuple[str, ...]:
    """The prompts a recipe chooses from.

    Args:
        config: A list, a file of one prompt a line, or neither: the list that is shipped.
        default: The recipe's own prompt; always in the pool.

    Returns:
        `config.k` distinct prompts, the default first and the others in text order; all there are
        where k is null. Curly quotes are straight single ones.

    Raises:
        SourceError: The file can't be read, or there are fewer than k prompts.

    Source:
        VideoWeave, `random.sample(list, k - 1)` and the default; it replaces the same quotes.
    """
    first = normalise_quotes(default)
    lines = config.choices if config.choices is not None else _lines(config)
    found = sorted({text for line in lines if (text := normalise_quotes(line).strip())} - {first.strip()})
    wanted = len(found) if config.k is None else config.k - 1
    if wanted > len(found):
        raise SourceError(
            f"prompts.k: {config.k} asked for, there are {len(found)} besides the recipe's own prompt in "
            f"{config.file or 'the list'}; lower k to {len(found) + 1} or add prompts"
        )
    ranks = np.argsort(keyed_hashes(pa.array(found, pa.string()), key=f"prompt pool:{config.seed}"))
    return (first, *sorted(found[index] for index in ranks[:wanted]))


def normalise_quotes(text: str) -> str:
    """Replace curly quotes, single and double, by straight single ones."""
    return text.translate(_QUOTES)


def shipped_prompts() -> tuple[str, ...]:
    """The list that comes with this package."""
    text = resources.files("weave_data.caption").joinpath("prompts.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def _lines(config: PromptsConfig) -> Sequence[str]:
    return shipped_prompts() if config.file is None else read_text(config.file).splitlines()
