"""Which files make which data set, and where they are."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from weave_data.errors import ConfigError

__all__ = ["DATASETS", "RemoteFile", "find_dataset"]

_HF = "https://huggingface.co/datasets"
_COCO = "http://images.cocodataset.org/zips"
_VG = "https://cs.stanford.edu/people/rak248/VG_100K_2"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        url: Where it is.
        name: What it is called in the data set's folder.
        unpack_to: Folder its members go to, relative; `.`: the data set's own; None: no archive.
        strip_top: The archive's one top folder becomes `unpack_to`, whatever it was called.
        to_jpeg: GIF and PNG among its members get a JPEG beside them.
        sha256: If known beforehand.
    """

    url: str
    name: str
    unpack_to: str | None = None
    strip_top: bool = False
    to_jpeg: bool = False
    sha256: str | None = None


def _folder(url: str, name: str, folder: str, *, to_jpeg: bool = False) -> RemoteFile:
    return RemoteFile(url, name, unpack_to=folder, strip_top=True, to_jpeg=to_jpeg)


DATASETS: Mapping[str, tuple[RemoteFile, ...]] = {
    "llava-laion-cc-sbu-558k": (
        RemoteFile(f"{_HF}/liuhaotian/LLaVA-Pretrain/resolve/main/blip_laion_cc_sbu_558k.json", "chat.json"),
        RemoteFile(f"{_HF}/liuhaotian/LLaVA-Pretrain/resolve/main/images.zip", "images.zip", unpack_to="."),
    ),
    "llava-v1.5-instruct": (
        RemoteFile(
            f"{_HF}/liuhaotian/LLaVA-Instruct-150K/resolve/main/llava_v1_5_mix665k.json",
            "llava_v1_5_mix665k.json",
        ),
        _folder(f"{_COCO}/train2017.zip", "train2017.zip", "coco/train2017"),
        _folder("https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip", "gqa.zip", "gqa/images"),
        _folder(
            f"{_HF}/qnguyen3/ocr_vqa/resolve/main/ocr_vqa.zip", "ocr_vqa.zip", "ocr_vqa/images", to_jpeg=True
        ),
        _folder(
            "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip",
            "textvqa.zip",
            "textvqa/train_images",
        ),
        _folder(f"{_VG}/images.zip", "vg_100k.zip", "vg/VG_100K"),
        _folder(f"{_VG}/images2.zip", "vg_100k_2.zip", "vg/VG_100K_2"),
    ),
    "lvis-instruct4v": (
        RemoteFile(
            f"{_HF}/X2FD/LVIS-Instruct4V/resolve/main/lvis_instruct4v_220k.json", "lvis_instruct4v_220k.json"
        ),
        _folder(f"{_COCO}/val2017.zip", "val2017.zip", "coco/val2017"),
    ),
}
"""The first two as VideoWeave's `preprocess.py` lays them out, with the instruction records and COCO
train2017 that it had commented out; the third is what `weave-data mix lvis4v` needs besides. LRV-Instruct
lies on Google Drive, behind a page that asks before it gives a file: fetch it by hand (gdown)."""


def find_dataset(dataset_id: str) -> tuple[RemoteFile, ...]:
    """The files of a data set.

    Raises:
        ConfigError: No such id; the message names the nearest one.
    """
    if dataset_id not in DATASETS:
        close = difflib.get_close_matches(dataset_id, DATASETS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(DATASETS)}"
        raise ConfigError(f"no data set {dataset_id!r} ({hint}); `weave-data download --list` shows all")
    return DATASETS[dataset_id]
