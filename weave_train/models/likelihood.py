"""How likely a model finds given answers: log-probabilities of their tokens after a prompt.

prompts (padded on the left) --> cache, logits of the first token
answer c of every row        --> one pass over its other tokens, after a copy of that cache
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from weave_data.errors import ConfigError
from weave_train.models.asking import FrameInput, ask, begin_alone, check_pairs, embed_asked
from weave_train.models.decoding import evaluating
from weave_train.rows.prompt import PromptBuilder

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel

__all__ = ["AnswerScore", "score_answers", "string_probabilities"]


@dataclass(frozen=True)
class AnswerScore:
    """`log_prob` is the sum over the answer's `num_tokens` tokens, in nats.

    `is_greedy`: each of them is the likeliest after those before it.
    """

    log_prob: float
    num_tokens: int
    is_greedy: bool

    @property
    def mean_log_prob(self) -> float:
        """Per token: answers of different lengths compare."""
        return self.log_prob / self.num_tokens


@torch.no_grad()
def score_answers(
    vlm: VideoLanguageModel,
    images: Sequence[FrameInput],
    prompts: Sequence[str | PromptBuilder],
    answers: Sequence[Sequence[str]],
    *,
    with_end: bool = False,
) -> list[list[AnswerScore]]:
    """Log-probability of each given answer as what the model says next.

    Prompts are read once, in one batch with one call of the tower.

    Args:
        vlm: In any mode.
        images: Frames of each row, as `generate` takes them.
        prompts: One per row.
        answers: Per row, the answers to compare; each is tokenised as in training, stripped.
        with_end: Also count the token that ends the answer: "C" and "Cat" no longer share a beginning.

    Returns:
        Per row, in the order of its answers. Probabilities are over all embedding rows, as in the loss.

    Raises:
        ConfigError: As `ask`; an empty answer, another number of lists than of rows, or an answer that
            does not fit behind its prompt.
    """
    if len(answers) != len(prompts):
        raise ConfigError(f"{len(prompts)} prompts and {len(answers)} lists of answers; give one for each")
    check_pairs(images, prompts)
    if begin_alone(vlm) and len(prompts) > 1:
        rows = zip(images, prompts, answers, strict=True)
        return [
            row
            for image, prompt, texts in rows
            for row in score_answers(vlm, [image], [prompt], [texts], with_end=with_end)
        ]
    asked = ask(vlm, images, prompts)
    ids = [
        [_answer_ids(vlm, prompt, text, with_end=with_end) for text in texts]
        for prompt, texts in zip(prompts, answers, strict=True)
    ]
    room = vlm.settings.llm_max_length
    for row, rows_ids in enumerate(ids):
        longest = max(map(len, rows_ids), default=0)
        if asked.lengths[row] + longest > room:
            raise ConfigError(
                f"row {row}: a prompt of {asked.lengths[row]} tokens and an answer of {longest} are more "
                f"than llm_max_length {room}; give fewer frames or shorter texts"
            )
    model: Any = vlm.core.language_model
    with evaluating(vlm):
        mask, positions = asked.attention_mask.to(vlm.device), asked.position_ids.to(vlm.device)
        output = model(
            inputs_embeds=embed_asked(vlm, asked),
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        first = torch.log_softmax(output.logits[:, -1].float(), dim=-1)
        likeliest = first.argmax(-1).tolist()
        scores: list[list[AnswerScore]] = [[] for _ in ids]
        for choice in range(max(map(len, ids), default=0)):
            chosen = [rows_ids[choice] if choice < len(rows_ids) else [] for rows_ids in ids]
            rest = _rest(vlm, output.past_key_values, mask, positions[:, -1:], chosen)
            for row, tokens in enumerate(chosen):
                if tokens:
                    total, is_likeliest = rest[row]
                    total += float(first[row, tokens[0]])
                    is_greedy = is_likeliest and likeliest[row] == tokens[0]
                    scores[row].append(AnswerScore(total, len(tokens), is_greedy))
    return scores


def _rest(
    vlm: VideoLanguageModel,
    cache: Any,
    mask: torch.Tensor,
    last_position: torch.Tensor,
    chosen: Sequence[Sequence[int]],
) -> list[tuple[float, bool]]:
    """Per row, the log-probabilities of the tokens after the first, summed; whether each is the likeliest."""
    longest = max(map(len, chosen))
    if longest < 2:
        return [(0.0, True)] * len(chosen)
    model: Any = vlm.core.language_model
    tokens = torch.zeros(
        (len(chosen), longest), dtype=torch.int64
    )  # what follows a row's own changes nothing
    for row, row_tokens in enumerate(chosen):
        tokens[row, : len(row_tokens)] = torch.tensor(row_tokens, dtype=torch.int64)
    tokens = tokens.to(vlm.device)
    begin_alone(vlm)  # an answer does not depend on those before it
    steps = torch.arange(1, longest, device=vlm.device)
    output = model(
        inputs_embeds=model.get_input_embeddings()(tokens[:, :-1]),
        attention_mask=torch.cat([mask, mask.new_ones((len(chosen), longest - 1))], dim=-1),
        position_ids=last_position + steps,
        past_key_values=copy.deepcopy(cache),  # windowed caches can't be cut back
        use_cache=True,
    )
    log_probs = torch.log_softmax(output.logits.float(), dim=-1)
    picked = log_probs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    is_likeliest = log_probs.argmax(-1) == tokens[:, 1:]
    counts = [max(len(row_tokens) - 1, 0) for row_tokens in chosen]
    return [
        (float(picked[row, :count].sum()), bool(is_likeliest[row, :count].all()))
        for row, count in enumerate(counts)
    ]


def _answer_ids(
    vlm: VideoLanguageModel, prompt: str | PromptBuilder, text: str, *, with_end: bool
) -> list[int]:
    if not isinstance(text, str):
        raise ConfigError(f"answers: {type(text).__name__} is no text; give a list of texts for each prompt")
    if not text.strip() and not with_end:
        raise ConfigError(f"answers: {text!r} has no token to score; give it some text")
    return vlm.prompts.encode_answer(prompt, text, with_end=with_end)


def string_probabilities(
    vlm: VideoLanguageModel,
    images: Sequence[FrameInput],
    prompts: Sequence[str | PromptBuilder],
    strings: Sequence[str],
) -> list[list[float]]:
    """Probability of each string as the beginning of the answer, normalised over the strings.

    A string of one token has that token's probability, as in VideoWeave; one of several the product of
    its tokens'. Not only True, False, Yes, No and letters: any.

    Args:
        vlm: As `score_answers`.
        images: Likewise.
        prompts: Likewise.
        strings: At least one; each differs from the others in its tokens.

    Returns:
        [B][len(strings)]; each row adds up to 1.

    Raises:
        ConfigError: As `score_answers`; no strings, or two that are the same to the tokenizer.
    """
    if isinstance(strings, str) or not strings:
        raise ConfigError(
            f"return_string_probabilities: {strings!r}: give a list of texts, e.g. ['Yes', 'No']"
        )
    check_pairs(images, prompts)
    seen: dict[tuple[int, ...], str] = {}
    for text in strings:
        ids = tuple(_answer_ids(vlm, prompts[0], text, with_end=False))
        if ids in seen:
            raise ConfigError(
                f"return_string_probabilities: {text!r} and {seen[ids]!r} are the same tokens; leave one out"
            )
        seen[ids] = text
    scores = score_answers(vlm, images, prompts, [strings] * len(prompts))
    return [_normalised([score.log_prob for score in row]) for row in scores]


def _normalised(log_probs: Sequence[float]) -> list[float]:
    highest = max(log_probs)
    weights = [math.exp(value - highest) for value in log_probs]
    return [weight / sum(weights) for weight in weights]
