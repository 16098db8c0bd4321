"""Models of VideoWeave and Prismatic: their files fill a model of ours.

    RUN/config.json                          section `model` of their configuration
    RUN/checkpoints/latest-checkpoint.pt     projector, language model and, where it was trained, the tower

Architecture and tokenizer come from the language id, never its published weights: the file has all of
them. The tower is fetched where the file has none.

Source:
    Prismatic's `load`. Differs: their `llm_max_length` counts text alone, ours visual tokens, too, so
    that those of `num_frames` frames are added, as far as the language model has positions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weave_data.config import load_config
from weave_data.errors import ConfigError, VerificationError
from weave_train.checkpoint.prismatic import read_prismatic
from weave_train.config import ModelSettings
from weave_train.models.empty import assemble_empty
from weave_train.models.language import LanguageOptions, language_config
from weave_train.models.model import VideoLanguageModel, compute_dtype
from weave_train.models.rope import num_positions
from weave_train.models.tokenizer import resolve_tokenizer
from weave_train.models.vision import build_tower
from weave_train.towers import num_visual_tokens

__all__ = ["LATEST", "load_videoweave"]

LATEST = Path("checkpoints") / "latest-checkpoint.pt"
_THEIR_TEXT_TOKENS = 2048
_REQUIRED = ("vision_backbone_id", "llm_backbone_id", "arch_specifier", "image_resize_strategy")
_DERIVED = (".rotary_emb.inv_freq",)  # written by old transformers; follows from the configuration
_MOST_NAMED = 3


def load_videoweave(
    file: Path, *, hf_token: str | None = None, num_frames: int | None = None
) -> VideoLanguageModel:
    """Build the model of a `.pt` file on the CPU, in the compute dtype of its configuration.

    Args:
        file: `RUN/checkpoints/NAME.pt`, with `RUN/config.json`.
        hf_token: As `load`.
        num_frames: Instead of the configuration's.

    Raises:
        ConfigError: There is no such file or configuration, or it names what is not known.
        VerificationError: The file is damaged, or does not fit the configuration; no code in it is run.
        DeviceError: The tokenizer, the configuration of the language model or the tower can't be had.
    """
    if not file.is_file():
        raise ConfigError(f"there is no file {str(file)!r}; name a .pt file or a run directory")
    settings, counts_visual = _read_settings(file, num_frames)
    weights = read_prismatic(file)
    if "language" not in weights:
        raise VerificationError(
            f"{file}: holds no language model: it was saved by stage align, and answers with nobody's; "
            "give the file of a finetuned run"
        )
    if settings.llm_backbone_id == "tiny-llama":
        raise ConfigError(f"{file}: the tokenizer of a tiny-llama is its run's own; load the run directory")
    options = LanguageOptions(hf_token=hf_token)
    tokenizer = resolve_tokenizer(settings, (), hf_token=hf_token)
    if not counts_visual:
        settings = _with_room(
            settings, num_positions(language_config(_short(settings), tokenizer, options), settings)
        )
    config = language_config(settings, tokenizer, options)
    config.pad_token_id = tokenizer.pad_token_id
    rows, known = _embedding_rows(weights["language"]), len(tokenizer)
    if rows is not None:
        if known > rows:
            raise VerificationError(
                f"{file}: its embedding has {rows} rows, the tokenizer of {settings.llm_backbone_id} "
                f"{known} ids; it is of another language model"
            )
        config.vocab_size = rows
    dtype = compute_dtype(settings)
    vlm = assemble_empty(settings, tokenizer, config, dtype=dtype)
    if "vision" not in weights:
        vlm.tower = build_tower(settings).to(dtype=dtype)
    modules = {"projector": vlm.core.projector, "language": vlm.core.language_model, "vision": vlm.tower}
    for part, values in weights.items():
        _fill(modules[part], values, origin=f"{file}: {part}")
    return vlm


def _read_settings(file: Path, num_frames: int | None) -> tuple[ModelSettings, bool]:
    """Their configuration as ours, and whether its `llm_max_length` counts visual tokens: a run of ours
    that was written in their layout keeps our fields.
    """
    path = file.parent.parent / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["model"]
    except OSError as error:
        raise ConfigError(
            f"{file}: there is no {path}; keep the run's config.json beside the folder of its checkpoints"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no configuration of VideoWeave or Prismatic: {error!r}") from error
    missing = [name for name in _REQUIRED if not isinstance(values, dict) or name not in values]
    if missing:
        raise ConfigError(f"{path}: model.{missing[0]} is missing; it is no configuration of VideoWeave")
    is_ours = "frame_policy" in values
    chosen = values if is_ours else _translated(values)
    known = {name: chosen[name] for name in ModelSettings.model_fields if name in chosen}
    if num_frames is not None:
        known["num_frames"] = num_frames
    return load_config(ModelSettings, known, origin=str(path)), is_ours


def _translated(values: Mapping[str, Any]) -> dict[str, Any]:
    same = (*_REQUIRED, "num_frames", "llm_max_length", "rope_scaling_factor")
    is_mixed = values.get("enable_mixed_precision_training", True)
    return {
        "llm_max_length": _THEIR_TEXT_TOKENS,
        **{name: values[name] for name in same if values.get(name) is not None},
        "rope_scaling_type": "legacy-dynamic",
        "precision": "bf16" if is_mixed else "fp32",
        "frames": {"format": "png", "short_side_px": 4096},  # they saw pictures as they were decoded
    }


def _short(settings: ModelSettings) -> ModelSettings:
    return settings.model_copy(update={"llm_max_length": 8})


def _with_room(settings: ModelSettings, positions: int | None) -> ModelSettings:
    wanted = settings.llm_max_length + num_visual_tokens(settings.num_frames, settings)
    return settings.model_copy(update={"llm_max_length": min(wanted, positions or wanted)})


def _embedding_rows(language: Mapping[str, torch.Tensor]) -> int | None:
    found = [
        value for name, value in language.items() if name.endswith(("embed_tokens.weight", "wte.weight"))
    ]
    return int(found[0].shape[0]) if len(found) == 1 and found[0].ndim == 2 else None


@torch.no_grad()
def _fill(module: nn.Module, values: Mapping[str, torch.Tensor], *, origin: str) -> None:
    ours = module.state_dict()
    given = {name: value for name, value in values.items() if not name.endswith(_DERIVED)}
    problems = [f"{name} is missing" for name in ours if name not in given]
    problems += [f"{name} is not part of this model" for name in given if name not in ours]
    problems += [
        f"{name} has shape {list(given[name].shape)}, the model has {list(value.shape)}"
        for name, value in ours.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        more = f" (and {len(problems) - _MOST_NAMED} more)" if len(problems) > _MOST_NAMED else ""
        raise VerificationError(
            f"{origin}: {'; '.join(problems[:_MOST_NAMED])}{more}; it does not fit its config.json"
        )
    for name, target in ours.items():
        target.copy_(given[name])
