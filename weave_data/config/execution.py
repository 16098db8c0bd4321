"""Where and how a build runs, and how much it may refuse."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from weave_data.config.loading import StrictModel

__all__ = ["ExecutionConfig", "RejectsConfig"]


class RejectsConfig(StrictModel):
    """How many clips may be refused before the run stops, and clips given up on explicitly."""

    max_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    quarantine: list[str] = Field(default_factory=list)


class ExecutionConfig(StrictModel):
    """Where and how a build runs. Nothing here reaches a key, a fingerprint or a data file.

    `num_cpus: null` means all cores; `gpus` embedding actors' GPUs in total; `ray_address: null`
    a private local Ray, or the cluster of the job under `ray job submit`; `in_process: true` runs
    without Ray, one part at a time (tests, debugging).
    """

    num_cpus: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[float, Field(ge=0)] = 0
    gpus_per_actor: Annotated[float, Field(gt=0, le=8)] = 1.0
    work_dir: str | None = None
    ray_address: str | None = None
    in_process: bool = False
    clip_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    clip_memory_bytes: Annotated[int, Field(ge=1 << 28)] = 4 << 30
