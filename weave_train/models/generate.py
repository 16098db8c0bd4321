"""Answers, one token after another, from the sequence the model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from weave_data.errors import ConfigError
from weave_train.rows.pixels import Frames, to_pixels
from weave_train.rows.prompt import Encoded, PromptBuilder, encode_prompt, splice_visual
from weave_train.towers import num_visual_tokens

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel

__all__ = ["generate_text"]


@torch.no_grad()
def generate_text(
    vlm: VideoLanguageModel,
    frames: Frames,
    prompt: str | PromptBuilder,
    *,
    max_new_tokens: int,
    temperature: float | None = None,
    seed: int | None = None,
) -> str:
    """Answer a prompt about frames.

    Frames, prompt and splice go through the code that made the training rows.

    Args:
        vlm: In any mode; put in eval mode while this runs.
        frames: T of them, any T; none for a text-only question.
        prompt: A builder, or what its `get_prompt` gave.
        max_new_tokens: At least 1; fewer when the answer ends.
        temperature: None takes the likeliest token; otherwise tokens are drawn at this temperature.
        seed: Of the draws; None draws from the process's random stream.

    Returns:
        The answer without control tokens, stripped.

    Raises:
        ConfigError: Prompt and answer don't fit in `llm_max_length`, or a bad temperature.
    """
    if temperature is not None and temperature <= 0:
        raise ConfigError(
            f"temperature {temperature}: must be above 0; use do_sample=False for the likeliest token"
        )
    pixels = to_pixels(frames, vlm.settings)
    input_ids = _prompt_ids(vlm, len(pixels), prompt, max_new_tokens)
    was_training = vlm.core.training
    vlm.core.eval()
    try:
        new_ids = _decode(vlm, pixels, input_ids, max_new_tokens, _Chooser(vlm, temperature, seed))
    finally:
        vlm.core.train(was_training)
    text = vlm.tokenizer.decode(new_ids, skip_special_tokens=True)
    return str(text).strip()


def _prompt_ids(
    vlm: VideoLanguageModel, num_frames: int, prompt: str | PromptBuilder, max_new_tokens: int
) -> torch.Tensor:
    text_ids = encode_prompt(vlm.tokenizer, prompt)
    num_visual = num_visual_tokens(num_frames, vlm.settings)
    limit = vlm.settings.llm_max_length
    if max_new_tokens < 1 or len(text_ids) + num_visual >= limit:
        raise ConfigError(
            f"{num_visual} visual tokens of {num_frames} frames and {len(text_ids)} of text leave no room in "
            f"llm_max_length {limit} for an answer of {max_new_tokens}; give fewer frames or a shorter prompt"
        )
    has_bos = vlm.tokenizer.bos_token_id is not None
    return splice_visual(Encoded(text_ids, text_ids), num_visual, has_bos=has_bos).input_ids


class _Chooser:
    """Picks the next token from logits."""

    def __init__(self, vlm: VideoLanguageModel, temperature: float | None, seed: int | None) -> None:
        self.temperature = temperature
        self.num_tokens = len(vlm.tokenizer)  # embedding rows beyond it are padding
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def choose(self, logits: torch.Tensor) -> int:
        known = logits[: self.num_tokens].float().cpu()
        if self.temperature is None:
            return int(known.argmax())
        probabilities = torch.softmax(known / self.temperature, dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))


def _decode(
    vlm: VideoLanguageModel,
    pixels: torch.Tensor,
    input_ids: torch.Tensor,
    max_new_tokens: int,
    chooser: _Chooser,
) -> list[int]:
    core, language_model = vlm.core, vlm.core.language_model
    features = vlm.encode(pixels if len(pixels) else pixels.new_zeros((1, *pixels.shape[1:])))
    embeds = core.embed(features, input_ids.unsqueeze(0).to(vlm.device))
    new_ids: list[int] = []
    cache: Any = None
    for _ in range(min(max_new_tokens, vlm.settings.llm_max_length - len(input_ids))):
        output = language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = chooser.choose(output.logits[0, -1])
        if token == vlm.tokenizer.eos_token_id:
            break
        new_ids.append(token)
        cache = output.past_key_values
        embeds = language_model.get_input_embeddings()(torch.tensor([[token]], device=vlm.device))
    return new_ids
