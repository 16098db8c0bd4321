"""Samples to describe and compare with their captions, as `weave-train evaluate --task captions` reads them.

    <recipe>-<sha>-val.json       [{"id", "video": "frames/<sample>", "prompt": ..., "captions": ["..."]}]
    frames/<sample>/000000.jpg    frames as they are stored, in the sample's order

The prompt is the sample's own, the reference its answer: of a woven sample, the captions of its clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weave_data.errors import ConfigError
from weave_data.export.files import clip_folder, committing, suffix_of
from weave_data.records import WovenSample
from weave_data.storage import Store

__all__ = ["CaptionsWriter"]

_TOKEN = "<image>"  # noqa: S105 (where a picture goes, not a secret)


class CaptionsWriter:
    """Writes the frames of samples and tells their records.

    Args:
        target: Where the export goes.
    """

    def __init__(self, target: Store) -> None:
        self._target = target

    def write(self, _: str, samples: Iterable[WovenSample]) -> list[dict[str, Any]]:
        """Commit the frames of some samples; returns their records.

        Raises:
            ConfigError: A sample has no frames, or more than one question and answer.
        """
        records = []
        with committing(self._target) as commit:
            for sample in samples:
                folder = f"frames/{clip_folder(sample.sample_id)}"
                records.append(_record(sample, folder))
                commit({f"{folder}/{_name(sample, n)}": data for n, data in enumerate(sample.frames)})
        return records

    def resume(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Names depend on nothing that was written before."""


def _name(sample: WovenSample, place: int) -> str:
    suffix = suffix_of(sample.frames[place], name=f"sample {sample.sample_id}: frame {place}")
    return f"{place:06d}.{suffix}"


def _record(sample: WovenSample, folder: str) -> dict[str, Any]:
    speakers = [turn.speaker for turn in sample.conversations]
    if not sample.num_frames or speakers != ["human", "gpt"]:
        raise ConfigError(
            f"sample {sample.sample_id}: {sample.num_frames} frames and {len(speakers)} turns; a caption is "
            "one question and one answer about a video: export a recipe of captioned clips"
        )
    asked, caption = (turn.value for turn in sample.conversations)
    prompt = asked.replace(_TOKEN, "").strip()
    return {
        "id": sample.sample_id if sample.record_id is None else sample.record_id,
        "video": folder,
        "prompt": prompt,
        "captions": [caption],
    }
