"""Builds over folders of hostile media, good clips among them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostile_media import Variant
from rendering import Rendering, render_video

from weave_data.config import BuildConfig, load_config

__all__ = ["HostileFolder"]

_SUFFIXES = {"video": "mp4", "image": "jpg"}


@dataclass(frozen=True)
class HostileFolder:
    """Where the media and their manifest lie, and where a build of them goes."""

    root: Path

    def fill(self, inputs: Iterable[Variant], commands: Sequence[bytes], *, num_good: int) -> list[str]:
        """Write all of them, mixed, and return the good clips' ids."""
        rows = [(variant.kind, _SUFFIXES[variant.media], variant.data) for variant in inputs]
        rows += [("command", "mp4", command) for command in commands]
        good = [render_video(Rendering(num_frames=20 + number % 5)) for number in range(min(5, num_good))]
        step, ids = max(1, len(rows) // num_good), []
        for number in range(num_good):
            rows.insert(number * (step + 1), ("good", "mp4", good[number % len(good)]))
        videos = self.root / "videos"
        videos.mkdir(parents=True)
        with (self.root / "rows.jsonl").open("w", encoding="utf-8") as lines:
            for number, (kind, suffix, data) in enumerate(rows):
                (videos / f"{number:05d}.{suffix}").write_bytes(data)
                ids += [f"{number:05d}"] if kind == "good" else []
                row = {"path": f"{number:05d}.{suffix}", "caption": f"this is {kind}, number {number}"}
                lines.write(json.dumps(row) + "\n")
        return ids

    def config(self, *, decoder: str, quarantine: Sequence[str] = (), **execution: object) -> BuildConfig:
        """One recipe of one clip a sample; as many rejects as there are clips."""
        values = {
            "source": {
                "kind": "manifest",
                "catalog": str(self.root / "rows.jsonl"),
                "videos": str(self.root / "videos"),
                "columns": {"path": "path", "caption": "caption"},
                "part_clips": 32,
            },
            "frames": {"short_side_px": 64},
            "embedding": {"model": "none"},
            "recipes": [{"name": "one", "strategy": "single", "frames_per_sample": 4}],
            "rejects": {"max_fraction": 1.0, "quarantine": list(quarantine)},
            "output": str(self.root / "woven"),
            "execution": execution,
        }
        config = load_config(BuildConfig, values, origin="test")
        # the configuration knows two decoders only; tests bring theirs past its validation
        return config.model_copy(update={"frames": config.frames.model_copy(update={"decoder": decoder})})
