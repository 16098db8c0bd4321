"""Configuration of a video-language model: towers, a projector, a causal language model."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig

__all__ = ["WeaveConfig"]


class WeaveConfig(PretrainedConfig):
    """Towers whose features are concatenated, a projector, and a language model that transformers knows.

    Attributes:
        text_config: Of the language model.
        towers: One dict a ViT; see `modeling_weave.Vit`.
        projector: `linear`, `gelu-mlp` or `fused-gelu-mlp`.
        pool: Side of the squares of patches that are averaged; 1 for none.
        tokens_per_frame: Visual tokens of one frame.
        image_token_id: Id that stands for one visual token.
        visual_scale: What visual tokens are multiplied with, as the Gemmas do with text.
        tie_word_embeddings: The language model's head is its embedding.
    """

    model_type = "weave_vlm"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}

    text_config: Any = None
    towers: list[dict[str, Any]] | None = None
    projector: str = "gelu-mlp"
    pool: int = 1
    tokens_per_frame: int = 0
    image_token_id: int = 0
    visual_scale: float = 1.0
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.text_config, dict):
            values = dict(self.text_config)
            self.text_config = AutoConfig.for_model(values.pop("model_type"), **values)
        elif self.text_config is None:
            self.text_config = AutoConfig.for_model("llama")
        self.towers = self.towers or []
        super().__post_init__(**kwargs)
