"""What a cell has already done, read from its own files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from weave_data.errors import ConfigError, SourceError, VerificationError, WeaveError
from weave_data.shard import first_difference, load_manifest
from weave_data.storage import Store, open_source, open_store
from weave_train.checkpoint.layout import complete_steps, newest_checkpoint
from weave_train.config import PretrainConfig
from weave_train.sweep.cells import Cell, CellStage
from weave_train.sweep.config import EvaluationConfig
from weave_train.whole_files import write_whole

__all__ = [
    "PUBLISHED",
    "Evaluated",
    "checkpoint_store",
    "evaluated_at",
    "is_cell_done",
    "is_trained",
    "published_steps",
    "relative",
    "steps_to_ask",
]

_ELSEWHERE = (
    "run_root_dir", "hf_token", "trackers", "wandb_project", "wandb_entity", "launcher", "num_ranks",
    "max_restarts", "num_threads", "network_interface", "resume", "num_workers", "prefetch_steps", "feed",
    "checkpoint", "watch", "pretrained_checkpoint",
)  # fmt: skip
"""Settings that say where or how a run trains, not what comes out."""


PUBLISHED = "published.json"
"""In a run directory whose weights stayed where it was trained; see `published`."""


def is_trained(stage: CellStage) -> bool:
    """True when a run has taken its last step and saved it.

    Raises:
        ConfigError: Its directory holds a run with other settings or data.
        VerificationError: Its configuration or its newest checkpoint is damaged.
    """
    path = stage.run_dir / "config.json"
    if not path.is_file():
        return False
    _refuse_other(stage, _stored(path))
    if published_steps(stage) is not None:
        return True
    newest = newest_checkpoint(checkpoint_store(stage))
    return newest is not None and newest.step == newest.state["num_steps"]


def published_steps(stage: CellStage) -> list[int] | None:
    """Steps that a run had kept whose weights are not here; None where they are."""
    path = stage.run_dir / PUBLISHED
    return [int(step) for step in json.loads(path.read_bytes())["steps"]] if path.is_file() else None


def checkpoint_store(stage: CellStage) -> Store:
    """Where a run's checkpoints lie."""
    return open_store(stage.config.checkpoint.uri or str(stage.run_dir))


