"""Data set ids: which JSON lists and which directory of media each means, by stage.

Paths are relative to `--dataset.dataset_root_dir`, else to `WEAVE_DATA_ROOT`, else to `data`; an absolute
one, or a URI, stays. `weave-data download` and `weave-data mix` leave files at these places.

Source:
    VideoWeave, `prismatic/conf/datasets.py`. Differs: the roots of all but `llava-v15` and
    `video-llava-v15` were directories of its authors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["DATASET_IDS", "DATASET_PRESETS", "DATA_ROOT", "DATA_ROOT_VARIABLE", "DatasetPreset", "data_root"]

DATA_ROOT = "data"
DATA_ROOT_VARIABLE = "WEAVE_DATA_ROOT"
"""Environment variable with the root of all data sets."""


class DatasetPreset(NamedTuple):
    """List and media directory of each stage; `finetune` is of `full-finetune`, too."""

    align: tuple[str, str]
    finetune: tuple[str, str]


_LAION = ("download/llava-laion-cc-sbu-558k/chat.json", "download/llava-laion-cc-sbu-558k/")
_INSTRUCT = "download/llava-v1.5-instruct/"


def _instruct(name: str) -> DatasetPreset:
    return DatasetPreset(align=_LAION, finetune=(f"{_INSTRUCT}{name}.json", _INSTRUCT))


def _webvid(name: str) -> DatasetPreset:
    listed = (f"dataset_splits/{name}.json", "webvid_num_frames=1")
    return DatasetPreset(align=listed, finetune=listed)


DATASET_PRESETS: Mapping[str, DatasetPreset] = {
    "llava-v15": _instruct("llava_v1_5_mix665k"),
    "llava-multimodal": _instruct("llava_v1_5_stripped625k"),
    "llava-lvis4v": _instruct("llava_v1_5_lvis4v_mix888k"),
    "llava-lrv": _instruct("llava_v1_5_lrv_mix1008k"),
    "llava-lvis4v-lrv": _instruct("llava_v1_5_lvis4v_lrv_mix1231k"),
    "video-llava-v15": _instruct("llava_v1_5_mix665k_videos_2frame"),
    "webvid": _webvid("webvid_train_45k_cluster_size=4"),
    "webvid_val": _webvid("webvid_val_5k_cluster_size=4"),
}

DATASET_IDS = tuple(DATASET_PRESETS)


def data_root() -> str:
    """Root of data sets that name none: `WEAVE_DATA_ROOT`, or `data`."""
    return os.environ.get(DATA_ROOT_VARIABLE) or DATA_ROOT
