from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_tables import MEASURES, clip_rows, make_clips, make_quality, rows

from weave_data.config.loading import load_config
from weave_data.config.quality import FILTER_COLUMNS, FiltersConfig, RangeConfig
from weave_data.errors import AccountingError, ConfigError
from weave_data.quality import FilterReason, apply_filters
from weave_data.records import CLIP_SCHEMA, REJECT_SCHEMA

bounds = st.tuples(
    st.none() | st.sampled_from([0.0, 0.1, 1.0, 2.0]), st.none() | st.sampled_from([2.0, 2.5, 4.0])
).map(lambda pair: RangeConfig(min=pair[0], max=pair[1]))
filters = st.builds(
    FiltersConfig,
    **{name: st.just(RangeConfig()) | bounds for name in FILTER_COLUMNS},
    exact_duplicates=st.sampled_from(["keep", "drop"]),
)


def value_of(name: str, row: dict[str, Any]) -> float:
    match name:
        case "caption_chars":
            return len(row["caption"])
        case "aspect":
            return float(np.float32(row["width"] / row["height"]))
        case _:
            return float(row[name])


def reason_of(row: dict[str, Any], config: FiltersConfig) -> str | None:
    """One row at a time, written down naively."""
    for name in FILTER_COLUMNS:
        if row["media"] == "image" and name in ("duration_seconds", "frame_rate", "motion"):
            continue
        if name == "caption_similarity" and row[name] is None:
            continue
        value, wanted = value_of(name, row), config.range_of(name)
        if wanted.min is not None and value < wanted.min:
            return f"below_min_{name}"
        if wanted.max is not None and value > wanted.max:
            return f"above_max_{name}"
    return None


@settings(deadline=None, max_examples=150)
@given(st.lists(rows, max_size=20).map(clip_rows), filters)
def test_filters_agree_with_looking_at_one_clip_at_a_time(
    values: list[dict[str, Any]], config: FiltersConfig
) -> None:
    kept, rejects, count = apply_filters(make_clips(values), make_quality(values), config)
    expected: dict[str, str] = {}
    seen: dict[str, str] = {}
    for row in values:
        reason = reason_of(row, config)
        if reason is None and config.exact_duplicates == "drop":
            original = seen.setdefault(row["sha256"], row["clip_id"])
            if original != row["clip_id"]:
                reason = f"exact_duplicate of {original}"
        if reason is not None:
            expected[row["clip_id"]] = reason
    assert kept.schema == CLIP_SCHEMA
    assert kept["clip_id"].to_pylist() == [v["clip_id"] for v in values if v["clip_id"] not in expected]
    assert rejects.schema == REJECT_SCHEMA
    assert rejects["clip_id"].to_pylist() == sorted(expected)
    for row in rejects.to_pylist():
        reason, _, original = expected[row["clip_id"]].partition(" of ")
        assert row["reason"] == reason
        assert row["detail"].endswith(f"clip {original}") == bool(original)
        assert (row["stage"], row["recipe"], row["key"]) == ("filter", None, f"{row['clip_id']}.mp4")
    assert count.is_balanced
    assert count.num_in == len(values)
    assert count.duplicates + sum(count.filtered.values()) == len(expected)


def test_every_threshold_has_its_reason_and_its_own_words() -> None:
    values = clip_rows([{"caption": "abc", "size_bytes": 3, "width": 3, "height": 1, "media": "video"}])
    values[0].update(dict.fromkeys((*MEASURES, "caption_similarity"), 3.0))
    found = set()
    for name in FILTER_COLUMNS:
        for bound in (RangeConfig(min=4), RangeConfig(max=0.5)):
            config = FiltersConfig(**{name: bound})
            kept, rejects, count = apply_filters(make_clips(values), make_quality(values), config)
            (row,) = rejects.to_pylist()
            assert len(kept) == 0
            assert count.filtered == {row["reason"]: 1}
            assert f"filters.{name}." in row["detail"]
            assert row["detail"].startswith(f"{name} ")
            found.add(row["reason"])
    duplicates = {"exact_duplicate", "near_duplicate", "val_leak"}
    assert found == {reason.value for reason in FilterReason} - duplicates


