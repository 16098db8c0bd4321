"""What a new run begins with: another run's weights, VideoWeave's file, or an aligned projector.

    --model.init_from_model RUN | CHECKPOINT | FILE.pt | HUB_ID     projector, language model, tower
    --pretrained_checkpoint RUN | CHECKPOINT | FILE.pt              the projector, after stage align
    neither, and the stage needs an aligned projector               the align run beside this one

A resumed run has its own weights: nothing of this happens. What does not fit is refused, whole; what
was loaded, and what was not, is said and kept in `RUN/warm_start.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from weave_data.errors import ConfigError, DeviceError, VerificationError, WeaveError
from weave_data.storage import open_store
from weave_train.checkpoint.layout import Checkpoint, find_checkpoint_at
from weave_train.checkpoint.prismatic import read_prismatic
from weave_train.checkpoint.run_files import fetch_run_files, read_run_file
from weave_train.config import PretrainConfig
from weave_train.config.published import published_model
from weave_train.loading import load_weights, model_parts
from weave_train.models.hub import fetch_file
from weave_train.models.model import VideoLanguageModel
from weave_train.models.parts import PARTS, Part
from weave_train.models.tokenizer import load_tokenizer
from weave_train.whole_files import write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Donor", "WarmStart", "find_donor"]

_MOST_NAMED = 3


@dataclass(frozen=True)
class WarmStart:
    """What a run began with.

    Attributes:
        origin: Where the weights came from.
        loaded: Tensors by part.
        left: Parts that keep the weights they were built with.
    """

    origin: str
    loaded: Mapping[str, int]
    left: tuple[str, ...]

    def describe(self) -> str:
        """One line for people."""
        loaded = ", ".join(f"{part} ({count} tensors)" for part, count in self.loaded.items())
        return f"begins with {loaded} of {self.origin}; as built: {', '.join(self.left) or 'nothing'}"

    def write(self, run_dir: Path) -> None:
        """Keep it with the run."""
        write_whole(run_dir / "warm_start.json", json.dumps(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Donor:
    """Whose weights a new run takes.

    Attributes:
        origin: As it was asked for or found.
        flag: That asked for it; named in messages.
        parts: To take, where the donor has them.
        checkpoint: Of a run of this trainer; None: `file` is VideoWeave's.
        file: A `.pt` file.
    """

    origin: str
    flag: str
    parts: tuple[Part, ...]
    checkpoint: Checkpoint | None = None
    file: Path | None = None

    @property
    def is_finished(self) -> bool:
        """False of a run that has steps left to take."""
        state = {} if self.checkpoint is None else self.checkpoint.state
        return state.get("step") == state.get("num_steps")

    @property
    def progress(self) -> str:
        """`step 3 of 10`."""
        state = {} if self.checkpoint is None else self.checkpoint.state
        return f"step {state.get('step')} of {state.get('num_steps')}"

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The donor run's own: its embedding's rows mean its tokens. VideoWeave's files have none."""
        if self.checkpoint is None:
            return None
        with fetch_run_files(self.checkpoint.store) as folder:
            return load_tokenizer(folder / "tokenizer")

    def give(self, vlm: VideoLanguageModel) -> WarmStart:
        """Copy weights into a model as built, before its stage is applied.

        Raises:
            ConfigError: A part does not fit, or the donor has none of them; nothing was copied.
            VerificationError: Files are damaged.
        """
        given = self._weights()
        chosen = {part: given[part] for part in self.parts if part in given}
        if not chosen:
            raise ConfigError(f"{self.flag}: {self.origin} holds none of {', '.join(self.parts)}")
        modules = model_parts(vlm)
        problems = [
            problem for part, values in chosen.items() for problem in _misfits(part, modules[part], values)
        ]
        if problems:
            more = f" (and {len(problems) - _MOST_NAMED} more)" if len(problems) > _MOST_NAMED else ""
            raise ConfigError(
                f"{self.flag}: {self.origin} does not fit: {'; '.join(problems[:_MOST_NAMED])}{more}; "
                "give the model flags it was trained with"
            )
        for part, values in chosen.items():
            _copy(modules[part], values)
        left = tuple(part for part in PARTS if part not in chosen)
        return WarmStart(self.origin, {part: len(values) for part, values in chosen.items()}, left)

    def _weights(self) -> Mapping[str, Mapping[str, torch.Tensor]]:
        if self.checkpoint is None:
            assert self.file is not None
            return read_prismatic(self.file)
        donor = load_weights(self.checkpoint)
        return {part: module.state_dict() for part, module in model_parts(donor).items()}


