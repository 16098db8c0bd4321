"""Commit and retention, step by step: wherever they stop, what is complete is whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from stored_pieces import Held, write_checkpoint

from weave_data.storage import Committed, LocalStore, ObjectInfo
from weave_train.checkpoint.commit import Retention, apply_retention
from weave_train.checkpoint.layout import complete_key, complete_steps, newest_checkpoint, read_checkpoint
from weave_train.checkpoint.reading import read_weights


class Killed(BaseException):
    """The process is gone: nothing of ours runs any more."""


@dataclass
class FatalStore:
    """A local store that ends everything before write number `fatal_write`, or after it."""

    inner: LocalStore
    fatal_write: int
    is_after: bool
    writes: int = 0

    @property
    def uri(self) -> str:
        return self.inner.uri

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.inner.list(prefix)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def put_new(self, key: str, data: bytes | Path, *, sha256: str | None = None) -> Committed:
        self._count(False)
        committed = self.inner.put_new(key, data, sha256=sha256)
        self._count(True)
        return committed

    def delete(self, key: str) -> None:
        self._count(False)
        self.inner.delete(key)
        self._count(True)

    def _count(self, is_after: bool) -> None:
        if self.writes >= self.fatal_write + self.is_after:
            raise Killed
        self.writes += is_after


def save(store: object, step: int, attempt: str, retention: Retention | None = None) -> None:
    """Two ranks, two parameters; every element is the step."""
    ranks = [
        [Held(name, low, low + 5, torch.full((5,), float(step)), {"exp_avg": torch.zeros(5)})]
        for name, low in (("a", 0), ("a", 5))
    ]
    write_checkpoint(
        store,  # type: ignore[arg-type]
        ranks,
        step=step,
        shapes={"a": (10,)},
        attempt=attempt,
        retention=retention,
    )


def newest_whole(store: LocalStore) -> int:
    newest = newest_checkpoint(store)
    if newest is None:
        return 0
    assert torch.equal(read_weights(newest)["a"], torch.full((10,), float(newest.step)))
    return newest.step


@pytest.mark.parametrize("is_after", [False, True])
def test_a_stop_at_any_write_leaves_a_whole_checkpoint_and_the_next_save_cleans_up(
    tmp_path: Path, is_after: bool
) -> None:
    store = LocalStore(tmp_path)
    step = completed = fatal_write = 0
    is_over = False
    while not is_over:
        fatal = FatalStore(store, fatal_write, is_after)
        try:
            for _ in range(2):  # the second one deletes the first
                step = completed + 1
                save(fatal, step, f"{fatal_write}", Retention(keep_last=1))
                completed = step
            is_over = True
        except Killed:
            assert newest_whole(store) in (completed, step)
            for complete in complete_steps(store):
                read_checkpoint(store, complete)  # also one that is being deleted
            completed = newest_whole(store)
        fatal_write += 1
    assert fatal_write > 15
    assert newest_whole(store) == step
    prefixes = {info.key.rpartition("/")[0] for info in store.list("")}
    assert prefixes == {f"checkpoints/step-{step:06d}", f"checkpoints/step-{step:06d}/{fatal_write - 1}"}


def test_the_last_ones_and_every_nth_stay(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for step in range(1, 10):
        save(store, step, "a")
    apply_retention(store, 9, Retention())
    assert complete_steps(store) == list(range(1, 10))
    apply_retention(store, 9, Retention(keep_last=3, keep_every_steps=4))
    assert complete_steps(store) == [4, 7, 8, 9]
    apply_retention(store, 9, Retention(keep_last=1))
    assert complete_steps(store) == [9]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000009"]


def test_what_killed_saves_left_goes_with_the_next_complete_step_but_not_what_lies_ahead(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path)
    for step in (2, 4, 6):
        save(store, step, "killed")
        store.delete(complete_key(step))
    save(store, 5, "a", Retention())
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-000005",
        "step-000006",
    ]


def test_a_step_that_was_complete_first_stays_and_the_other_attempt_goes(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    save(store, 3, "first")
    save(store, 3, "second")
    assert {info.key.split("/")[2] for info in store.list("checkpoints/")} == {"first", "complete.json"}
    store.delete(complete_key(3))
    save(store, 3, "third")
    assert {info.key.split("/")[2] for info in store.list("checkpoints/")} == {"third", "complete.json"}
