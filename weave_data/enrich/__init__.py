"""Captions and questions written by a language model.

    asks        a prompt per distinct caption and kind
    answers     which answers count, and the batches they are kept in
    endpoint    a server that speaks the OpenAI chat-completions protocol
    local_model a transformers model on actors

In = out + rejected, per clip and kind. Nothing is asked twice: a rerun reads the committed batches.
"""

from weave_data.enrich.answers import (
    ANSWER_SCHEMA,
    Answer,
    AnswerReason,
    check_answer,
    commit_answers,
    read_answers,
)
from weave_data.enrich.asks import Prompt, ask_ids, distinct_asks, read_prompts
from weave_data.enrich.endpoint import Endpoint
from weave_data.enrich.local_model import LocalModel, answer_locally, model_sha256

__all__ = [
    "ANSWER_SCHEMA",
    "Answer",
    "AnswerReason",
    "Endpoint",
    "LocalModel",
    "Prompt",
    "answer_locally",
    "ask_ids",
    "check_answer",
    "commit_answers",
    "distinct_asks",
    "model_sha256",
    "read_answers",
    "read_prompts",
]
