"""What a model is asked: a prompt per distinct caption and kind."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import pyarrow as pa
import pyarrow.compute as pc

from weave_data.config.loading import read_yaml
from weave_data.errors import ConfigError
from weave_data.records import canonical_json

__all__ = ["Prompt", "ask_ids", "distinct_asks", "read_prompts"]

_SLOT = "{caption}"


@dataclass(frozen=True)
class Prompt:
    """What a model is told about one kind of answer."""

    system: str
    user: str

    @property
    def sha256(self) -> str:
        """Of both texts."""
        return hashlib.sha256(canonical_json([self.system, self.user])).hexdigest()

    def messages(self, caption: str) -> list[dict[str, str]]:
        """The turns of one request."""
        user = {"role": "user", "content": self.user.replace(_SLOT, caption)}
        return [{"role": "system", "content": self.system}, user] if self.system else [user]


def read_prompts(text: str | None, kinds: Sequence[str], *, origin: str) -> dict[str, Prompt]:
    """Prompts of some kinds.

    Args:
        text: YAML; None: the ones that are shipped.
        kinds: `caption`, or types of questions.
        origin: Named in messages.

    Raises:
        ConfigError: A kind is missing or its `user` text has no `{caption}`.
    """
    if text is None:
        text = resources.files("weave_data.enrich").joinpath("prompts.yaml").read_text(encoding="utf-8")
    given = read_yaml(text, origin=origin)
    prompts, problems = {}, []
    for kind in kinds:
        entry = given.get(kind)
        texts = entry if isinstance(entry, dict) else {}
        user = texts.get("user")
        if not isinstance(user, str) or _SLOT not in user:
            problems.append(f"{kind}.user: a text with {_SLOT} in it is needed")
        else:
            prompts[kind] = Prompt(str(texts.get("system") or ""), user)
    if problems:
        raise ConfigError(problems, origin=origin)
    return prompts


def ask_ids(captions: pa.Array | pa.ChunkedArray, kind: str) -> pa.Array:
    """string[n]: sha256 of kind and caption, 32 hex digits; the same for equal captions."""
    prefix = f"{kind}\n".encode()
    texts = captions.cast(pa.binary()).to_pylist()
    return pa.array([hashlib.sha256(prefix + text).hexdigest()[:32] for text in texts], pa.string())


def distinct_asks(captions: pa.ChunkedArray, kinds: Sequence[str], answered: pa.Array) -> pa.Table:
    """What is still to be asked.

    Args:
        captions: string[n].
        kinds: One request each.
        answered: Ids that need no asking.

    Returns:
        `ask_id` (ascending, distinct), `kind`, `caption`.
    """
    texts = pc.unique(captions)
    tables = [
        pa.table({"ask_id": ask_ids(texts, kind), "kind": pa.repeat(kind, len(texts)), "caption": texts})
        for kind in kinds
    ]
    table = pa.concat_tables(tables)
    is_open = pc.invert(pc.is_in(table["ask_id"], value_set=answered))
    return table.filter(is_open).sort_by("ask_id")
