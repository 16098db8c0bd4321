"""A run and the model it holds; models of VideoWeave and Prismatic are in `videoweave_run`.

    config.json (or config.yaml)      section `model`: ModelSettings
    tokenizer/                        as trained with
    language/config.json              of the language model, so that the base model is not needed
    frozen/                           what the run does not train, once; see `checkpoint.frozen`
    checkpoints/step-<n>/             trained weights, see `checkpoint`

All of it lies in the run directory or below `--checkpoint.uri`. Nothing in these files is executed:
weights are safetensors, and no code of a model is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from weave_data.config import load_config, read_yaml
from weave_data.errors import ConfigError, DeviceError, VerificationError
from weave_data.storage import LocalStore
from weave_data.torchvision_ops import install
from weave_train.checkpoint.frozen import restore_frozen
from weave_train.checkpoint.layout import Checkpoint, complete_steps, find_checkpoint_at
from weave_train.checkpoint.reading import read_weights
from weave_train.checkpoint.run_files import fetch_run_files
from weave_train.config import ModelSettings
from weave_train.config.published import published_model
from weave_train.models.empty import assemble_empty
from weave_train.models.hub import fetch_file, first_line
from weave_train.models.lora import add_lora, merge_lora
from weave_train.models.model import VideoLanguageModel, compute_dtype
from weave_train.models.tokenizer import load_tokenizer, save_tokenizer
from weave_train.videoweave_run import LATEST, load_videoweave

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load", "load_weights", "model_parts", "read_settings", "save_model_files"]


def model_parts(vlm: VideoLanguageModel) -> dict[str, nn.Module]:
    """Parts of a model by the names that checkpoints keep their frozen weights under."""
    core = vlm.core
    return {"projector": core.projector, "language": core.language_model, "vision": vlm.tower}


def save_model_files(vlm: VideoLanguageModel, run_dir: Path) -> None:
    """Write what stays the same during a run, weights apart: tokenizer and language configuration.

    Call once, on one rank, before the first checkpoint.

    Args:
        vlm: As built.
        run_dir: Created when missing.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    save_tokenizer(vlm.tokenizer, run_dir / "tokenizer")
    vlm.core.language_model.config.save_pretrained(run_dir / "language")


def load(
    model: Path | str,
    hf_token: str | None = None,
    *,
    num_frames: int | None = None,
    device: torch.device | str | None = None,
    merges_lora: bool = True,
) -> VideoLanguageModel:
    """Rebuild a trained model: a run of ours, or what VideoWeave or Prismatic trained.

    Of a run of ours nothing but its own files is read, and of the others no published language weights.

    Args:
        model: A run directory or its `--checkpoint.uri` (the newest complete checkpoint), one of its
            `checkpoints/step-<n>`; VideoWeave's run directory or `RUN/checkpoints/NAME.pt`; or the id of a
            published model (`available_model_ids`).
        hf_token: File or environment variable with a token of the hub, or the token; default `.hf_token`.
            Read only when a model is gated.
        num_frames: Frames that `frames_from_video` takes, instead of the run's.
        device: Default: a GPU when there is one, else the CPU.
        merges_lora: Adapters go into the weights beside them, in fp32, and the model's settings name none;
            else they stay apart.

    Returns:
        In eval mode, frozen, in the compute dtype of its settings.

    Raises:
        ConfigError: No such model, or no complete checkpoint in the run.
        VerificationError: Weights are missing, damaged, or of another tower or language model.
        DeviceError: A published model, tower or tokenizer can't be had.
        StoreError: A run can't be read.
    """
    token = ".hf_token" if hf_token is None else hf_token
    file = _videoweave_file(str(model), token)
    if file is not None:
        vlm = load_videoweave(file, hf_token=token, num_frames=num_frames)
    else:
        checkpoint = find_checkpoint_at(str(model))
        vlm = load_weights(checkpoint, in_compute_dtype=True, merges_lora=merges_lora)
        if num_frames is not None:
            vlm.settings = vlm.settings.model_copy(update={"num_frames": num_frames})
    if vlm.settings.num_frames < 1:
        raise ConfigError(f"num_frames {num_frames}: must be at least 1")
    target = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    vlm.tower.to(device=target)
    vlm.core.to(device=target).eval().requires_grad_(False)
    return vlm


