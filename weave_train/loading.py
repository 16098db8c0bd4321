"""A run directory and the model it holds.

    config.json (or config.yaml)      section `model`: ModelSettings
    tokenizer/                        as trained with
    language/config.json              of the language model, so that the base model is not needed
    tower.safetensors, tower.sha256   as the run began: once per run
    frozen/language.safetensors       the same, where the stage leaves the language model frozen
    checkpoints/step-<n>/             trained weights, see `checkpoint`; a trained tower's among them

Nothing in these files is executed: weights are safetensors, and no code of a model is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from weave_data.config import load_config, read_yaml
from weave_data.errors import ConfigError, VerificationError
from weave_data.torchvision_ops import install
from weave_train.checkpoint.layout import newest_checkpoint, read_checkpoint, read_weights
from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, assemble_model, compute_dtype, tower_sha256
from weave_train.models.parts import part_of
from weave_train.models.tokenizer import load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load", "read_settings", "save_model_files"]


def save_model_files(vlm: VideoLanguageModel, run_dir: Path) -> str:
    """Write what stays the same during a run: tokenizer, language configuration, frozen weights.

    Call once, on one rank, after the stage was applied and before an engine takes the core.

    Args:
        vlm: As built.
        run_dir: Created when missing.

    Returns:
        sha256 of the tower, as checkpoints refer to it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    save_tokenizer(vlm.tokenizer, run_dir / "tokenizer")
    vlm.core.language_model.config.save_pretrained(run_dir / "language")
    weights = {name: value.cpu().contiguous() for name, value in vlm.tower.state_dict().items()}
    save_file(weights, run_dir / "tower.safetensors")
    frozen = {
        name: value.detach().cpu().contiguous()
        for name, value in vlm.core.named_parameters()
        if part_of(name) == "language" and not value.requires_grad
    }
    if frozen:
        (run_dir / "frozen").mkdir(exist_ok=True)
        save_file(frozen, run_dir / "frozen" / "language.safetensors")
    digest = tower_sha256(vlm.tower)
    (run_dir / "tower.sha256").write_text(digest + "\n", encoding="ascii")
    return digest


def load(
    run_dir_or_checkpoint: Path | str, *, device: torch.device | str | None = None
) -> VideoLanguageModel:
    """Rebuild the model of a run, exactly: nothing but the run directory is read.

    Args:
        run_dir_or_checkpoint: A run directory (its newest complete checkpoint), or one of its
            `checkpoints/step-<n>`.
        device: Default: a GPU when there is one, else the CPU.

    Returns:
        In eval mode, frozen, in the compute dtype of its settings.

    Raises:
        ConfigError: Not a run directory, or no complete checkpoint in it.
        VerificationError: Weights are missing, damaged, or of another tower.
    """
    run_dir, checkpoint_dir = _locate(Path(run_dir_or_checkpoint))
    settings = read_settings(run_dir)
    tokenizer = load_tokenizer(run_dir / "tokenizer")
    install()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(run_dir / "language", local_files_only=True)
    vlm = assemble_model(settings, tokenizer, language_config=config)
    tower = _read_safetensors(run_dir / "tower.safetensors")
    vlm.tower.to(next(iter(tower.values())).dtype)  # a trained tower begins in fp32
    _fill(vlm.tower, tower, origin=run_dir / "tower.safetensors")
    _check_tower(vlm, run_dir, checkpoint_dir)
    weights = read_weights(checkpoint_dir)
    if any(part_of(name) == "vision" for name in weights):
        vlm.join_vision()
    _fill(vlm.core, _frozen_weights(vlm, run_dir) | weights, origin=checkpoint_dir)
    target = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    vlm.tower.to(device=target, dtype=compute_dtype(settings))
    vlm.core.to(device=target, dtype=compute_dtype(settings)).eval().requires_grad_(False)
    return vlm


def read_settings(run_dir: Path) -> ModelSettings:
    """Section `model` of a run's configuration.

    Raises:
        ConfigError: There is none, or it is not valid.
    """
    for name in ("config.json", "config.yaml"):
        path = run_dir / name
        if path.is_file():
            values = read_yaml(path.read_text(encoding="utf-8"), origin=str(path))  # JSON is YAML
            if not isinstance(values.get("model"), dict):
                raise ConfigError("model: required, not given", origin=str(path))
            return load_config(ModelSettings, values["model"], origin=str(path))
    raise ConfigError(f"{run_dir} is not a run directory: there is no config.json in it")


def _locate(path: Path) -> tuple[Path, Path]:
    if path.parent.name == "checkpoints":
        return path.parents[1], path
    newest = newest_checkpoint(path)
    if newest is None:
        raise ConfigError(
            f"{path}: there is no complete checkpoint in it; give a run directory or one of its "
            "checkpoints/step-<n>"
        )
    return path, newest


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise VerificationError(f"{path}: missing or damaged: {error}; use another checkpoint") from error


def _check_tower(vlm: VideoLanguageModel, run_dir: Path, checkpoint_dir: Path) -> None:
    found = tower_sha256(vlm.tower)
    path = run_dir / "tower.sha256"
    stored = path.read_text(encoding="ascii").strip() if path.is_file() else None
    for origin, expected in (
        (path, stored),
        (checkpoint_dir, read_checkpoint(checkpoint_dir).tower_sha256),
    ):
        if expected != found:
            raise VerificationError(
                f"{origin}: the tower's sha256 is {expected}, tower.safetensors has {found}; "
                "this is not the tower that the run was trained with"
            )


def _frozen_weights(vlm: VideoLanguageModel, run_dir: Path) -> dict[str, torch.Tensor]:
    """By name in the core: the language model of stage align, what is not trained of a joined tower."""
    path = run_dir / "frozen" / "language.safetensors"
    frozen = _read_safetensors(path) if path.is_file() else {}
    vision = {name: value for name, value in vlm.core.named_parameters() if part_of(name) == "vision"}
    return frozen | vision


@torch.no_grad()
def _fill(module: nn.Module, weights: dict[str, torch.Tensor], *, origin: Path) -> None:
    """Copy weights by name; every parameter must be there, with its shape, and nothing else."""
    parameters = dict(module.named_parameters())
    problems = [f"{name} is missing" for name in parameters if name not in weights]
    problems += [f"{name} is not part of this model" for name in weights if name not in parameters]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, the model has {list(value.shape)}"
        for name, value in parameters.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VerificationError(f"{origin}: {problems[0]}{more}; it does not fit the run's model settings")
    for name, value in parameters.items():
        value.copy_(weights[name])
