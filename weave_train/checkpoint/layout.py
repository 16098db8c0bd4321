"""What lies where in a run's store, and what makes a step complete.

    checkpoints/step-000123/<attempt>/weights-00000-000.safetensors    pieces of the master weights
                                      optimizer-00000-000.safetensors  pieces of the optimizer's states
                                      receipt-00000.json               what a rank wrote
                            complete.json                              last: without it the step is not there
    frozen/<part>-<sha256>/           weights that are not trained, once per run; see `frozen`
    config.json, tokenizer/, language/                                 see `run_files`

The store is the run directory or `--checkpoint.uri`. Each save writes below a name of its own
(`attempt`), so that what a killed save left can't be mistaken for another's. No torch is imported here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from weave_data.errors import ConfigError, VerificationError
from weave_data.storage import Store, open_store
from weave_train.checkpoint.pieces import Piece

__all__ = [
    "CHECKPOINT_VERSION",
    "Checkpoint",
    "Completion",
    "complete_key",
    "complete_steps",
    "find_checkpoint_at",
    "newest_checkpoint",
    "read_checkpoint",
    "run_checkpoints",
    "step_key",
]

CHECKPOINT_VERSION = 2
_COMPLETE_KEY = re.compile(r"checkpoints/step-(\d{6,})/complete\.json")
_STEP_URI = re.compile(r"(?P<root>.*?)/?checkpoints/step-(?P<step>\d{6,})/?")


@dataclass(frozen=True)
class Completion:
    """What `complete.json` says beside the files.

    Attributes:
        step: Optimizer steps taken.
        shapes: Of every trained parameter.
        frozen: sha256 of each part's frozen weights, by part.
        state: What training needs to go on, JSON-able.
        world_size: Ranks that write.
    """

    step: int
    shapes: Mapping[str, tuple[int, ...]]
    frozen: Mapping[str, str]
    state: Mapping[str, Any]
    world_size: int

    def to_json(self, pieces: Sequence[Piece]) -> bytes:
        """Content of `complete.json`."""
        values = {
            "version": CHECKPOINT_VERSION,
            "step": self.step,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "pieces": [asdict(piece) for piece in sorted(pieces, key=lambda piece: piece.file)],
            "frozen": dict(self.frozen),
            "state": dict(self.state),
            "world_size": self.world_size,
        }
        return json.dumps(values, indent=1).encode()


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint in a run's store; see `Completion`."""

    store: Store
    step: int
    shapes: Mapping[str, tuple[int, ...]]
    pieces: tuple[Piece, ...]
    frozen: Mapping[str, str]
    state: Mapping[str, Any]
    world_size: int

    @property
    def uri(self) -> str:
        """Where it lies, as `--resume` takes it."""
        return f"{self.store.uri}/{step_key(self.step)}"

    def key_of(self, piece: Piece) -> str:
        """Key of a file in the run's store."""
        return f"{step_key(self.step)}/{piece.file}"


def step_key(step: int) -> str:
    """Prefix of one step's objects, without a slash at its end."""
    return f"checkpoints/step-{step:06d}"


def complete_key(step: int) -> str:
    """Key of the object that makes a step exist."""
    return f"{step_key(step)}/complete.json"


def complete_steps(store: Store) -> list[int]:
    """Steps with a complete checkpoint, ascending."""
    found = (_COMPLETE_KEY.fullmatch(info.key) for info in store.list("checkpoints/step-"))
    return sorted(int(match[1]) for match in found if match)


def read_checkpoint(store: Store, step: int) -> Checkpoint:
    """Describe a complete checkpoint; no tensor is read.

    Raises:
        ConfigError: Not complete.
        VerificationError: Of another version, not readable, or a file is missing or has another size.
    """
    uri = f"{store.uri}/{step_key(step)}"
    sizes = {info.key: info.size_bytes for info in store.list(f"{step_key(step)}/")}
    if complete_key(step) not in sizes:
        raise ConfigError(
            f"{uri}: no complete checkpoint: there is no complete.json in it; name another step"
        )
    try:
        values = json.loads(store.get(complete_key(step)))
        if values.get("version") != CHECKPOINT_VERSION:
            raise VerificationError(
                f"{uri}: checkpoint version {values.get('version')!r}, "
                f"this version reads {CHECKPOINT_VERSION}"
            )
        checkpoint = Checkpoint(
            store=store,
            step=values["step"],
            shapes={name: tuple(shape) for name, shape in values["shapes"].items()},
            pieces=tuple(Piece(**piece) for piece in values["pieces"]),
            frozen=values["frozen"],
            state=values["state"],
            world_size=values["world_size"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerificationError(f"{uri}/complete.json: damaged: {error}; {_go_back(uri)}") from error
    for piece in checkpoint.pieces:
        if sizes.get(checkpoint.key_of(piece)) != piece.bytes:
            raise VerificationError(
                f"{uri}/{piece.file}: missing or not {piece.bytes} bytes long; {_go_back(uri)}"
            )
    return checkpoint


def newest_checkpoint(store: Store) -> Checkpoint | None:
    """The complete checkpoint of the highest step.

    Raises:
        VerificationError: It is damaged.
    """
    steps = complete_steps(store)
    return read_checkpoint(store, steps[-1]) if steps else None


def find_checkpoint_at(uri: str) -> Checkpoint:
    """The checkpoint that an address means: a step's prefix, or a run's newest.

    Args:
        uri: `RUN`, `RUN/checkpoints/step-<n>`, or the same below `s3://`.

    Raises:
        ConfigError: There is none.
        VerificationError: See `read_checkpoint`.
    """
    named = _STEP_URI.fullmatch(uri)
    if named is not None:
        return read_checkpoint(open_store(named["root"] or "."), int(named["step"]))
    store = run_checkpoints(uri)
    newest = newest_checkpoint(store)
    if newest is None:
        raise ConfigError(
            f"{store.uri}: there is no complete checkpoint in it; give a run directory or one of its "
            "checkpoints/step-<n>"
        )
    return newest


def run_checkpoints(uri: str) -> Store:
    """Where the checkpoints of a run lie: a run directory whose go elsewhere says so in its configuration.

    Args:
        uri: Run directory or its `--checkpoint.uri`.
    """
    store = open_store(uri)
    if next(store.list("config.json"), None) is None:
        return store
    try:
        values = json.loads(store.get("config.json"))
        uri = values["pretrain"]["checkpoint"]["uri"]
    except (ValueError, KeyError, TypeError):
        return store
    return open_store(uri) if uri else store


def _go_back(uri: str) -> str:
    return f"delete {uri}/complete.json to go on from the checkpoint before, or restore the file"
