"""`<image>` in an exported vocabulary: an id of its own, and an embedding row for it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from weave_train.languages import round_up
from weave_train.models.language import embedding_shape
from weave_train.models.model import VideoLanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IMAGE_TOKEN", "Vocabulary", "export_vocabulary", "padded_rows"]

IMAGE_TOKEN = "<image>"  # noqa: S105  a word, no secret


@dataclass(frozen=True)
class Vocabulary:
    """What ids mean in an export.

    Attributes:
        tokenizer: The run's, with `<image>`.
        image_id: Of `<image>`; its embedding is never used, features stand in its place.
        num_tokens: Of the run's own tokenizer; ids from here on are never an answer's.
        num_rows: Of the embedding: the run's, or 64 more where `<image>` found no padding row.
        stop_ids: Tokens that end an answer.
    """

    tokenizer: PreTrainedTokenizerBase
    image_id: int
    num_tokens: int
    num_rows: int
    stop_ids: tuple[int, ...]

    @property
    def never_answered(self) -> list[int]:
        """Ids that no answer may hold: padding rows, which mean nothing, and `<image>`."""
        return sorted({*range(self.num_tokens, self.num_rows), self.image_id})


def export_vocabulary(vlm: VideoLanguageModel) -> Vocabulary:
    """Give `<image>` an id; the run's tokenizer stays as it is."""
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(vlm.tokenizer)
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)])
    found: Any = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    image_id = int(found)
    rows = embedding_shape(vlm.core.language_model)[0]
    if image_id >= rows:
        rows = round_up(image_id + 1)
    return Vocabulary(tokenizer, image_id, len(vlm.tokenizer), rows, vlm.prompts.stop_token_ids)


def padded_rows(weight: torch.Tensor, num_rows: int) -> torch.Tensor:
    """`weight` [n, E] or a head's bias [n] with zeros up to `num_rows`; itself where it has as many."""
    missing = num_rows - len(weight)
    return weight if missing == 0 else torch.cat([weight, weight.new_zeros(missing, *weight.shape[1:])])
