"""The video-language model: a tower beside a trained core, or in it.

    pixels --tower (frozen, every rank has it)--> features --core--> loss
                                                   core = projector -> splice -> language model

Only `core` is what an engine wraps and partitions. A frozen tower is not a submodule of it: ZeRO-3 would
cut frozen weights in pieces, too. A tower that is trained is: `core.vision`, and the core takes pixels.

Shapes: B rows, S tokens, F frames, P patches per frame, D tower width, E text width, N supervised tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from torch import nn

from weave_data.errors import ConfigError
from weave_train.config import ModelSettings
from weave_train.models.asking import FrameInput
from weave_train.models.decoding import AnswerOptions
from weave_train.models.generate import generate_texts, stream_text
from weave_train.models.head import logits_of
from weave_train.models.language import (
    LanguageOptions,
    build_language_model,
    embedding_scale,
    embedding_shape,
)
from weave_train.models.likelihood import string_probabilities
from weave_train.models.lora import RowDraws
from weave_train.models.projector import build_projector
from weave_train.models.vision import VisionTower, build_tower, tower_sha256
from weave_train.rows.batch import Batch
from weave_train.rows.prompt import IGNORE_INDEX, VISUAL_TOKEN_ID, PromptBuilder, PromptFormat, prompt_format
from weave_train.towers import num_visual_tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = [
    "VideoLanguageCore",
    "VideoLanguageModel",
    "assemble_model",
    "build_model",
    "compute_dtype",
    "num_visual_tokens",
    "tower_sha256",
]


def compute_dtype(settings: ModelSettings) -> torch.dtype:
    """Dtype that towers and cores compute in."""
    return torch.bfloat16 if settings.precision == "bf16" else torch.float32


class VideoLanguageCore(nn.Module):
    """Projector, language model and, where it is trained, the tower.

    Parameters are only touched inside submodules' forwards. `draws`: for rows, where adapters drop out.
    """

    def __init__(self, projector: nn.Module, language_model: nn.Module) -> None:
        super().__init__()
        self.projector = projector
        self.language_model: Any = language_model
        self.vision: VisionTower | None = None
        self.draws: RowDraws | None = None

    def recompute_activations(self) -> None:
        """Keep only the layers' inputs in a forward pass; the rest is computed again in backward.

        Gradients stay the same; memory falls to one layer's activations, for one more forward pass.
        """
        self.language_model.activation_checkpointing_enable(
            activation_checkpointing_kwargs={"use_reentrant": False}
        )
        # gradients pass without it, and with it they pass down to embeddings that nobody trains
        self.language_model.disable_input_require_grads()
        if self.vision is not None:
            self.vision.recompute_activations()

    def embed(self, features_FPD: torch.Tensor, input_ids_BS: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Embed text and put projected features where the placeholders are, in order.

        Args:
            features_FPD: [F, P, D]; a frame that no placeholder takes only joins the graph.
            input_ids_BS: int64[B, S] with `VISUAL_TOKEN_ID` at visual positions.

        Returns:
            [B, S, E].
        """
        is_visual = input_ids_BS == VISUAL_TOKEN_ID
        text = self.language_model.get_input_embeddings()(input_ids_BS.masked_fill(is_visual, 0))
        visual = self.projector(features_FPD.to(text.dtype)) * embedding_scale(self.language_model)
        embedded: torch.Tensor = text.masked_scatter(is_visual.unsqueeze(-1), visual)
        return embedded

    def forward(self, features_FPD: torch.Tensor | None, batch: Batch) -> torch.Tensor:  # noqa: N803
        """Sum of the cross-entropies of the supervised tokens.

        Logits exist only at supervised positions, and are fp32 there. Where nothing is supervised,
        one ignored position keeps the head in the graph: the loss is 0 and so is every gradient.

        Args:
            features_FPD: Of `batch.pixels`, from a frozen tower; None has the core's own tower encode them.
            batch: On the same device.

        Returns:
            fp32 scalar; the sum, not the mean, over `batch.num_supervised` tokens.
        """
        if features_FPD is None:
            assert self.vision is not None
            features_FPD = self.vision(batch.pixels)  # noqa: N806  shape suffix
        if self.draws is not None:
            self.draws.begin(batch)
        hidden_BSE = self.language_model.base_model(  # noqa: N806  shape suffix
            inputs_embeds=self.embed(features_FPD, batch.input_ids),
            attention_mask=batch.attention_mask,
            use_cache=False,
        ).last_hidden_state
        targets_BS = batch.labels[:, 1:]  # noqa: N806  position i predicts token i + 1
        is_target = targets_BS != IGNORE_INDEX
        if batch.num_supervised == 0:
            is_target[0, 0] = True
        hidden_NE = hidden_BSE[:, :-1][is_target]  # noqa: N806
        logits = logits_of(self.language_model, hidden_NE)
        return F.cross_entropy(logits, targets_BS[is_target], ignore_index=IGNORE_INDEX, reduction="sum")


