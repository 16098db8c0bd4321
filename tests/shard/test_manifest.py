from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weave_data.errors import CommitError, ConflictError, VerificationError
from weave_data.records import StageCount
from weave_data.shard import (
    Difference,
    Manifest,
    ShardEntry,
    check_settings,
    first_difference,
    list_recipes,
    make_fingerprint,
    manifest_sha256,
    parse_manifest,
    publish,
    read_manifest,
)
from weave_data.storage import Store


def make(seed: int = 3, limit: int | None = None, plan: str = "p", rows: int = 4, **changes: Any) -> Manifest:
    configuration = {
        "source": {"kind": "webvid", "limit": limit, "path": None},
        "frames": {"policy": "linspace", "quality": 85},
        "recipe": {"name": "l4", "seed": seed, "split": {"val_fraction": 0.0}},
    }
    manifest = Manifest(
        recipe="l4",
        configuration=configuration,
        inputs={"catalog": "c", "plan": plan},
        row_group_rows=2,
        shard_rows=4,
        totals=(StageCount("catalog", 5, 4, {}, {"empty_caption": 1}),),
        shards=(ShardEntry("l4/x/train/epoch=0/shard-00000.parquet", "train", 0, rows, 99, "s", 80, 19),),
    )
    return dataclasses.replace(manifest, **changes) if changes else manifest


nested = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.floats(0, 2),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), children)
    ),
    max_leaves=8,
)


def test_a_manifest_survives_its_own_bytes() -> None:
    manifest = make(weights_sha256={"embedding": "w"}, float_stages={"device": "cpu"})
    read = parse_manifest(manifest.to_bytes(), name="m")
    assert read == manifest
    assert read.to_bytes() == manifest.to_bytes()
    assert manifest_sha256(read) == manifest_sha256(manifest)


def test_settings_given_in_another_order_are_the_same_manifest() -> None:
    manifest = make()
    shuffled = {
        name: dict(reversed(list(values.items())))
        for name, values in reversed(list(manifest.configuration.items()))
    }
    again = dataclasses.replace(
        manifest, configuration=shuffled, inputs={"plan": "p", "catalog": "c"}, fingerprint=""
    )
    assert again.to_bytes() == manifest.to_bytes()


@pytest.mark.parametrize("change", [{"seed": 4}, {"limit": 10}, {"plan": "q"}])
def test_every_setting_and_input_moves_the_fingerprint(change: dict[str, Any]) -> None:
    assert make(**change).fingerprint != make().fingerprint
    assert len(make().fingerprint) == 64


def test_shards_do_not_move_the_fingerprint() -> None:
    assert make(rows=3).fingerprint == make().fingerprint
    assert make().fingerprint == make_fingerprint(make().configuration, make().inputs)


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": 1.0}, None),
        ({"a": 1}, {"a": True}, Difference("a", 1, True)),
        ({"b": 1, "a": {"y": 2, "x": 1}}, {"b": 2, "a": {"y": 3, "x": 1}}, Difference("a.y", 2, 3)),
        ({"a": {}}, {"a": {"x": 5}}, Difference("a.x", None, 5)),
        ({"a": {"x": 5}}, {}, Difference("a", {"x": 5}, None)),
        ({"a": [1, 2]}, {"a": [1, 3]}, Difference("a.1", 2, 3)),
        ({"a": [1, 2]}, {"a": [1]}, Difference("a", [1, 2], [1])),
        ({"a": None}, {}, None),
    ],
)
def test_the_first_difference_is_named_by_its_dotted_path(
    theirs: Any, ours: Any, expected: Difference | None
) -> None:
    assert first_difference(theirs, ours) == expected


@settings(deadline=None, max_examples=60)
@given(nested, nested)
def test_a_difference_is_found_from_both_sides_alike(one: Any, two: Any) -> None:
    assert first_difference(one, one) is None
    there, back = first_difference(one, two), first_difference(two, one)
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        assert there == Difference(back.path, back.ours, back.theirs)


@settings(deadline=None, max_examples=60)
@given(nested, nested)
def test_settings_without_a_difference_give_one_fingerprint(one: Any, two: Any) -> None:
    if json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True):
        assert first_difference(one, two) is None
        assert make_fingerprint({"x": one}, {}) == make_fingerprint({"x": two}, {})


def test_publishing_writes_the_immutable_copy_and_the_current_one(store: Store) -> None:
    manifest = make()
    assert publish(store, manifest) is True
    assert store.get("l4/manifest.json") == manifest.to_bytes()
    assert store.get(f"l4/manifests/{manifest.fingerprint}.json") == manifest.to_bytes()
    assert publish(store, manifest) is False
    assert list_recipes(store) == ("l4",)


