"""Our model against its export as transformers loads it: same features, logits and greedy tokens.

A few rows, in fp32: two frames, one frame, none. Of each, in order: features of the tower, projected
features, logits of every position, then up to 32 greedy tokens. Tokens are compared by asking our model
for every next token along their answer: if all agree, both answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from weave_data.errors import VerificationError
from weave_train.exports.vocabulary import Vocabulary
from weave_train.models.language import embedding_scale
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.pixels import to_pixels
from weave_train.rows.prompt import VISUAL_TOKEN_ID
from weave_train.towers import num_visual_tokens

__all__ = ["GREEDY_TOKENS", "TOLERANCE", "ComparedRow", "Loaded", "compare_models"]

TOLERANCE = 1e-4
"""Largest difference, relative to the largest value."""

GREEDY_TOKENS = 32

_ROWS = (
    (2, "Describe what is happening in the video."),
    (1, "What is in the picture?"),
    (0, "What is a video?"),
)


@dataclass(frozen=True)
class Loaded:
    """An export as a stranger's program has it.

    Attributes:
        model: In fp32, in eval mode.
        features: Normalised pixels float[F, C, px, px] -> [F, P, D] of the tower.
        projected: The same -> [F * P, E], as they take the place of image tokens.
    """

    model: Any
    features: Callable[[torch.Tensor], torch.Tensor]
    projected: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ComparedRow:
    """What one row showed: relative differences (None without frames) and the greedy tokens."""

    num_frames: int
    num_tokens: int
    features: float | None
    projected: float | None
    logits: float
    greedy_tokens: int


@torch.no_grad()
def compare_models(
    vlm: VideoLanguageModel,
    loaded: Loaded,
    vocabulary: Vocabulary,
    *,
    normalise: Callable[[torch.Tensor], torch.Tensor],
) -> list[ComparedRow]:
    """Compare row by row.

    Args:
        vlm: Ours, in fp32.
        loaded: Theirs.
        vocabulary: Of the export.
        normalise: uint8 pixels of ours -> what `loaded` takes.

    Raises:
        VerificationError: Something differs; says what, where and by how much.
    """
    rows = []
    for index, (num_frames, question) in enumerate(_ROWS):
        pixels = to_pixels(_noise(num_frames, seed=index), vlm.settings)
        ids = _prompt_ids(vlm, num_frames, question)
        if len(ids) + GREEDY_TOKENS <= vlm.settings.llm_max_length:
            rows.append(_compare_row(vlm, loaded, vocabulary, pixels, normalise(pixels), ids))
    if not rows:
        raise VerificationError(
            f"no question fits in llm_max_length {vlm.settings.llm_max_length}: nothing could be compared"
        )
    return rows


def _noise(num_frames: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Frames that no two positions or channels of look alike."""
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 60, 80, 3), dtype=np.uint8)


def _prompt_ids(vlm: VideoLanguageModel, num_frames: int, question: str) -> torch.Tensor:
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", question)
    num_visual = num_visual_tokens(num_frames, vlm.settings)
    return vlm.prompts.encode_prompt(builder, [num_visual] if num_visual else [])


def _compare_row(
    vlm: VideoLanguageModel,
    loaded: Loaded,
    vocabulary: Vocabulary,
    pixels: torch.Tensor,
    inputs: torch.Tensor,
    ids: torch.Tensor,
) -> ComparedRow:
    name = f"{len(pixels)} frames, {len(ids)} tokens"
    their_ids = ids.masked_fill(ids == VISUAL_TOKEN_ID, vocabulary.image_id).unsqueeze(0)
    arguments: dict[str, Any] = {"input_ids": their_ids, "attention_mask": torch.ones_like(their_ids)}
    features = vlm.tower(pixels if len(pixels) else pixels.new_zeros((1, *pixels.shape[1:])))
    seen: dict[str, float] = {}
    if len(pixels):
        arguments["pixel_values"] = inputs
        seen["features"] = _difference(name, "features of the tower", features, loaded.features(inputs))
        scale = embedding_scale(vlm.core.language_model)
        projected = vlm.core.projector(features).flatten(0, 1) * scale
        seen["projected"] = _difference(name, "projected features", projected, loaded.projected(inputs))
    embeds = vlm.core.embed(features, ids.unsqueeze(0))
    ours = vlm.core.language_model(inputs_embeds=embeds).logits[0]
    theirs = loaded.model(**arguments).logits[0, :, : ours.shape[-1]]
    logits = _difference(name, "logits", ours, theirs)
    answer = loaded.model.generate(**arguments, max_new_tokens=GREEDY_TOKENS, do_sample=False)
    new_ids = answer[0, len(ids) :]
    _check_greedy(vlm, name, embeds, new_ids)
    return ComparedRow(
        len(pixels), len(ids), seen.get("features"), seen.get("projected"), logits, len(new_ids)
    )


def _difference(row: str, what: str, ours: torch.Tensor, theirs: torch.Tensor) -> float:
    if ours.shape != theirs.shape:
        raise VerificationError(
            f"{row}: {what} have shape {list(theirs.shape)} in the export and {list(ours.shape)} in the run; "
            "nothing was exported"
        )
    ours, theirs = ours.float(), theirs.float()
    difference = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-12))
    if not difference <= TOLERANCE:  # NaN is no agreement
        raise VerificationError(
            f"{row}: {what} differ by {difference:.1e} of their largest value, more than {TOLERANCE:.0e}; "
            "nothing was exported"
        )
    return difference


def _check_greedy(
    vlm: VideoLanguageModel, row: str, prompt_embeds: torch.Tensor, new_ids: torch.Tensor
) -> None:
    language_model = vlm.core.language_model
    embeds = torch.cat([prompt_embeds, language_model.get_input_embeddings()(new_ids.unsqueeze(0))], dim=1)
    logits = language_model(inputs_embeds=embeds).logits[0, prompt_embeds.shape[1] - 1 : -1]
    known = logits[:, : len(vlm.tokenizer)]
    for position, (ours, theirs) in enumerate(zip(known.argmax(-1).tolist(), new_ids.tolist(), strict=True)):
        if ours == theirs:
            continue
        gap = known[position, ours] - known[position, theirs] if theirs < known.shape[-1] else float("inf")
        if float(gap) > TOLERANCE * float(known[position].abs().max()):  # else a tie within rounding
            raise VerificationError(
                f"{row}: greedy token {position} is {theirs} in the export and {ours} in the run; "
                "nothing was exported"
            )
