"""Flags of `weave-train pretrain`, which several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weave_data.errors import ConfigError

if TYPE_CHECKING:
    from weave_train.config import PretrainConfig

__all__ = ["pretrain_config"]


def pretrain_config(words: Sequence[str]) -> PretrainConfig:
    """Settings from flags, and from the file that `--config` names; flags win.

    Raises:
        ConfigError: All that is wrong with them.
    """
    from weave_data.config import read_yaml
    from weave_train.config import PretrainConfig, load_pretrain_config, parse_flags

    flags = parse_flags(words, model=PretrainConfig)
    file = next((str(value) for path, value in flags if path == "config"), None)
    values = read_yaml(_read(Path(file)), origin=file) if file is not None else None
    return load_pretrain_config([(path, value) for path, value in flags if path != "config"], values=values)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"config: can't read {path}: {error.strerror}", origin="command line") from error
