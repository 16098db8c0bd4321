"""What a node is asked, as JSON: it travels to Ray tasks and over ssh."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from weave_data.config import StrictModel

__all__ = ["Questions", "WeightQuestion"]


class WeightQuestion(StrictModel):
    """Weights that every node must be able to load.

    Attributes:
        what: For people: `embedder`, `tower`, `language model`.
        kind: `file`, `directory` (of transformers), `hub` (a repository, in the hub's cache), `url` (a file
            of open_clip's cache), `package` (importable).
        name: Path, repository, address or module.
        patterns: Of a directory or repository: for each tuple, one file must match one of its globs.
    """

    what: str
    kind: Literal["file", "directory", "hub", "url", "package"]
    name: str
    patterns: tuple[tuple[str, ...], ...] = ()


class Questions(StrictModel):
    """What to look at on a node.

    Attributes:
        packages: Distributions whose versions must be equal.
        decoder: Of videos; null: none is needed.
        formats: Of pictures that are written or read.
        weights: To be found.
        folders: Local folders that are written to, what for -> path; `{tmp}` is the temporary folder.
        readable: URIs that the node must be able to list.
        needs_torch: Import torch and look for GPUs.
        times_frames: Measure how long a stored frame takes to become pixels.
    """

    packages: tuple[str, ...]
    decoder: str | None = None
    formats: tuple[Literal["jpeg", "png"], ...] = ("jpeg",)
    weights: tuple[WeightQuestion, ...] = ()
    folders: dict[str, str] = Field(default_factory=dict)
    readable: tuple[str, ...] = ()
    needs_torch: bool = False
    times_frames: bool = False
