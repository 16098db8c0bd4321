"""What was taken down never enters a catalog again."""

from __future__ import annotations

import pyarrow as pa

from weave_data.catalog.parts import CutCatalog
from weave_data.catalog.removal import key_without, removal_identity, without_removed
from weave_data.records import REJECT_SCHEMA, StageCount, clips_table
from weave_data.tables import sha256_hex


def clips(*names: str) -> pa.Table:
    columns = {
        "clip_id": list(names),
        "key": [f"{name}.mp4" for name in names],
        "caption": ["c"] * len(names),
        "size_bytes": [1] * len(names),
    }
    return clips_table(pa.table(columns))


def cut() -> CutCatalog:
    reject = dict.fromkeys(REJECT_SCHEMA.names, "x") | {"clip_id": "e", "reason": "missing", "recipe": None}
    return CutCatalog(
        parts=(("p-0", clips("a", "b")), ("p-1", clips("c"))),
        rejects=pa.Table.from_pylist([reject, {**reject, "clip_id": "f"}], schema=REJECT_SCHEMA),
        listed=pa.table({"key": ["a"], "size_bytes": [1]}),
        count=StageCount("catalog", 6, 3, {}, {"missing": 2}, 1),
    )


def hashes(*names: str) -> frozenset[str]:
    return frozenset(sha256_hex(name.encode()) for name in names)


def test_removed_clips_and_rejects_are_left_out_and_counted() -> None:
    found = without_removed(cut(), hashes("a", "c", "e", "never seen"))
    assert [(name, table["clip_id"].to_pylist()) for name, table in found.parts] == [("p-0", ["b"])]
    assert found.rejects["clip_id"].to_pylist() == ["f"]
    assert found.count == StageCount("catalog", 6, 1, {"removed": 3}, {"missing": 1}, 1)
    assert found.count.is_balanced


def test_nothing_changes_where_nothing_is_removed() -> None:
    given = cut()
    assert without_removed(given, frozenset()) is given
    assert without_removed(given, hashes("z")).count == given.count


def test_the_key_names_what_is_left_out_and_whose_catalog_it_is() -> None:
    once, twice = hashes("a"), hashes("a", "b")
    assert key_without("k", frozenset()) == "k"
    assert key_without("k", once) == f"k-{removal_identity(once)[:12]}"
    assert key_without(key_without("k", once), twice) == key_without("k", twice) != key_without("k", once)
