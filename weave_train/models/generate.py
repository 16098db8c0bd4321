"""Answers to questions about frames: one, a batch, or piece by piece as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weave_train.models.answer_text import AnswerText
from weave_train.models.asking import FrameInput, ask, begin_alone, check_pairs
from weave_train.models.decoding import AnswerOptions, Decoder, evaluating
from weave_train.rows.prompt import PromptBuilder

if TYPE_CHECKING:
    from weave_train.models.model import VideoLanguageModel

__all__ = ["answer_text", "generate_texts", "stream_text"]


def generate_texts(
    vlm: VideoLanguageModel,
    images: Sequence[FrameInput],
    prompts: Sequence[str | PromptBuilder],
    options: Sequence[AnswerOptions],
) -> list[str]:
    """Answer prompts about frames, all of them at once: each as it would be answered alone.

    Args:
        vlm: In any mode; in eval mode while this runs.
        images: Frames of each row; T differs freely, None for text alone.
        prompts: A builder, or what its `get_prompt` gave, for each.
        options: For each.

    Returns:
        Answers without control tokens, stripped.

    Raises:
        ConfigError: See `asking.ask`.
        VerificationError: A frame can't be decoded.
    """
    check_pairs(images, prompts)
    if len(options) > 1 and begin_alone(vlm):
        rows = zip(images, prompts, options, strict=True)
        return [text for i, p, row in rows for text in generate_texts(vlm, [i], [p], [row])]
    texts = [answer_text(vlm, row) for row in options]
    with evaluating(vlm):
        decoder = Decoder(vlm, ask(vlm, images, prompts), options)
        while not decoder.is_done:
            for row, token in enumerate(decoder.step()):
                if token is None:
                    continue
                if not texts[row].may_stop:
                    texts[row].extend([token])
                    continue
                texts[row].add(token)
                if texts[row].is_stopped:
                    decoder.end(row)
    return [text.whole() for text in texts]


def stream_text(
    vlm: VideoLanguageModel, image: FrameInput, prompt: str | PromptBuilder, options: AnswerOptions
) -> Iterator[str]:
    """Pieces of the answer as they come; put together they are what `generate_texts` gives.

    Characters come whole. The model is in eval mode until the iterator is exhausted or closed.

    Raises:
        WeaveError: As `generate_texts`, when the first piece is asked for.
    """
    text = answer_text(vlm, options)
    with evaluating(vlm):
        decoder = Decoder(vlm, ask(vlm, [image], [prompt]), [options])
        while not decoder.is_done:
            (token,) = decoder.step()
            if token is None:
                continue
            if piece := text.add(token):
                yield piece
            if text.is_stopped:
                decoder.end(0)
    if rest := text.finish():
        yield rest


def answer_text(vlm: VideoLanguageModel, options: AnswerOptions) -> AnswerText:
    """Text of an answer that is about to be made."""
    prompts = vlm.prompts
    ends = options.stop_strings if prompts.stop_text is None else (*options.stop_strings, prompts.stop_text)
    return AnswerText(vlm.tokenizer, ends, opening=prompts.answer_opening)
