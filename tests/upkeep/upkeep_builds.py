"""The small configuration of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_builds import settings

from weave_data.config import BuildConfig, load_config, parse_overrides


def configuration(source: Path | str, output: Path | str, *overrides: str, **extra: Any) -> BuildConfig:
    """The small configuration with overrides; `recipes=[...]` adds recipes."""
    values = settings(str(source), str(output))
    values["recipes"] += extra.get("recipes", [])
    return load_config(BuildConfig, values, overrides=parse_overrides(overrides), origin="test")
