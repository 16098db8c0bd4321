"""Messages and images: one JSON that LLaMA-Factory and ms-swift both read, with the frames as files.

    <recipe>-<sha>-train.json    [{"messages": [{"role": "user", "content": "<image><image>..."}, ...],
                                   "images": ["frames/a/000000.jpg", ...]}]
    dataset_info.json            LLaMA-Factory finds it as `<recipe>-train` when `dataset_dir` is this folder
    frames/a/000000.jpg          frames as they are stored, called by their index in the clip

Both tools want one `<image>` in the messages for every entry of `images`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weave_data.errors import ConfigError
from weave_data.export.files import clip_folder, committing, suffix_of
from weave_data.records import WovenSample
from weave_data.storage import Store

__all__ = ["ShareGptWriter", "dataset_info"]

_TOKEN = "<image>"  # noqa: S105 (where a picture goes, not a secret)
_ROLES = {"human": "user", "gpt": "assistant"}


def dataset_info(files: Mapping[str, str]) -> dict[str, Any]:
    """LLaMA-Factory's description of the files of an export.

    Args:
        files: File by the name that `dataset:` gives: `{"l4-train": "l4-0123456789ab-train.json"}`.

    Source:
        The `data/README.md` of LLaMA-Factory: formatting, columns and tags of multimodal sharegpt data.
    """
    return {
        name: {
            "file_name": file,
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
            },
        }
        for name, file in files.items()
    }


class ShareGptWriter:
    """Writes the frames of samples and tells their records.

    Args:
        target: Where the export goes.
    """

    def __init__(self, target: Store) -> None:
        self._target = target

    def write(self, _: str, samples: Iterable[WovenSample]) -> list[dict[str, Any]]:
        """Commit the frames of some samples; returns their records.

        Raises:
            ConfigError: A text holds `<image>` where no picture belongs.
        """
        records = []
        written: set[str] = set()
        with committing(self._target) as commit:
            for sample in samples:
                files = dict(zip(_names(sample), sample.frames, strict=True))
                new = {name: data for name, data in files.items() if name not in written}
                commit(new)
                written.update(new)
                own_id = sample.sample_id if sample.record_id is None else sample.record_id
                records.append({"id": own_id, "messages": _messages(sample), "images": _names(sample)})
        return records

    def resume(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Names depend on nothing that was written before."""


def _names(sample: WovenSample) -> list[str]:
    names = []
    for slot, index, data in zip(sample.frame_clip, sample.frame_index, sample.frames, strict=True):
        folder = f"frames/{clip_folder(sample.clips[slot].clip_id)}"
        suffix = suffix_of(data, name=f"sample {sample.sample_id}: frame {index} of {folder}")
        names.append(f"{folder}/{index:06d}.{suffix}")
    return names


def _messages(sample: WovenSample) -> list[dict[str, str]]:
    texts = [turn.value for turn in sample.conversations]
    count = sum(text.count(_TOKEN) for text in texts)
    pictures = _TOKEN * sample.num_frames
    if count == 0:
        texts[0] = pictures + ("\n" if pictures else "") + texts[0]
    elif count == 1 and sample.num_frames and _TOKEN in texts[0]:
        texts[0] = texts[0].replace(_TOKEN, pictures)
    elif count != sample.num_frames:
        raise ConfigError(
            f"sample {sample.sample_id}: its texts hold {count} {_TOKEN} for {sample.num_frames} frames; one "
            "in the first turn stands for all of them, or one for each; correct the captions or prompts"
        )
    roles = [_ROLES[turn.speaker] for turn in sample.conversations]
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
