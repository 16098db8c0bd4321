"""Samples about one image as samples of video form, with one frame or two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.errors import AccountingError
from weave_data.records import SAMPLE_SCHEMA

__all__ = ["Conversion", "ImageToVideo", "convert_images"]

ImageToVideo = Literal["none", "1-frame", "2-frame"]

# (whose conversation, which frame first) of a pair's four samples: 0 its earlier sample, 1 its later one
_CONVERSATION = np.array([1, 0, 1, 0])
_FIRST_FRAME = np.array([0, 0, 1, 1])


@dataclass(frozen=True)
class Conversion:
    """Samples after a conversion.

    Attributes:
        samples: SAMPLE_SCHEMA.
        is_used: bool[n] over the samples that came in: it is in the result.
        filtered: Samples that came in and are not used, by reason; with the used ones they add up to n.
    """

    samples: pa.Table
    is_used: npt.NDArray[np.bool_]
    filtered: Mapping[str, int]


def convert_images(
    samples: pa.Table, is_one_image: npt.NDArray[np.bool_], *, form: ImageToVideo
) -> Conversion:
    """Convert samples about one image; a pure function of the samples' order.

    Args:
        samples: SAMPLE_SCHEMA, n rows.
        is_one_image: bool[n]: the sample has one clip and that is an image.
        form: `none` and `1-frame` keep every sample: an image is a clip of one frame already.
            `2-frame` pairs samples 0 and 1, 2 and 3, ...: if both are about one image, both
            conversations are asked over both orders of the two images, four samples a pair. What has no
            such neighbour is `unpaired`; samples about anything but one image are `not_one_image`.

    Returns:
        The samples, in the pairs' order. Keys of new samples are the key of the sample whose
        conversation they hold, with `#2-frame-01` (images in order) or `#2-frame-10`.

    Raises:
        AccountingError: `is_one_image` is not of the samples' length.

    Source:
        VideoWeave, `convert_to_video.py`. Differs: it meant these four samples, but left one of them
        without frames and gave another the wrong order, and dropped the rest without a count. As
        there, nothing in the text says which of the two frames is asked about.
    """
    if len(is_one_image) != samples.num_rows:
        raise AccountingError(f"{samples.num_rows} samples, {len(is_one_image)} marks; please report this")
    if form != "2-frame":
        return Conversion(samples, np.ones(samples.num_rows, dtype=bool), {})
    num_pairs = samples.num_rows // 2
    both = is_one_image[: 2 * num_pairs].reshape(-1, 2).all(axis=1)
    is_used = np.zeros(samples.num_rows, dtype=bool)
    is_used[: 2 * num_pairs] = np.repeat(both, 2)
    earlier = 2 * np.flatnonzero(both)
    num_other = int((~is_one_image).sum())
    filtered = {"not_one_image": num_other, "unpaired": int((~is_used).sum()) - num_other}
    return Conversion(
        _two_frame(samples, earlier), is_used, {reason: count for reason, count in filtered.items() if count}
    )


def _two_frame(samples: pa.Table, earlier: npt.NDArray[np.int64]) -> pa.Table:
    """Four samples for each of the pairs that begin at these rows."""
    rows = (earlier[:, None] + _CONVERSATION).ravel()
    first = (earlier[:, None] + _FIRST_FRAME).ravel()
    second = (earlier[:, None] + 1 - _FIRST_FRAME).ravel()
    images = pc.list_element(samples["clip_ids"].filter(_has_clips(samples)), 0)
    index = np.cumsum(_has_clips(samples).to_numpy()) - 1  # row of a sample among those with clips
    frames = np.stack([index[first], index[second]], axis=1).ravel()
    offsets = pa.array(np.arange(0, 2 * len(rows) + 1, 2, dtype=np.int32))
    names = pa.array(["#2-frame-01", "#2-frame-10"]).take(pa.array(np.tile(_FIRST_FRAME, len(earlier))))
    taken = samples.take(pa.array(rows))
    keys = pc.binary_join_element_wise(taken["sample_key"], pa.chunked_array([names]), "")
    clip_ids = pa.ListArray.from_arrays(
        offsets,
        images.take(pa.array(frames)).combine_chunks(),
        type=SAMPLE_SCHEMA.field("clip_ids").type,
    )
    columns = [keys, pa.chunked_array([clip_ids]), taken["conversations"], taken["record_id"]]
    return pa.table(columns, schema=SAMPLE_SCHEMA)


def _has_clips(samples: pa.Table) -> pa.ChunkedArray:
    return pc.greater(pc.list_value_length(samples["clip_ids"]), 0)
