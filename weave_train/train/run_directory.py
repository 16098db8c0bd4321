"""One run's directory: what lies where, and the files that are written once.

config.json, config.yaml   section `model` (ModelSettings), every flag, the data set, versions
runner.json                who trains here; see `train.claim`
metrics.jsonl, loss.png    one line and one point a step
tokenizer/, language/        what the model is rebuilt from, weights apart
frozen/, checkpoints/        weights, unless --checkpoint.uri says where else; see `checkpoint.layout`
"""

from __future__ import annotations

import importlib.metadata
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from weave_data.config import FramesConfig, load_config
from weave_data.shard import first_difference
from weave_train.config import ModelSettings, PretrainConfig
from weave_train.whole_files import write_whole

__all__ = ["describe_change", "model_settings", "read_run_config", "write_run_config"]

_PACKAGES = ("videoweave", "torch", "transformers", "timm", "peft", "deepspeed", "numpy", "pyarrow")


def model_settings(config: PretrainConfig, configuration: Mapping[str, Any]) -> ModelSettings:
    """Section `model` of a run: the model flags, and how the data set's frames were sampled.

    Args:
        config: Of the run.
        configuration: `frames` and `recipe` of the data set.

    Raises:
        ConfigError: A model flag names what is not there.
    """
    frames = configuration.get("frames", {})
    values = {
        name: getattr(config.model, name)
        for name in ModelSettings.model_fields
        if name in type(config.model).model_fields
    }
    recipe = configuration.get("recipe", {})
    values |= {
        "frame_policy": recipe.get("frame_policy", "linspace"),
        "fps": recipe.get("fps"),
        "seed": config.seed,
        "precision": config.precision,
        "lora": config.lora.model_dump() if config.lora.rank is not None else None,
        "frames": {name: value for name, value in frames.items() if name in FramesConfig.model_fields},
    }
    return load_config(ModelSettings, values, origin="model flags")


def describe_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """First setting or input in which two data set sections differ."""
    for part in ("recipe", "split", "configuration", "inputs", "fingerprint"):
        found = first_difference(before.get(part), now.get(part), path=part)
        if found is not None:
            return f"{found.path} was {found.theirs!r}, is {found.ours!r}"
    return "nothing"


def write_run_config(
    run_dir: Path, *, config: PretrainConfig, settings: ModelSettings, dataset: Mapping[str, Any]
) -> None:
    """Write `config.json` and `config.yaml` with the same content.

    Raises:
        StoreError: The disk can't be written.
    """
    values = {
        "model": settings.model_dump(mode="json"),
        "pretrain": config.model_dump(mode="json"),
        "dataset": dict(dataset),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    write_whole(run_dir / "config.json", json.dumps(values, indent=2) + "\n")
    yaml, sink = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(values, sink)
    write_whole(run_dir / "config.yaml", sink.getvalue())


def read_run_config(run_dir: Path) -> dict[str, Any] | None:
    """What `write_run_config` wrote, or None in a new run directory."""
    path = run_dir / "config.json"
    if not path.is_file():
        return None
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
