"""The way into a Ray cluster, with what can be wrong said in one line."""

from __future__ import annotations

import os

from weave_data.errors import SourceError

__all__ = ["connect", "one_line"]

_OTHER_VERSIONS = "Version mismatch"


def connect(*, log_to_driver: bool) -> None:
    """Connect to the cluster of RAY_ADDRESS, or start one on this machine; nothing where this is done.

    Args:
        log_to_driver: Whether what workers print comes here.

    Raises:
        SourceError: No cluster answers, or it refuses the token or this process's versions.
    """
    import ray
    from ray.exceptions import AuthenticationError

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address, log_to_driver=log_to_driver)
    except ConnectionError as error:
        raise SourceError(
            f"RAY_ADDRESS: no Ray cluster answers at {address!r} ({one_line(error)}); start one with "
            "`ray start --head`, or unset it for one on this machine"
        ) from error
    except AuthenticationError as error:
        raise SourceError(
            f"RAY_ADDRESS: the Ray cluster at {address!r} refuses us ({one_line(error)}); set "
            "RAY_AUTH_MODE=token and the cluster's token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or "
            "~/.ray/auth_token)"
        ) from error
    except RuntimeError as error:  # Ray has no class for it
        if _OTHER_VERSIONS not in str(error):
            raise
        raise SourceError(
            f"RAY_ADDRESS: the Ray cluster at {address!r} has other versions than this process "
            f"({one_line(error)}); run one image, or the same Python and constraints.txt, "
            "on every node and here"
        ) from error


def one_line(error: object) -> str:
    """The beginning of an error's text, without its breaks."""
    return " ".join(str(error).split())[:300]