def find_donor(config: PretrainConfig, *, recipe: str) -> Donor | None:
    """Whose weights a new run takes; None: it keeps those it is built with.

    Args:
        config: Of the run.
        recipe: Name of its data, as in its run id.

    Raises:
        ConfigError: What is named is not there, or no aligned projector is named or found.
        DeviceError: The hub can't be reached and has left no copy here.
    """
    if config.model.init_from_model is not None:
        return _named(config, config.model.init_from_model, flag="model.init_from_model", parts=PARTS)
    if config.pretrained_checkpoint is not None:
        return _named(
            config, config.pretrained_checkpoint, flag="pretrained_checkpoint", parts=("projector",)
        )
    if config.stage == "align" or config.model.arch_specifier.startswith("no-align"):
        return None
    return _aligned(config, recipe)


def _named(config: PretrainConfig, name: str, *, flag: str, parts: tuple[Part, ...]) -> Donor:
    if name.endswith(".pt"):
        if not Path(name).is_file():
            raise ConfigError(f"{flag}: there is no file {name!r}; name a .pt file or a run directory")
        return Donor(name, flag, parts, file=Path(name))
    if "://" in name or Path(name).is_dir():
        try:
            return Donor(name, flag, parts, checkpoint=find_checkpoint_at(name))
        except (ConfigError, VerificationError) as error:
            raise ConfigError(f"{flag}: {error}") from error
    if flag == "pretrained_checkpoint" or name.startswith((".", "/")):
        raise ConfigError(f"{flag}: there is no run directory {name!r}")
    return Donor(name, flag, parts, file=_from_hub(config, name))


def _from_hub(config: PretrainConfig, model_id: str) -> Path:
    """VideoWeave's own place for trained models."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repository, folder = _hub_place(config, model_id)
    filename = f"{folder}/checkpoints/latest-checkpoint.pt"
    try:
        return fetch_file(repository, filename, hf_token=config.hf_token)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DeviceError(
            f"model.init_from_model: {model_id!r} can't be had from {repository}: {reason}; check the id and "
            "the network, or give a local .pt file or run directory"
        ) from error


def _hub_place(config: PretrainConfig, model_id: str) -> tuple[str, str]:
    """Repository and folder of a model: where its id was published, or `--model.repo_id`."""
    if config.model.repo_id is not None:
        return config.model.repo_id, model_id
    try:
        model = published_model(model_id)
    except ConfigError as error:
        raise ConfigError(
            f"model.init_from_model: {error}; or give a local .pt file or run directory, or --model.repo_id"
        ) from error
    return model.repository, model.model_id


def _aligned(config: PretrainConfig, recipe: str) -> Donor:
    """The finished align run of the same model below the same root: by its id, else by what it says.

    Raises:
        ConfigError: There is none, or there are several; names those that are not finished.
        VerificationError: A checkpoint of one is damaged.
    """
    root = Path(config.run_root_dir)
    expected = config.model_copy(update={"stage": "align", "run_id": None}).resolved_run_id(recipe)
    candidates = [root / expected, *(path for path in sorted(root.glob("*")) if path.name != expected)]
    runs = [donor for path in candidates if (donor := _aligned_run(config, path)) is not None]
    found = [donor for donor in runs if donor.is_finished]
    if found and found[0].origin == str(root / expected):
        return found[0]
    if len(found) == 1:
        return found[0]
    named = f"{', '.join(donor.origin for donor in found)} all fit" if found else f"none in {root}"
    named += "".join(f"; {donor.origin} is at {donor.progress}" for donor in runs if not donor.is_finished)
    raise ConfigError(
        f"model.arch_specifier: {config.model.arch_specifier!r} starts from a projector trained by "
        f"--stage align: {named}; name one with --pretrained_checkpoint, or train in one stage with "
        f"no-align+{config.model.arch_specifier}"
    )


def _aligned_run(config: PretrainConfig, run_dir: Path) -> Donor | None:
    if not (run_dir / "config.json").is_file():
        return None
    try:
        values = read_run_file(open_store(str(run_dir)), "config.json").get("pretrain", {})
    except WeaveError:
        return None  # of something else
    model = values.get("model", {})
    same = ("vision_backbone_id", "llm_backbone_id", "arch_specifier")
    is_aligned = values.get("stage") == "align" and all(
        model.get(name) == getattr(config.model, name) for name in same
    )
    if not is_aligned:
        return None
    try:
        checkpoint = find_checkpoint_at(str(run_dir))
    except ConfigError:
        return None  # it has saved nothing yet
    return Donor(str(run_dir), "model.arch_specifier", ("projector",), checkpoint=checkpoint)


def _misfits(part: str, module: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> list[str]:
    ours = module.state_dict()
    problems = [f"{part}.{name} is missing" for name in ours if name not in values]
    problems += [f"{part}.{name} is not part of this model" for name in values if name not in ours]
    return problems + [
        f"{part}.{name} has shape {list(values[name].shape)}, this model {list(ours[name].shape)}"
        for name in ours
        if name in values and values[name].shape != ours[name].shape
    ]


@torch.no_grad()
def _copy(module: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    for name, target in module.state_dict().items():
        target.copy_(values[name])
