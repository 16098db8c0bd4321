"""The token of a Hugging Face account, for models that are given to those who ask only."""

from __future__ import annotations

import os
from pathlib import Path

from weave_data.errors import ConfigError

__all__ = ["read_hub_token"]

_DEFAULT = ".hf_token"


def read_hub_token(hf_token: str) -> str | None:
    """Read a token where `--hf_token` says: a file, or a variable of the environment.

    Call it when something is about to be fetched; a run that fetches nothing needs no token.

    Args:
        hf_token: Path of a file, or the name of an environment variable.

    Returns:
        The token; None where the default file is not there. It is for the hub alone: never to be printed,
        logged or stored.

    Raises:
        ConfigError: What was asked for by name is not there, or is empty.
    """
    path = Path(hf_token)
    if path.is_file():
        token = path.read_text(encoding="utf-8").strip()
    else:
        token = os.environ.get(hf_token, "").strip()
    if token:
        return token
    if hf_token == _DEFAULT and not path.is_file():
        return None
    where = f"the file {hf_token!r} is empty" if path.is_file() else f"no file and no variable {hf_token!r}"
    raise ConfigError(
        f"hf_token: {where}; name a file with the token or an environment variable that holds it"
    )