def _stored(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise VerificationError(f"{path}: can't be read: {error}; delete the cell's directory") from error
    return values


def _refuse_other(stage: CellStage, stored: Mapping[str, Any]) -> None:
    try:
        before = PretrainConfig.model_validate(stored.get("pretrain"))
    except ValidationError as error:
        raise ConfigError(f"{stage.run_dir}/config.json: is of no run of this version: {error}") from error
    found = first_difference(_identity(before), _identity(stage.config))
    what = (found.path, found.theirs, found.ours) if found else _other_data(stage, stored)
    if what is not None:
        raise ConfigError(
            f"{stage.run_dir}: was trained with {what[0]} {what[1]!r}, the sweep now says {what[2]!r}; give "
            "the sweep another output, or delete that cell's directory to train it anew"
        )


def _other_data(stage: CellStage, stored: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The data set that lies there now, where it is another."""
    if stage.config.dataset.manifest is None:
        return None
    try:
        manifest = load_manifest(stage.config.dataset.manifest)
    except WeaveError:
        return None  # gone or out of reach: the run says so where it is needed
    before = stored.get("dataset", {}).get("fingerprint")
    return None if before == manifest.fingerprint else ("dataset", before, manifest.fingerprint)


def relative(value: Any) -> Any:
    """JSON with the paths below the working directory relative to it: a cell may be adopted elsewhere."""
    if isinstance(value, dict):
        return {name: relative(each) for name, each in value.items()}
    if isinstance(value, list):
        return [relative(each) for each in value]
    return value.removeprefix(f"{Path.cwd()}/") if isinstance(value, str) else value


def _identity(config: PretrainConfig) -> dict[str, Any]:
    values: dict[str, Any] = config.model_dump(mode="json")
    for name in _ELSEWHERE:
        values.pop(name, None)
    for name in ("dataset", "val_dataset"):
        values[name].pop("manifest")
        values[name].pop("token_index")
    donor = values["model"].pop("init_from_model")
    values["model"]["init_from_model"] = Path(donor).name if donor else None  # the cell may have moved
    moved: dict[str, Any] = relative(values)
    return moved


def steps_to_ask(cell: Cell, evaluation: EvaluationConfig) -> list[int]:
    """Steps of the cell's last stage that an evaluation is about, ascending; its run is done."""
    published = published_steps(cell.last)
    steps = complete_steps(checkpoint_store(cell.last)) if published is None else published
    return steps if evaluation.checkpoints == "all" else steps[-1:]


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of one checkpoint of a cell.

    Attributes:
        directory: Given to `weave-train evaluate --to`; the task's folder is in it.
        model: Given to it: the run directory's step.
    """

    directory: Path
    model: str
    entry: EvaluationConfig

    @property
    def results(self) -> Path:
        """Folder with `results.json` and `answers.jsonl`."""
        return self.directory / self.entry.task

    @property
    def is_done(self) -> bool:
        """True when it ran to its end.

        Raises:
            ConfigError: What lies there was asked otherwise.
            VerificationError: What was asked is damaged.
        """
        path = self.directory / "asked.json"
        if not path.is_file() or not (self.results / "results.json").is_file():
            return False
        before = relative(_stored(path))
        found = first_difference(before, self._asked())
        if found is not None and found.path == "questions" and found.ours is None:
            raise ConfigError(
                f"{self.directory}: was asked the questions of {self.entry.data}/questions.jsonl, which is "
                "not there; put the file back to have them checked"
            )
        if found is not None:
            raise ConfigError(
                f"{self.directory}: was asked with {found.path} {found.theirs!r}, the sweep now says "
                f"{found.ours!r}; give the evaluation another name, or delete that directory"
            )
        self._refuse_other_questions()
        return True

    def _refuse_other_questions(self) -> None:
        """Whichever files a task has: its results say which it read."""
        data = self.entry.data
        source = open_source(data)
        for key, digest in _stored(self.results / "results.json").get("question_files", {}).items():
            try:
                now: str | None = hashlib.sha256(source.read(key)).hexdigest()
            except SourceError as error:
                raise ConfigError(
                    f"{self.directory}: was asked the questions of {data}/{key}, which can't be read "
                    f"({error}); put the file back to have them checked"
                ) from error
            if now != digest:
                raise ConfigError(
                    f"{self.directory}: was asked other questions than those of {data}/{key}; give the "
                    "evaluation another name, or delete that directory"
                )

    def note_done(self) -> None:
        """Say that it ran to its end."""
        write_whole(self.directory / "asked.json", json.dumps(self._asked(), indent=1) + "\n")

    def words(self) -> list[str]:
        """Arguments of `weave-train evaluate`."""
        words = [
            self.model,
            "--task",
            self.entry.task,
            "--data",
            self.entry.data,
            "--to",
            str(self.directory),
        ]
        for name, value in self.entry.flags.items():
            if isinstance(value, bool):
                words += [f"--{name}"] if value else [f"--no-{name}"]
            else:
                words += [f"--{name}", str(value)]
        return words

    def _asked(self) -> dict[str, Any]:
        questions = Path(self.entry.data) / "questions.jsonl"
        digest = hashlib.sha256(questions.read_bytes()).hexdigest() if questions.is_file() else None
        values = {name: str(value) for name, value in self.entry.flags.items()}
        for name in ("num-ranks", "num_ranks", "hf-token", "hf_token"):
            values.pop(name, None)
        asked = {"task": self.entry.task, "flags": values, "questions": digest}
        moved: dict[str, Any] = relative(asked)
        return moved


def evaluated_at(cell: Cell, entry: EvaluationConfig, step: int) -> Evaluated:
    """An evaluation of one step of a cell's last stage."""
    root = cell.last.config.checkpoint.uri or str(cell.last.run_dir)
    return Evaluated(
        directory=cell.directory / "evaluations" / entry.called / f"step-{step:06d}",
        model=f"{root}/checkpoints/step-{step:06d}",
        entry=entry,
    )


def is_cell_done(cell: Cell) -> bool:
    """True when all of a cell's runs are trained and all of its questions answered.

    Raises:
        ConfigError: See `is_trained` and `Evaluated.is_done`.
    """
    return all(is_trained(stage) for stage in cell.stages) and all(
        evaluated_at(cell, entry, step).is_done
        for entry in cell.evaluations
        for step in steps_to_ask(cell, entry)
    )