def _videoweave_file(model: str, hf_token: str) -> Path | None:
    """The `.pt` file that is meant, fetched where it is a published id; None: a run of ours is meant."""
    path = Path(model)
    if "://" in model:
        return None
    if model.endswith(".pt"):
        return path
    if path.is_dir():
        is_theirs = (path / LATEST).is_file() and not complete_steps(LocalStore(path))
        return path / LATEST if is_theirs else None
    if path.exists() or model.startswith((".", "/", "~")) or "checkpoints/" in model:
        return None
    try:
        published = published_model(model)
    except ConfigError as error:
        raise ConfigError(f"there is no directory {model!r}, and {error}") from error
    folder = published.model_id
    _fetch(published.repository, f"{folder}/config.json", hf_token)
    # both lie in one snapshot: the configuration is found beside the folder of the checkpoints
    return _fetch(published.repository, f"{folder}/{LATEST.as_posix()}", hf_token)


def _fetch(repository: str, name: str, hf_token: str) -> Path:
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return fetch_file(repository, name, hf_token=hf_token)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise DeviceError(
            f"{name} can't be had from {repository}: {first_line(error)}; check the network, or give a local "
            ".pt file or run directory"
        ) from error


def load_weights(
    checkpoint: Checkpoint, *, in_compute_dtype: bool = False, merges_lora: bool = True
) -> VideoLanguageModel:
    """As `load`, on the CPU.

    Args:
        checkpoint: Of a run of ours.
        in_compute_dtype: Cast as weights are read; otherwise they are as in the checkpoint (fp32 masters).
        merges_lora: As there; what is merged is cast after it.

    Raises:
        WeaveError: As `load`.
    """
    with fetch_run_files(checkpoint.store) as folder:
        settings = read_settings(folder)
        tokenizer = load_tokenizer(folder / "tokenizer")
        install()
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(
            folder / "language", local_files_only=True, trust_remote_code=False
        )
    trains_vision = any(name.startswith("vision.") for name in checkpoint.shapes)
    is_merged = settings.lora is not None and merges_lora
    dtype = compute_dtype(settings) if in_compute_dtype else None
    vlm = assemble_empty(
        settings, tokenizer, config, dtype=None if is_merged else dtype, trains_vision=trains_vision
    )
    if settings.lora is not None:
        add_lora(vlm.core, settings.lora, seed=settings.seed)
    trained = _split(checkpoint, read_weights(checkpoint))
    for part, module in model_parts(vlm).items():
        module.requires_grad_(requires_grad=False)
        _fill(
            module,
            trained.pop(part),
            is_whole=part not in checkpoint.frozen,
            origin=f"{checkpoint.uri}: {part}",
        )
        if part in checkpoint.frozen:
            restore_frozen(checkpoint.store, part, module, sha256=checkpoint.frozen[part])
        module.requires_grad_(requires_grad=False)
    if is_merged:
        merge_lora(vlm.core)
        vlm.settings = settings.model_copy(update={"lora": None})
        vlm.tower.to(dtype=dtype)
        vlm.core.to(dtype=dtype)
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


def _split(checkpoint: Checkpoint, weights: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Trained weights by part, under their names in it."""
    prefixes = {"projector": "projector", "language_model": "language", "vision": "vision"}
    trained: dict[str, dict[str, torch.Tensor]] = {part: {} for part in prefixes.values()}
    for name, value in weights.items():
        prefix, _, rest = name.partition(".")
        if prefix not in prefixes:
            raise VerificationError(f"{checkpoint.uri}: {name} is not part of this model")
        trained[prefixes[prefix]][rest] = value
    return trained


@torch.no_grad()
def _fill(module: nn.Module, weights: dict[str, torch.Tensor], *, is_whole: bool, origin: str) -> None:
    """Copy weights by name, and mark them as trained, so that `frozen_values` are the others.

    Args:
        module: A part.
        weights: Trained ones.
        is_whole: Nothing of the part is frozen: every parameter must be there.
        origin: Named in messages.
    """
    parameters = dict(module.named_parameters())
    problems = [f"{name} is missing" for name in parameters if name not in weights] if is_whole else []
    problems += [f"{name} is not part of this model" for name in weights if name not in parameters]
    problems += [
        f"{name} has shape {list(weights[name].shape)}, the model has {list(value.shape)}"
        for name, value in parameters.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise VerificationError(f"{origin}: {problems[0]}{more}; it does not fit the run's model settings")
    for name, value in weights.items():
        parameters[name].copy_(value)
        parameters[name].requires_grad_()
