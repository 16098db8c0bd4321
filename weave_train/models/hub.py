"""Files of a published model: from a local directory or the hub's cache, else downloaded once.

Nobody's token is sent unless the hub asks for one: the first request is anonymous, and only when it is
answered with "gated" is `--hf_token` read. The token goes to the hub and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

from weave_data.errors import ConfigError, DeviceError
from weave_train.language_source import LanguageSource

__all__ = ["fetch_file", "first_line", "from_published", "read_token"]

T = TypeVar("T")


def from_published(
    load: Callable[..., T], source: LanguageSource, *, what: str, hf_token: str | None = None, **options: Any
) -> T:
    """Call a `from_pretrained` of transformers; what it can't do is one error.

    Args:
        load: The call.
        source: With a location.
        what: Is loaded, for messages: `the configuration`.
        hf_token: File with a token of the hub, or name of an environment variable that holds it.
        options: Handed on.

    Raises:
        ConfigError: What is there is not what transformers knows, or would have to run code of its own.
        DeviceError: It is not there, gated, or the hub can't be reached.
    """
    from safetensors import SafetensorError

    assert source.location is not None
    options = {"trust_remote_code": False, **options}
    # transformers would ask a service to convert older files, in the background
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        if source.is_local:
            return load(source.location, local_files_only=True, **options)
        try:
            return load(source.location, token=False, **options)
        except OSError as error:
            # looking for weights, transformers takes "gated" for "no such file"
            is_gated = _is_gated(error) or _is_closed(source.location)
            token = read_token(hf_token) if is_gated else None
            if token is None:
                raise
        return load(source.location, token=token, **options)
    except (OSError, SafetensorError, UnpicklingError) as error:
        raise DeviceError(_no_file(source, what, error)) from error
    except (ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"{source.flag}: {what} in {source.location!r} can't be used: {first_line(error)}; it must be a "
            "causal language model that transformers knows without code from elsewhere"
        ) from error


def fetch_file(repository: str, filename: str, *, hf_token: str | None = None) -> Path:
    """One file of a repository: from the hub's cache, else downloaded.

    Args:
        repository: `owner/name`.
        filename: Within it.
        hf_token: As `from_published` takes it.

    Raises:
        OSError, HfHubHTTPError: As `hf_hub_download` does.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, filename, token=False))
    except HfHubHTTPError as error:
        token = read_token(hf_token) if _is_gated(error) else None
        if token is None:
            raise
    return Path(hf_hub_download(repository, filename, token=token))


def read_token(hf_token: str | None) -> str | None:
    """Token of the hub: in the named file, else in the environment variable of that name, or `hf_token`
    itself where it is one, else whoever is logged in on this machine; None where there is none.
    """
    from huggingface_hub import get_token

    if hf_token is not None:
        path = Path(hf_token)
        found = path.read_text(encoding="utf-8") if path.is_file() else os.environ.get(hf_token, "")
        if found.strip():
            return found.strip()
        if hf_token.startswith("hf_"):
            return hf_token
    return get_token()


def _no_file(source: LanguageSource, what: str, error: Exception) -> str:
    name = f"{source.flag}: {what} of {source.location!r}"
    if source.is_local:
        return f"{name} can't be read: {first_line(error)}; copy the whole directory of the model"
    if _is_gated(error):
        return (
            f"{name}: the hub wants a token of an account that may read this model; accept its licence there "
            "and name a file or an environment variable with your token in --hf_token"
        )
    return (
        f"{name} can't be had from the hub: {first_line(error)}; check the name and the network, or give a "
        "local copy (--model.llm_weights DIR for a named id, --model.llm_backbone_id hf:DIR for any other)"
    )


def _is_gated(error: BaseException) -> bool:
    """Refused for want of rights: gated, or private, which looks as if it were not there."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (GatedRepoError, RepositoryNotFoundError)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _is_closed(repository: str) -> bool:
    """True when the hub says so itself; False when it can't be asked."""
    import httpx2
    from huggingface_hub import auth_check
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        auth_check(repository, token=False)
    except (GatedRepoError, RepositoryNotFoundError):
        return True
    except (HfHubHTTPError, OSError, httpx2.HTTPError):
        return False
    return False


def first_line(error: BaseException) -> str:
    """What an error says, without what follows its first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
