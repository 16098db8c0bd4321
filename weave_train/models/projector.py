"""Maps a tower's features to the language model's embeddings, token by token."""

from __future__ import annotations

from torch import nn

from weave_data.errors import ConfigError
from weave_train.models.seeding import seeded_weights

__all__ = ["build_projector"]


def build_projector(projector_id: str, *, vision_dim: int, text_dim: int) -> nn.Sequential:
    """Build a projector: fp32[..., vision_dim] -> [..., text_dim].

    Args:
        projector_id: `linear`, `gelu-mlp` or `fused-gelu-mlp`.
        vision_dim: D of the tower.
        text_dim: Width of the language model.

    Raises:
        ConfigError: Unknown `projector_id`.

    Source:
        Prismatic's three projectors (all biased), seeded with the vision width. Differs: the
        process's random stream is left alone.
    """
    with seeded_weights(vision_dim):
        match projector_id:
            case "linear":
                layers: list[nn.Module] = [nn.Linear(vision_dim, text_dim)]
            case "gelu-mlp":
                layers = [nn.Linear(vision_dim, text_dim), nn.GELU(), nn.Linear(text_dim, text_dim)]
            case "fused-gelu-mlp":
                layers = [
                    nn.Linear(vision_dim, 4 * vision_dim),
                    nn.GELU(),
                    nn.Linear(4 * vision_dim, text_dim),
                    nn.GELU(),
                    nn.Linear(text_dim, text_dim),
                ]
            case _:
                raise ConfigError(
                    f"model.arch_specifier: unknown projector {projector_id!r}; "
                    "choose linear, gelu-mlp or fused-gelu-mlp"
                )
    return nn.Sequential(*layers)
