"""How large the demo is, and where everything lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["PROMPT", "Demo"]

PROMPT = "Describe what is happening in the video."


@dataclass(frozen=True)
class Demo:
    """Sizes, and places relative to the repository's root."""

    work_dir: Path = Path("build/demo")
    num_clips: int = 400
    num_heldout: int = 64
    num_steps: int = 450
    seed: int = 7

    @property
    def train_output(self) -> Path:
        """What is built from the rendered clips."""
        return self.work_dir / "woven"

    @property
    def real_output(self) -> Path:
        """What is built from the real clips."""
        return self.work_dir / "real"

    @property
    def heldout_output(self) -> Path:
        """The held-out clips, built as the training clips are."""
        return self.work_dir / "heldout"

    @property
    def run_dir(self) -> Path:
        """The trained model."""
        return self.work_dir / "runs" / "tiny"

    @property
    def sheet(self) -> Path:
        """Picture of three woven samples."""
        return self.work_dir / "sheet.png"
