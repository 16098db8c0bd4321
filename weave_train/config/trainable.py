"""What of a stage's parts is trained: low-rank adapters, and rules by parameter name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from weave_data.config import StrictModel

__all__ = ["LoraConfig", "TrainableRule"]

_Scale = Annotated[float, Field(ge=0.0)]


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class LoraConfig(StrictModel):
    """Low-rank adapters instead of the language model's own weights; off while `rank` is null.

    The stage's language model is frozen, and adapters `alpha / rank * B A` beside its linear layers are
    trained: those in its blocks whose name, or the last word of it, matches one of the globs `targets`.
    `dropout` applies to the adapters' inputs.
    """

    rank: Annotated[int, Field(ge=1)] | None = None
    alpha: Annotated[float, Field(gt=0.0)] = 16.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: Annotated[list[str], BeforeValidator(_one_or_more), Field(min_length=1)] = Field(default=["*"])


class TrainableRule(StrictModel):
    """Parameters whose name matches the glob `match`, unless an earlier rule has them.

    One of: `freeze`; a factor `lr_scale` of their learning rate, on top of their part's; `train`, with
    or without `lr_scale`, which alone trains what the stage freezes. Names are those of checkpoints:
    `language_model.model.embed_tokens.weight`, `projector.0.bias`, `vision.vit.blocks.0.attn.qkv.weight`.
    """

    match: Annotated[str, Field(min_length=1)]
    freeze: bool = False
    train: bool = False
    lr_scale: _Scale | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> TrainableRule:
        if self.freeze and (self.train or self.lr_scale is not None):
            raise ValueError(f"{self.match!r}: freeze contradicts train and lr_scale; give one of them")
        if not (self.freeze or self.train or self.lr_scale is not None):
            raise ValueError(f"{self.match!r}: says nothing; add freeze: true, lr_scale: 0.1 or train: true")
        return self
