"""What a task's `doc_to_visual` gives becomes the frames a run would have been trained on.

["videos/a.mp4"]            T frames, decoded in a process of their own
["frames/"], ["a.jpg"]      images of a folder, one image
[PIL, PIL, ...]             frames; more than T: T of them, evenly, both ends among them
[], None                    a question about nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from weave_data.errors import SourceError
from weave_data.frame_policy import linspace_indices
from weave_train.config import ModelSettings
from weave_train.models.media import frames_from_folder, frames_from_image, is_image_name
from weave_train.models.video import VideoReader

__all__ = ["VisualReader"]

_KEPT_VIDEOS = 4  # questions about one video follow each other


class VisualReader:
    """Reads the visuals of one document after the other. Not for several threads.

    Args:
        settings: Of the run; its `num_frames` is T.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._videos: VideoReader | None = None
        self._kept: dict[str, list[bytes]] = {}

    def frames(self, visuals: Any) -> list[bytes | Image.Image]:
        """Frames of a document in order.

        Args:
            visuals: Paths, PIL images, lists of these, or None.

        Raises:
            SourceError: Something of another kind, or a file that can't be read; lmms-eval has no place
                for a question without an answer, so the evaluation ends.
        """
        flat = _flat(visuals)
        images = [item for item in flat if isinstance(item, Image.Image)]
        most = self._settings.num_frames
        if len(images) == len(flat) > most:
            return [images[index] for index in linspace_indices(len(images), most).tolist()]
        frames: list[bytes | Image.Image] = []
        for item in flat:
            frames += [item] if isinstance(item, Image.Image) else self._of_path(item)
        return frames

    def close(self) -> None:
        """End the decoder's process."""
        if self._videos is not None:
            self._videos.close()
            self._videos = None

    def _of_path(self, item: Any) -> Sequence[bytes]:
        if not isinstance(item, (str, Path)):
            raise SourceError(
                f"doc_to_visual: {type(item).__name__} is neither an image nor a path; "
                "this model sees videos and images only"
            )
        path = Path(item)
        if path.is_dir():
            return frames_from_folder(path, self._settings)
        if is_image_name(path.name):
            return frames_from_image(path)
        if str(path) not in self._kept:
            while len(self._kept) >= _KEPT_VIDEOS:
                del self._kept[next(iter(self._kept))]
            self._kept[str(path)] = self._of_video(path)
        return self._kept[str(path)]

    def _of_video(self, path: Path) -> list[bytes]:
        if self._videos is None:
            self._videos = VideoReader(self._settings)
        try:
            return self._videos.read(path.read_bytes())
        except OSError as error:
            raise SourceError(f"{path}: can't be read: {error.strerror}; fetch the task's videos") from error
        except SourceError as error:
            raise SourceError(f"{path}: {error}") from error


def _flat(visuals: Any) -> list[Any]:
    if visuals is None:
        return []
    if isinstance(visuals, (list, tuple)):
        return [leaf for item in visuals for leaf in _flat(item)]
    return [visuals]
