"""The merged instruction sets of Prismatic, in the order its scripts gave them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from weave_data.errors import SourceError
from weave_data.mixtures.spool import RowSpool, read_rows, write_rows

__all__ = ["merge_lrv", "merge_lvis4v", "strip_text_only"]

LVIS4V_NAME = "llava_v1_5_lvis4v_mix888k.json"
LRV_NAME = "llava_v1_5_lrv_mix1008k.json"
LVIS4V_LRV_NAME = "llava_v1_5_lvis4v_lrv_mix1231k.json"
STRIPPED_NAME = "llava_v1_5_stripped625k.json"

_SEED = 7
_SHUFFLES = 3
_LRV_PICTURES = ("filter_cap1.json", "filter_cap_more1.json")
_LRV_CHARTS = "chart_release_update.json"

Check = Callable[[Any, str], None]


def merge_lvis4v(base: Path, lvis: Path, folder: Path, *, images: Path | None = None) -> tuple[Path, int]:
    """LLaVA-1.5's instruction records and LVIS-Instruct4V's, shuffled: `llava_v1_5_lvis4v_mix888k.json`.

    Args:
        base: `llava_v1_5_mix665k.json`.
        lvis: `lvis_instruct4v_220k.json`.
        folder: Where the result goes.
        images: Folder that must hold every image LVIS-Instruct4V names; None: not looked at.

    Returns:
        The file written, and its records.

    Raises:
        SourceError: A file can't be read, or an image is not there; nothing was written.

    Source:
        Prismatic's `lvis_instruct_4v.py`: base then LVIS, `random.seed(7)`, three times `random.shuffle`.
        The file is byte for byte what its `json.dump` wrote. Differs: never all in memory.
    """
    with RowSpool(folder) as spool:
        spool.extend(read_rows(base))
        spool.extend(read_rows(lvis, _image_check(images)))
        order = _shuffled(random.Random(_SEED), len(spool))  # noqa: S311  (the published order)
        spool.write(folder / LVIS4V_NAME, order)
        return folder / LVIS4V_NAME, len(order)


def merge_lrv(
    base: Path, lvis4v_mix: Path, lrv: Path, folder: Path, *, images: Path | None = None
) -> list[tuple[Path, int]]:
    """LRV-Instruct merged with the instruction records, without and with LVIS-Instruct4V.

    Both are made at once: the order of the second comes from the random numbers that the first left.

    Args:
        base: `llava_v1_5_mix665k.json`.
        lvis4v_mix: What `merge_lvis4v` wrote.
        lrv: Folder with `filter_cap1.json`, `filter_cap_more1.json` and `chart_release_update.json`.
        folder: Where the results go.
        images: Folder that must hold `lrv/lrv-vg` and `lrv/lrv-chart` with every image named; None: not
            looked at.

    Returns:
        `llava_v1_5_lrv_mix1008k.json` and `llava_v1_5_lvis4v_lrv_mix1231k.json`, and their records.

    Raises:
        SourceError: A file can't be read, a record lacks a field, or an image is not there.

    Source:
        Prismatic's `lrv_instruct.py`; as for `merge_lvis4v`.
    """
    numbers = random.Random(_SEED)  # noqa: S311  (the published order)
    written = []
    with RowSpool(folder) as spool:
        added = spool.extend(_lrv_records(lrv, _image_check(images)))
        for path, name in ((base, LRV_NAME), (lvis4v_mix, LVIS4V_LRV_NAME)):
            first = spool.extend(read_rows(path))
            indices = [*first, *added]
            order = [indices[place] for place in _shuffled(numbers, len(indices))]
            spool.write(folder / name, order)
            written.append((folder / name, len(order)))
    return written


def strip_text_only(base: Path, folder: Path) -> tuple[Path, int, int]:
    """The records that name an image, in their order: `llava_v1_5_stripped625k.json`.

    Prismatic's configurations name this file, nothing makes it. Of the 665,298 records 40,688 are text
    only (ShareGPT); leaving those out leaves 624,610, which is the 625k of the name.

    Returns:
        The file written, its records, and the text-only records left out.

    Raises:
        SourceError: `base` can't be read.
    """
    left_out = 0

    def kept() -> Iterator[Any]:
        nonlocal left_out
        for row in read_rows(base):
            if row.get("image") is None:
                left_out += 1
            else:
                yield row

    return folder / STRIPPED_NAME, write_rows(folder / STRIPPED_NAME, kept()), left_out


def _shuffled(numbers: random.Random, size: int) -> list[int]:
    order = list(range(size))
    for _ in range(_SHUFFLES):
        numbers.shuffle(order)
    return order


def _image_check(images: Path | None) -> Check | None:
    if images is None:
        return None

    def check(row: Any, where: str) -> None:
        image = row.get("image")
        if not isinstance(image, str) or not (images / image).is_file():
            raise SourceError(
                f"{where}: the image {image!r} is not below {images}; fetch it, or correct --images"
            )

    return check


def _lrv_records(folder: Path, check: Check | None) -> Iterable[Any]:
    for name in (*_LRV_PICTURES, _LRV_CHARTS):
        for number, row in enumerate(read_rows(folder / name)):
            where = f"{folder / name}: row {number}"
            for key, kinds in (("image_id", (str, int)), ("question", str), ("answer", str)):
                if not isinstance(row.get(key), kinds):
                    raise SourceError(f"{where}: {key} is {row.get(key)!r}; is this a file of LRV-Instruct?")
            record = _lrv_record(row, is_chart=name == _LRV_CHARTS)
            if check is not None:
                check(record, where)
            yield record


def _lrv_record(row: Any, *, is_chart: bool) -> dict[str, Any]:
    name = row["image_id"]
    return {
        "id": PurePosixPath(str(name)).stem if is_chart else name,
        "image": f"lrv/lrv-chart/{name}" if is_chart else f"lrv/lrv-vg/{name}.jpg",
        "conversations": [
            {"from": "human", "value": f"<image>\n{row['question'].strip()}"},
            {"from": "gpt", "value": row["answer"].strip()},
        ],
    }