class VideoLanguageModel:
    """A tower, a core, and what is needed to speak with them.

    Attributes:
        tower: Frozen, in the compute dtype, replicated on every rank, no submodule of `core`; or trained,
            and then `core.vision` is the same object.
        core: What an engine wraps; fp32 as built, in the compute dtype as loaded.
        settings: The run's section `model`.
        tokenizer: The run's.
    """

    def __init__(
        self,
        *,
        tower: VisionTower,
        core: VideoLanguageCore,
        settings: ModelSettings,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.tower = tower
        self.core = core
        self.settings = settings
        self.tokenizer = tokenizer

    @property
    def device(self) -> torch.device:
        """Where the tower is."""
        return next(self.tower.parameters()).device

    @torch.no_grad()
    def encode(self, pixels_FCHW: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Features of frames: uint8[F, C, px, px] -> [F, P, D] in the compute dtype, without graph."""
        return self.tower(pixels_FCHW.to(self.device))

    def join_vision(self) -> None:
        """Make the tower part of the core, to be trained or filled with trained weights."""
        self.core.vision = self.tower

    def frozen_features(self, batch: Batch) -> torch.Tensor | None:
        """Features of a batch's frames for `core`, or None where the core encodes them by itself."""
        return self.encode(batch.pixels) if self.core.vision is None else None

    @property
    def prompts(self) -> PromptFormat:
        """How the model is spoken with."""
        return prompt_format(self.settings, self.tokenizer)

    def get_prompt_builder(self, system_prompt: str | None = None) -> PromptBuilder:
        """Start a conversation in the format the run was trained with."""
        return self.prompts.builder(system_prompt)

    def generate(self, image: FrameInput, prompt_text: str | PromptBuilder, **options: Any) -> str:
        """Answer a prompt about an image, frames, or neither.

        Args:
            image: A PIL image, bytes of an image file, uint8[H, W, 3], a list of these, uint8[T, H, W, 3],
                or None.
            prompt_text: A builder, or what its `get_prompt` gave; other text is taken literally.
            **options: Fields of `decoding.AnswerOptions`: `max_new_tokens`, `do_sample`, `temperature`, ...

        Raises:
            WeaveError: See `generate.generate_texts`.
        """
        return generate_texts(self, [image], [prompt_text], [AnswerOptions.of(options)])[0]

    def stream(self, image: FrameInput, prompt_text: str | PromptBuilder, **options: Any) -> Iterator[str]:
        """Pieces of what `generate` gives, as they come."""
        return stream_text(self, image, prompt_text, AnswerOptions.of(options))

    def generate_batch(
        self,
        images: Sequence[FrameInput],
        prompts: Sequence[str | PromptBuilder],
        return_string_probabilities: Sequence[str] | None = None,
        **options: Any,
    ) -> list[str] | list[list[float]]:
        """Answer prompts in one batch, each as `generate` would.

        Args:
            images: Of each row, as `generate` takes them; T differs freely.
            prompts: One for each.
            return_string_probabilities: Instead of texts, the probability of each of these strings as
                the beginning of each answer, normalised over them; see `likelihood`.
            **options: As `generate`; a `seed` is every row's own.
        """
        chosen = AnswerOptions.of(options)
        if return_string_probabilities is not None:
            return string_probabilities(self, images, prompts, return_string_probabilities)
        return generate_texts(self, images, prompts, [chosen] * len(prompts))


def build_model(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    *,
    device: torch.device | str = "cpu",
    trains_vision: bool = False,
    language_options: LanguageOptions | None = None,
) -> VideoLanguageModel:
    """Build a model for a new run: seeded where random, with the process's random streams untouched.

    Args:
        settings: Section `model` of the configuration.
        tokenizer: From `tokenizer.resolve_tokenizer`.
        device: Where tower and core go.
        trains_vision: The tower stays in fp32, for an engine to keep its masters.
        language_options: How the language model is had and computed.

    Returns:
        The tower in the compute dtype unless it is trained, the core in fp32.

    Raises:
        ConfigError: Unknown ids, or settings that don't fit each other.
        DeviceError: Weights that are asked for are not there.
    """
    vlm = assemble_model(settings, tokenizer, trains_vision=trains_vision, language_options=language_options)
    vlm.tower.to(device)
    vlm.core.to(device)
    return vlm


def assemble_model(
    settings: ModelSettings,
    tokenizer: PreTrainedTokenizerBase,
    *,
    language_config: PretrainedConfig | None = None,
    trains_vision: bool = False,
    language_options: LanguageOptions | None = None,
) -> VideoLanguageModel:
    """`build_model` on the CPU.

    Args:
        settings: As there.
        tokenizer: As there.
        language_config: Of a stored run: all weights are left random, for the caller to fill, and
            neither a hub nor the directory of the base model is read.
        trains_vision: As there.
        language_options: As there.
    """
    tower = build_tower(settings, with_weights=language_config is None)
    language_model = build_language_model(
        settings, tokenizer, config=language_config, options=language_options or LanguageOptions()
    )
    core = VideoLanguageCore(
        build_projector(
            settings.projector_id,
            vision_dim=tower.spec.dim,
            text_dim=embedding_shape(language_model)[1],
        ),
        language_model,
    )
    if tokenizer.pad_token_id is None:
        raise ConfigError("the tokenizer has no padding token; load it with tokenizer.load_tokenizer")
    if not trains_vision:
        tower.to(compute_dtype(settings))
    return VideoLanguageModel(tower=tower, core=core, settings=settings, tokenizer=tokenizer)
