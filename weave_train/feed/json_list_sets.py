"""VideoWeave's registry of data sets: which lists and which directory an id means.

Paths are relative to `--dataset.dataset_root_dir` (`data` unless given); an absolute one stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from weave_data.config import FramesConfig
from weave_data.errors import ConfigError
from weave_train.config.presets import DATASET_IDS, nearest
from weave_train.config.pretrain import PretrainConfig
from weave_train.config.sections import DatasetConfig
from weave_train.feed.json_list_media import FrameSampling
from weave_train.feed.json_lists import JsonListSource, open_json_lists
from weave_train.towers import tower_spec

__all__ = ["Components", "JSON_LIST_SETS", "list_components", "open_listed_set"]

_ROOT = "data"
_ALIGN = ("download/llava-laion-cc-sbu-558k/chat.json", "download/llava-laion-cc-sbu-558k/")
_INSTRUCT = "download/llava-v1.5-instruct/"


class Components(NamedTuple):
    """Lists of one stage, one for each stored epoch, and the directory of their media."""

    lists: tuple[str, ...]
    media: str


def _instruct(name: str) -> tuple[str, str]:
    return f"{_INSTRUCT}{name}.json", _INSTRUCT


JSON_LIST_SETS: Mapping[str, tuple[str, str]] = {
    "llava-v15": _instruct("llava_v1_5_mix665k"),
    "llava-multimodal": _instruct("llava_v1_5_stripped625k"),
    "llava-lvis4v": _instruct("llava_v1_5_lvis4v_mix888k"),
    "llava-lrv": _instruct("llava_v1_5_lrv_mix1008k"),
    "llava-lvis4v-lrv": _instruct("llava_v1_5_lvis4v_lrv_mix1231k"),
    "video-llava-v15": _instruct("llava_v1_5_mix665k_videos_2frame"),
    "webvid": ("dataset_splits/webvid_train_45k_cluster_size=4.json", "webvid_num_frames=1"),
    "webvid_val": ("dataset_splits/webvid_val_5k_cluster_size=4.json", "webvid_num_frames=1"),
}
"""List and media directory of the finetune stages.

Source:
    VideoWeave, `prismatic/conf/datasets.py`. Differs: the roots, which were directories of its authors.
"""


def list_components(dataset: DatasetConfig, *, stage: str) -> Components:
    """Files that a data set means in a stage, below its root.

    `*_stage_components` name the lists, one for each stored epoch, and the media directory last.

    Raises:
        ConfigError: An unknown id, or components that name no list.
    """
    if dataset.type not in DATASET_IDS:
        raise ConfigError(
            f"dataset.type: {dataset.type!r} is not a known data set "
            f"({nearest(str(dataset.type), DATASET_IDS)})"
        )
    prefix = "align" if stage == "align" else "finetune"
    given: Sequence[str] | None = getattr(dataset, f"{prefix}_stage_components")
    if given is None:
        given = _ALIGN if stage == "align" else JSON_LIST_SETS[dataset.type]
    if len(given) < 2:
        raise ConfigError(
            f"dataset.{prefix}_stage_components: {list(given)} names {len(given)} path; give one list for "
            "each epoch, then the directory of the media"
        )
    *lists, media = (_below(dataset.dataset_root_dir or _ROOT, path) for path in given)
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
