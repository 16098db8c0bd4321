"""Every error the two packages raise on purpose, in one tree.

    WeaveError
    |-- ConfigError         the configuration or the command line is wrong           exit 2
    |-- SourceError         source, credentials, store or device; before any work    exit 3
    |   |-- StoreError      the object store refused or could not be reached
    |   `-- DeviceError     a GPU, weight file or package that was asked for is not there
    |-- RejectLimitError    more clips were rejected than `rejects.max_fraction`     exit 4
    |-- VerificationError   stored bytes are not what the manifest promises          exit 5
    |-- IncompleteError     circumstances (time-outs, kills, store) left parts open  exit 6
    |-- ConflictError       another build or run owns this name by now               exit 2
    |-- CommitError         an exact stage gave other bytes for a committed file     exit 5
    |-- DecodeError         one clip's content can't be decoded (becomes a reject)
    |-- TrainingError       a training step or checkpoint can't be trusted             exit 1
    `-- AccountingError     clips in != clips out + filtered + rejected + duplicates exit 5

A message says what was wrong, the value, the rule and the next action. The command line turns
these into one line and the exit code; `--debug` shows the traceback.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AccountingError",
    "CommitError",
    "ConfigError",
    "ConflictError",
    "DecodeError",
    "DeviceError",
    "IncompleteError",
    "RejectLimitError",
    "SourceError",
    "StoreError",
    "TrainingError",
    "VerificationError",
    "WeaveError",
]


class WeaveError(Exception):
    """Root of every deliberate error; `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(WeaveError):
    """One or more settings are wrong; all problems of a file are reported together.

    Args:
        problems: One line each, `dotted.path: problem`.
        origin: File or flag list the settings came from.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str] | str, *, origin: str = "") -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.origin = origin
        prefix = f"{origin}: " if origin else ""
        super().__init__("\n".join(prefix + problem for problem in self.problems))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_config_error, (self.problems, self.origin)


def _rebuild_config_error(problems: tuple[str, ...], origin: str) -> ConfigError:
    return ConfigError(problems, origin=origin)


class SourceError(WeaveError):
    """The source, its credentials or a device is not usable; raised before any work is done."""

    exit_code = 3


class StoreError(SourceError):
    """An object store refused a request or could not be reached after retries.

    Attributes:
        is_transient: The same request may succeed later: nobody answered, too busy, a reply broke off.
        is_refusal: The credentials were refused: no request succeeds until somebody renews them.
    """

    is_transient = False
    is_refusal = False


class DeviceError(SourceError):
    """A GPU, weight file or package that the configuration asks for is not there."""


class RejectLimitError(WeaveError):
    """The rejected fraction passed `rejects.max_fraction`: the input is systemically wrong."""

    exit_code = 4


class VerificationError(WeaveError):
    """Stored bytes differ from what the manifest promises."""

    exit_code = 5


class AccountingError(VerificationError):
    """A stage lost or invented clips: in != out + filtered + rejected + duplicates."""


class CommitError(VerificationError):
    """An exact stage produced other bytes than the ones already committed under the same name."""


class IncompleteError(WeaveError):
    """Circumstances left parts uncommitted; the same command resumes them."""

    exit_code = 6


class ConflictError(WeaveError):
    """A recipe of this name is published with other settings, or was published meanwhile."""

    exit_code = 2


class TrainingError(WeaveError):
    """A step can't be taken or a checkpoint can't be used; the run stops with its last checkpoint."""


class DecodeError(WeaveError):
    """One clip's content can't give the frames asked for.

    Args:
        reason: Value of a `records.RejectReason` that is a property of the bytes.
        detail: What was found, with values.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")

    def __reduce__(self) -> tuple[object, ...]:
        return DecodeError, (self.reason, self.detail)
