"""From hidden states to logits, as the causal LM's own class makes them.

The loss wants logits at supervised positions only, so it calls the head by itself; what a class does to
logits after its head has to be done here, too. `check_head` compares the two once, when a model is built.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from weave_data.errors import ConfigError

__all__ = ["check_head", "logits_of"]


def logits_of(language_model: Any, hidden_NE: torch.Tensor) -> torch.Tensor:  # noqa: N803  shape suffix
    """fp32[N, vocabulary] of the last hidden states [N, E].

    `logit_scale` multiplies (Cohere), `logits_scaling` divides (Granite), `final_logit_softcapping` bends
    (Gemma 2); in fp32, whatever the head computes in.
    """
    logits: torch.Tensor = language_model.get_output_embeddings()(hidden_NE).float()
    config = language_model.config
    scale = getattr(config, "logit_scale", None)
    if scale is not None:
        logits = logits * scale
    divisor = getattr(config, "logits_scaling", None)
    if divisor is not None:
        logits = logits / divisor
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@torch.no_grad()
def check_head(language_model: Any, *, name: str) -> None:
    """Compare `logits_of` with the class's own logits, on made-up hidden states; no layer runs.

    Args:
        language_model: As built, on the CPU.
        name: For the message.

    Raises:
        ConfigError: They differ: a loss would not be this model's.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    base: nn.Module = language_model.base_model
    head = language_model.get_output_embeddings()
    if head is None or base is language_model:
        raise ConfigError(f"model.llm_backbone_id: {name} has no head over its vocabulary: no causal LM")
    width = head.weight.shape[1]
    # large, so that a soft cap shows
    hidden_1NE = torch.linspace(-50.0, 50.0, 3 * width).view(1, 3, width)  # noqa: N806
    hidden_1NE = hidden_1NE.to(head.weight.dtype)  # noqa: N806
    output = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden_1NE)
    base.forward = lambda *_args, **_options: output  # an attribute of this object, before the class's own
    try:
        theirs = language_model(inputs_embeds=hidden_1NE).logits[0].float()
    finally:
        del base.forward
    ours = logits_of(language_model, hidden_1NE[0])
    if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
        raise ConfigError(
            f"model.llm_backbone_id: {type(language_model).__name__} of {name} changes its logits in a way "
            "that the loss does not know; choose another language model"
        )