def test_other_settings_are_refused_with_the_first_that_differs(store: Store) -> None:
    publish(store, make(seed=3))
    message = (
        "recipe l4: published with recipe.seed = 3, this build has 4; use --replace or another recipe name"
    )
    for refuse in (
        lambda: publish(store, make(seed=4)),
        lambda: check_settings(store, recipe="l4", configuration=make(seed=4).configuration),
    ):
        with pytest.raises(ConflictError) as caught:
            refuse()
        assert str(caught.value) == message
    assert read_manifest(store, "l4") == make(seed=3)


def test_other_inputs_under_equal_settings_are_refused_too(store: Store) -> None:
    publish(store, make())
    with pytest.raises(ConflictError, match=r'published with inputs\.plan = "p", this build has "q"'):
        publish(store, make(plan="q"))


def test_replace_takes_the_name_and_keeps_the_old_manifest_readable(store: Store) -> None:
    publish(store, make(seed=3))
    assert publish(store, make(seed=4), replace=True) is True
    assert read_manifest(store, "l4") == make(seed=4)
    assert read_manifest(store, "l4", fingerprint=make(seed=3).fingerprint) == make(seed=3)


def test_a_preview_gives_way_to_the_whole_build_without_being_asked(store: Store) -> None:
    publish(store, make(limit=100, plan="small"))
    check_settings(store, recipe="l4", configuration=make().configuration)
    assert publish(store, make(plan="large")) is True
    assert read_manifest(store, "l4") == make(plan="large")


def test_a_preview_never_displaces_a_whole_build(store: Store) -> None:
    publish(store, make())
    with pytest.raises(ConflictError, match=r"source\.limit = null, this build has 100"):
        publish(store, make(limit=100))
    with pytest.raises(ConflictError, match=r"source\.limit"):
        check_settings(store, recipe="l4", configuration=make(limit=100).configuration)


def test_a_preview_with_other_settings_is_a_conflict(store: Store) -> None:
    publish(store, make(limit=100))
    with pytest.raises(ConflictError, match=r"recipe\.seed = 3, this build has 4"):
        publish(store, make(seed=4))


def test_same_settings_with_other_shards_are_an_error_not_a_replacement(store: Store) -> None:
    publish(store, make())
    with pytest.raises(CommitError):
        publish(store, make(rows=3), replace=True)


def test_losing_a_race_to_the_same_build_is_no_error(store: Store) -> None:
    manifest = make()
    assert publish(_Raced(store, manifest), manifest) is False  # type: ignore[arg-type]
    assert read_manifest(store, "l4") == manifest


def test_losing_a_race_to_another_build_is_a_conflict(store: Store) -> None:
    with pytest.raises(ConflictError, match=r"recipe\.seed = 9, this build has 3"):
        publish(_Raced(store, make(seed=9)), make(seed=3))  # type: ignore[arg-type]
    assert read_manifest(store, "l4") == make(seed=9)


class _Raced:
    """A store on which another build publishes just before our swap."""

    def __init__(self, inner: Store, theirs: Manifest) -> None:
        self._inner, self._theirs = inner, theirs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
        publish(self._inner, self._theirs)
        if data == self._theirs.to_bytes():
            raise ConflictError(f"{key}: holds something else")
        self._inner.replace(key, data, expected=expected)


def test_another_schema_version_is_refused_by_name() -> None:
    values = make().to_json() | {"schema_version": 2}
    with pytest.raises(VerificationError, match="m: schema version 2, this version of weave_data reads 1"):
        parse_manifest(json.dumps(values).encode(), name="m")


@pytest.mark.parametrize("data", [b"", b"[1]", b"{}", b'{"schema_version": 1}', b"\xff\xfe"])
def test_what_is_no_manifest_is_said(data: bytes) -> None:
    with pytest.raises(VerificationError, match=r"^m: (not a weave_data manifest|the manifest is damaged)"):
        parse_manifest(data, name="m")


def test_a_damaged_current_manifest_stops_a_build_unless_replaced(store: Store) -> None:
    store.put_new("l4/manifest.json", b"{")
    with pytest.raises(VerificationError, match="--replace overwrites it"):
        publish(store, make())
    assert publish(store, make(), replace=True) is True


def test_a_missing_recipe_names_those_there_are(store: Store) -> None:
    publish(store, make())
    with pytest.raises(VerificationError, match=r"no l8/manifest\.json; published recipes: none"):
        read_manifest(store, "l8")  # not an output, for all we know: a bucket that is not listed whole
    store.put_new("frames/key/00/part-0/layer.tar", b"")
    with pytest.raises(VerificationError, match=r"no l8/manifest\.json; published recipes: l4"):
        read_manifest(store, "l8")
