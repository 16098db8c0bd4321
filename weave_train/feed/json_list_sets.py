"""What a data set of JSON lists names, opened: an id's lists, or those given, below their root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from weave_data.config import FramesConfig
from weave_data.errors import ConfigError
from weave_train.config.dataset_presets import DATASET_PRESETS, data_root
from weave_train.config.presets import nearest
from weave_train.config.pretrain import PretrainConfig
from weave_train.config.sections import DatasetConfig
from weave_train.feed.json_list_media import FrameSampling
from weave_train.feed.json_lists import JsonListSource, open_json_lists
from weave_train.towers import tower_spec

__all__ = ["Components", "list_components", "open_listed_set"]


class Components(NamedTuple):
    """Lists of one stage, one for each stored epoch, and the directory of their media."""

    lists: tuple[str, ...]
    media: str


def list_components(dataset: DatasetConfig, *, stage: str) -> Components:
    """Files that a data set means in a stage, below its root.

    `*_stage_components` name the lists, one for each stored epoch, and the media directory last.

    Raises:
        ConfigError: An unknown id, or components that name no list.
    """
    if dataset.type is None or dataset.type not in DATASET_PRESETS:
        raise ConfigError(
            f"dataset.type: {dataset.type!r} is not a known data set "
            f"({nearest(str(dataset.type), DATASET_PRESETS)})"
        )
    prefix = "align" if stage == "align" else "finetune"
    given: Sequence[str] | None = getattr(dataset, f"{prefix}_stage_components")
    if given is None:
        given = getattr(DATASET_PRESETS[dataset.type], prefix)
    if len(given) < 2:
        raise ConfigError(
            f"dataset.{prefix}_stage_components: {list(given)} names {len(given)} path; give one list for "
            "each epoch, then the directory of the media"
        )
    *lists, media = (_below(dataset.dataset_root_dir or data_root(), path) for path in given)
    return Components(tuple(lists), media.rstrip("/"))


def _below(root: str, path: str) -> str:
    return path if path.startswith("/") or "://" in path else f"{root.rstrip('/')}/{path}"


def open_listed_set(
    dataset: DatasetConfig, *, config: PretrainConfig, name: str | None = None
) -> JsonListSource:
    """Open the JSON lists that a data set's id and components name.

    Frames of videos are kept at the short side of the tower's input, with the quality of a build.

    Args:
        dataset: Its `type` is set.
        config: Of the run: stage, seed, tower and frames of a sample.
        name: Of the data set; its id unless given.

    Raises:
        ConfigError: See `list_components` and `open_json_lists`.
        SourceError: A list can't be read or is not JSON.
    """
    components = list_components(dataset, stage=config.stage)
    sampling = FrameSampling(
        policy=dataset.frame_policy,
        frames_per_sample=config.model.num_frames,
        frames=FramesConfig(short_side_px=tower_spec(config.model.vision_backbone_id).image_px),
        seed=config.seed,
    )
    return open_json_lists(
        components.lists,
        components.media,
        name=name or dataset.dataset_id or str(dataset.type),
        sampling=sampling,
        split=dataset.split,
    )