def test_a_clip_at_the_bound_is_within_it_in_any_number_type() -> None:
    values = [{"clip_id": "a", "motion": 0.1, "size_bytes": 5}, {"clip_id": "b", "motion": 0.3}]
    config = FiltersConfig(motion=RangeConfig(min=0.1, max=0.3), size_bytes=RangeConfig(min=5))
    kept, _, _ = apply_filters(make_clips(values), make_quality(values), config)
    assert kept["clip_id"].to_pylist() == ["a", "b"]


def test_a_duplicate_of_a_clip_that_a_threshold_refused_stays() -> None:
    values = [{"clip_id": "b", "sha256": "s", "caption": "x"}, {"clip_id": "a", "sha256": "s"}]
    values.append({"clip_id": "c", "sha256": "s"})
    config = FiltersConfig(caption_chars=RangeConfig(min=2), exact_duplicates="drop")
    kept, rejects, count = apply_filters(make_clips(values), make_quality(values), config)
    assert kept["clip_id"].to_pylist() == ["a"]
    assert [row["detail"] for row in rejects.to_pylist()] == [
        "caption_chars 1 is below filters.caption_chars.min 2",
        "the same bytes as clip a",
    ]
    assert (count.filtered, count.duplicates) == ({"below_min_caption_chars": 1}, 1)


def test_rejects_name_the_part_where_it_is_known() -> None:
    values = [{"clip_id": "a", "luma": 0.5}, {"clip_id": "b", "luma": 0.5}]
    quality = make_quality(values)
    quality = quality.append_column("part", pa.array(["part-1", "part-0"]))  # b lies in part-1
    _, rejects, _ = apply_filters(make_clips(values), quality, FiltersConfig(luma=RangeConfig(min=1)))
    assert [(row["part"], row["clip_id"]) for row in rejects.to_pylist()] == [
        ("part-0", "a"),
        ("part-1", "b"),
    ]


def test_clips_that_were_not_measured_or_not_measurable_stop_the_run() -> None:
    values = [{"clip_id": "a"}, {"clip_id": "b"}]
    clips, quality = make_clips(values), make_quality(values)
    with pytest.raises(AccountingError, match="clip b: not measured, as 0 others"):
        apply_filters(clips, make_quality(values[:1]), FiltersConfig())
    similar = FiltersConfig(caption_similarity=RangeConfig(min=0.1))
    with pytest.raises(AccountingError, match="caption_similarity is set and was not measured"):
        apply_filters(clips, quality.drop_columns("caption_similarity"), similar)
    with pytest.raises(AccountingError, match="names a clip twice"):
        apply_filters(clips, pa.concat_tables([quality, quality]), FiltersConfig())
    odd = make_quality([{"clip_id": "a", "motion": float("nan")}, {"clip_id": "b"}])
    with pytest.raises(AccountingError, match="clip a: its motion is not a number"):
        apply_filters(clips, odd, FiltersConfig(motion=RangeConfig(max=1)))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"motion": {"min": 2, "max": 1}}, "filters.yaml: motion: min 2 is above max 1"),
        ({"motion": {"mim": 2}}, "did you mean 'min'?"),
        ({"luma": {"max": float("inf")}}, "finite number"),
        ({"near_duplicates": 1.5}, "near_duplicates: "),
        ({"exact_duplicates": "remove"}, "'remove' is not one of keep, drop"),
        ({"duration": {"min": 1}}, "did you mean 'duration_seconds'?"),
    ],
)
def test_wrong_filters_are_refused_by_name(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(FiltersConfig, values, origin="filters.yaml")
    assert problem in str(caught.value)
