from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_tables import make_clips, make_quality

from weave_data.quality import (
    check_leakage,
    drop_near_duplicates,
    drop_val_leaks,
    duplicate_labels,
    val_leaks,
)

ids = [f"c{index:02d}" for index in range(12)]


def near_table(components: dict[str, str], *, with_first: bool) -> pa.Table:
    """What looks alike, by clip id -> first id of its component."""
    pairs = [pair for pair in components.items() if with_first or pair[0] != pair[1]]
    return pa.table(
        {
            "clip_id": pa.array([clip for clip, _ in pairs], pa.string()),
            "duplicate_of": pa.array([first for _, first in pairs], pa.string()),
            "cosine": pa.array([0.987654] * len(pairs), pa.float32()),
        }
    )


def reference_labels(clips: list[str], pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Components by merging one pair at a time."""
    label = {clip: clip for clip in clips}
    for one, two in pairs:
        old, new = label[one], label[two]
        label = {clip: new if value == old else value for clip, value in label.items()}
    return label


def same_partition(labels: np.ndarray, reference: list[str]) -> bool:
    pairs = set(zip(labels.tolist(), reference, strict=True))
    return len(pairs) == len(set(labels.tolist())) == len(set(reference))


components = st.dictionaries(st.sampled_from(ids), st.integers(0, 3)).map(
    lambda drawn: {clip: min(c for c in drawn if drawn[c] == number) for clip, number in drawn.items()}
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(ids), unique=True), components, st.booleans())
def test_one_clip_of_those_that_look_alike_stays(
    there: list[str], alike: dict[str, str], with_first: bool
) -> None:
    clips = make_clips([{"clip_id": clip} for clip in there])
    kept, rejects, count = drop_near_duplicates(clips, near_table(alike, with_first=with_first))
    goes = {clip for clip in there if any(alike.get(clip) == alike.get(o, "") and o < clip for o in there)}
    assert kept["clip_id"].to_pylist() == [clip for clip in there if clip not in goes]
    assert rejects["clip_id"].to_pylist() == sorted(goes)
    for row in rejects.to_pylist():
        keeper = min(clip for clip in there if alike.get(clip) == alike[row["clip_id"]])
        assert row["detail"].endswith(f"(cosine 0.9877); kept: clip {keeper}")
        assert (row["stage"], row["reason"]) == ("near_duplicates", "near_duplicate")
    assert count.is_balanced
    assert count.filtered == ({"near_duplicate": len(goes)} if goes else {})


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(ids), unique=True), components, st.data())
def test_labels_join_copies_of_copies(there: list[str], alike: dict[str, str], data: st.DataObject) -> None:
    sums = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=len(ids), max_size=len(ids)))
    quality = make_quality([{"clip_id": clip, "sha256": s} for clip, s in zip(ids, sums, strict=True)])
    labels = duplicate_labels(
        pa.array(there, pa.string()), duplicates=near_table(alike, with_first=False), quality=quality
    )
    near = [(clip, first) for clip, first in alike.items() if clip in there and first in there]
    # a first clip that is not there still joins those that look like it
    near += [(a, b) for a in alike for b in alike if alike[a] == alike[b] and {a, b} <= set(there)]
    same = [(a, b) for a in there for b in there if sums[ids.index(a)] == sums[ids.index(b)]]
    expected = reference_labels(there, near + same)
    assert same_partition(labels, [expected[clip] for clip in there])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["train", "val"]), st.integers(0, 5)), max_size=12))
def test_a_val_clip_with_a_copy_in_train_leaves_val(drawn: list[tuple[str, int]]) -> None:
    splits = pa.array([split for split, _ in drawn], pa.string())
    labels = np.array([label for _, label in drawn], np.int64)
    rows = val_leaks(splits, labels)
    expected = [i for i, (split, label) in enumerate(drawn) if split == "val" and ("train", label) in drawn]
    assert rows.tolist() == expected
    clips = make_clips([{"clip_id": ids[index]} for index in range(len(drawn))])
    kept, rejects, count = drop_val_leaks(clips, splits, labels, recipe="l4")
    assert kept["clip_id"].to_pylist() == [ids[i] for i in range(len(drawn)) if i not in expected]
    assert count.is_balanced
    for index, row in zip(expected, rejects.to_pylist(), strict=True):
        copy = ids.index(row["detail"].removeprefix("a copy is in train: clip "))
        assert drawn[copy] == ("train", drawn[index][1])
        assert (row["stage"], row["reason"], row["recipe"]) == ("val_leaks", "val_leak", "l4")


def plan_of(rows: list[tuple[str, list[str]]]) -> pa.Table:
    return pa.table(
        {
            "split": pa.array([split for split, _ in rows], pa.string()),
            "clips": pa.array(
                [[{"clip_id": clip} for clip in clips] for _, clips in rows],
                pa.list_(pa.struct([("clip_id", pa.string())])),
            ),
        }
    )


def test_a_plan_is_checked_over_all_its_recipes_and_epochs() -> None:
    rows = [("train", ["c00", "c01"]), ("val", ["c02", "c03"]), ("train", ["c01", "c04"]), ("val", [])]
    clean = check_leakage(plan_of(rows))
    assert clean.is_clean
    assert clean.num_val == 2
    both = check_leakage(plan_of([*rows, ("train", ["c03"]), ("val", ["c03"])]))
    assert not both.is_clean
    assert (both.num_val, both.in_both) == (2, 1)


def test_copies_across_splits_are_counted_by_kind() -> None:
    plan = plan_of([("train", ["c00", "c01"]), ("val", ["c02", "c03", "c05"]), ("train", ["c05"])])
    near = near_table({"c01": "c01", "c02": "c01", "c09": "c03"}, with_first=False)
    sums = {"c00": "a", "c01": "b", "c02": "c", "c03": "a", "c05": "d"}
    quality = make_quality([{"clip_id": clip, "sha256": value} for clip, value in sums.items()])
    found = check_leakage(plan, near, quality)
    assert found.to_json() == {"num_val": 3, "in_both": 1, "near_duplicates": 1, "exact_duplicates": 1}
    assert check_leakage(plan, near).exact_duplicates == 0
