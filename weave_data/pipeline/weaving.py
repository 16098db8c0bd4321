"""One recipe before any pixel: eligible clips -> splits -> groups -> plan, epoch by epoch, each committed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption import RecipeTexts, question_samples, replace_captions
from weave_data.cluster import split_of
from weave_data.config import RecipeConfig
from weave_data.errors import AccountingError, ConfigError, SourceError
from weave_data.pipeline.accounting import check_balance
from weave_data.pipeline.grouping import EpochGroups, GroupWork
from weave_data.pipeline.selecting import SelectedClips
from weave_data.quality import Leakage, check_leakage, drop_val_leaks
from weave_data.records import (
    PLAN_SCHEMA,
    REJECT_SCHEMA,
    RejectReason,
    StageCount,
    content_key,
    rejects_table,
)
from weave_data.shard import count_rows
from weave_data.storage import Store, commit_exact
from weave_data.tables import read_table_bytes, sha256_hex, table_bytes
from weave_data.weave import (
    count_woven,
    eligible_clips,
    given_samples,
    make_plan,
    match_plan,
    match_videos,
    plan_members,
    split_keys,
)

__all__ = ["Weaver", "WovenEpoch", "WovenRecipe"]


@dataclass(frozen=True)
class WovenEpoch:
    """One epoch's committed plan. `num_rows` counts its rows by (split, epoch), in plan order."""

    epoch: int
    path: str
    sha256: str
    num_rows: Mapping[tuple[str, int], int]
    groups: EpochGroups | None
    count: StageCount
    files_written: int
    leakage: Leakage | None = None

    def read(self, store: Store) -> pa.Table:
        """The plan: PLAN_SCHEMA."""
        return read_table_bytes(store.get(self.path), schema=PLAN_SCHEMA)


@dataclass(frozen=True)
class WovenRecipe:
    """A recipe's committed plans; `rejects` are those of its weaving."""

    epochs: tuple[WovenEpoch, ...]
    rejects: pa.Table

    @property
    def counts(self) -> tuple[StageCount, ...]:
        """Accounting of each epoch."""
        return tuple(epoch.count for epoch in self.epochs)

    @property
    def files_written(self) -> int:
        """Groups and plans that this run committed."""
        return sum(epoch.files_written for epoch in self.epochs)

    @property
    def num_files(self) -> int:
        """Groups and plans in all."""
        return sum(1 + (epoch.groups is not None) for epoch in self.epochs)

    def inputs(self) -> dict[str, object]:
        """Identities of groups and plans, for the fingerprint: [path, sha256] of each epoch."""
        groups = [epoch.groups for epoch in self.epochs if epoch.groups is not None]
        return {
            "groups": [[item.path, item.sha256] for item in groups],
            "plans": [[epoch.path, epoch.sha256] for epoch in self.epochs],
        }


@dataclass(frozen=True)
class _Clips:
    """Clips of one recipe: what it can weave, and what it leaves out of `num_clips`."""

    eligible: pa.Table
    splits: pa.Array
    rejects: pa.Table
    leaked: pa.Table
    num_unmatched: int
    num_clips: int
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Weaver:
    """Weaves recipes over one build's clips.

    Attributes:
        catalog_ids: string, ids of the whole catalog (or the limit's prefix), in its order.
        selected: The clips that filters leave.
        frames: `shard.ADDRESS_SCHEMA` of the clips with stored frames.
        store: The output.
        grouping: Puts clips together.
        samples: SAMPLE_SCHEMA for strategy `given`, as the source gives them.
        drops_leaks: Val clips with a copy in train are left out.
    """

    catalog_ids: pa.Array
    selected: SelectedClips
    frames: pa.Table
    store: Store
    grouping: GroupWork
    samples: Callable[[RecipeConfig], pa.Table]
    drops_leaks: bool = False

    def weave(self, recipe: RecipeConfig, texts: RecipeTexts) -> WovenRecipe:
        """Group and plan every epoch of a recipe, or read what is committed.

        Args:
            recipe: The recipe.
            texts: What its text settings name.

        Raises:
            SourceError: No clip is left to weave.
            ConfigError: `match` or `split` asks for more than there is.
        """
        clips = self.selected.clips
        if recipe.strategy == "given":
            return self._weave_given(recipe, clips, texts)
        captioned, refused = _recaptioned(recipe, clips, texts)
        eligible, short = eligible_clips(captioned, self.frames, recipe=recipe)
        rejects = pa.concat_tables([refused, short])
        if eligible.num_rows == 0:
            raise SourceError(
                f"recipes.{recipe.name}: none of {clips.num_rows} decoded clips has the "
                f"{max(recipe.clip_frame_counts)} frames it needs; lower frames_per_sample or see rejects/"
            )
        splits = self._splits(recipe, _array(eligible["clip_id"]), self.catalog_ids)
        eligible, splits, leaked = self._without_leaks(recipe, eligible, splits)
        kept = pa.array(match_videos(recipe, eligible, splits, self.frames))
        num_unmatched = len(kept) - (pc.sum(kept).as_py() or 0)
        eligible, splits = eligible.filter(kept), splits.filter(kept)
        everything = _Clips(eligible, splits, rejects, leaked, num_unmatched, clips.num_rows, texts.prompts)
        epochs = [self._weave_epoch(recipe, epoch, everything) for epoch in range(recipe.epochs)]
        return WovenRecipe(tuple(epochs), pa.concat_tables([rejects, leaked]))

    def _without_leaks(
        self, recipe: RecipeConfig, clips: pa.Table, splits: pa.Array
    ) -> tuple[pa.Table, pa.Array, pa.Table]:
        """Clips and splits without the val clips that have a copy in train, and rejects of those."""
        if not self.drops_leaks:
            return clips, splits, REJECT_SCHEMA.empty_table()
        clip_ids = _array(clips["clip_id"])
        kept, rejects, _ = drop_val_leaks(clips, splits, self.selected.labels(clip_ids), recipe=recipe.name)
        left = splits.filter(pc.is_in(clip_ids, value_set=_array(kept["clip_id"])))
        return kept, left, rejects

    def _weave_epoch(self, recipe: RecipeConfig, epoch: int, clips: _Clips) -> WovenEpoch:
        num_val, eligible, splits = 0, clips.eligible, clips.splits
        if epoch:  # only train is woven anew: val stays what it is measured on
            is_train = pc.equal(splits, "train")
            num_val = len(splits) - (pc.sum(is_train).as_py() or 0)
            eligible, splits = eligible.filter(is_train), splits.filter(is_train)
        groups = self.grouping.group(recipe, eligible, splits, epoch=epoch)
        if not groups.table.num_rows:
            raise SourceError(
                f"recipes.{recipe.name}: {eligible.num_rows} clips give no sample of "
                f"{recipe.max_clips}; lower clips_per_sample, set remainder: keep, or allow more with "
                "groups.same_page and groups.near_duplicates"
            )
        plan = make_plan(
            recipe,
            clips=eligible,
            frames=self.frames,
            groups=groups.table,
            epoch=epoch,
            prompts=clips.prompts,
        )
        plan, num_cut = _matched(recipe, plan)
        count = count_woven(
            recipe,
            num_clips=clips.num_clips,
            rejects=clips.rejects,
            groups=groups.table,
            num_outside={
                "val_split": num_val,
                "val_leak": clips.leaked.num_rows,
                "beyond_match": clips.num_unmatched,
            },
            num_apart=groups.num_apart,
        )
        return self._commit(
            recipe, epoch, plan, groups, count.without({"beyond_match": num_cut}, epoch=epoch)
        )

    def _weave_given(self, recipe: RecipeConfig, decoded: pa.Table, texts: RecipeTexts) -> WovenRecipe:
        if recipe.questions is not None and texts.questions is not None:
            asked = recipe.questions
            samples = question_samples(
                decoded, texts.questions.table, types=asked.types, incomplete=asked.incomplete
            )
        else:
            samples = self.samples(recipe)
        num_samples = samples.num_rows
        samples = _of_known_clips(samples, self.catalog_ids)
        keys = split_keys(samples)
        splits = self._splits(recipe, keys, keys)
        given = given_samples(recipe, samples, splits, clips=decoded, frames=self.frames)
        if not len(given.sample_keys):
            raise SourceError(
                f"recipes.{recipe.name}: none of {samples.num_rows} given samples is usable; see rejects/"
            )
        epochs = []
        for epoch in range(recipe.epochs):
            members, num_val = given.members, 0
            if epoch:
                is_train = pc.equal(members.splits, "train").to_numpy(zero_copy_only=False)
                num_val = len(is_train) - int(is_train.sum())
                members = members.take(is_train.nonzero()[0])
            plan = plan_members(recipe, members, frames=self.frames, epoch=epoch)
            plan, _ = _matched(recipe, plan)
            whole = dataclasses.replace(
                given.balance,
                num_in=num_samples,
                filtered={"beyond_limit": beyond} if (beyond := num_samples - samples.num_rows) else {},
            )
            count = whole.without(
                {"val_split": num_val, "beyond_match": len(members.sizes) - plan.num_rows}, epoch=epoch
            )
            epochs.append(self._commit(recipe, epoch, plan, None, count))
        return WovenRecipe(tuple(epochs), given.rejects)

    def _splits(self, recipe: RecipeConfig, keys: pa.Array, everything: pa.Array) -> pa.Array:
        """Split of each key: string[n]."""
        last = recipe.split.val_last
        if not last:
            return split_of(keys, recipe.split.val_fraction)
        if last >= len(everything):
            raise ConfigError(
                f"recipes.{recipe.name}.split.val_last: {last} of {len(everything)}; none is left to train on"
            )
        return pc.if_else(pc.is_in(keys, value_set=everything[-last:]), "val", "train")

    def _commit(
        self, recipe: RecipeConfig, epoch: int, plan: pa.Table, groups: EpochGroups | None, count: StageCount
    ) -> WovenEpoch:
        check_balance(count, where=f"recipe {recipe.name}")
        data = table_bytes(plan)
        sha256 = sha256_hex(data)
        path = f"plans/{content_key('plan', recipe=recipe.name, sha256=sha256)}.parquet"
        committed = commit_exact(self.store, path, data)
        leakage = self._leakage(recipe, plan) if epoch == 0 else None
        written = int(committed.is_ours) + int(groups is not None and groups.is_new)
        return WovenEpoch(epoch, path, sha256, count_rows(plan), groups, count, written, leakage)

    def _leakage(self, recipe: RecipeConfig, plan: pa.Table) -> Leakage | None:
        """What val shares with train, None without val; later epochs weave the same train clips."""
        selected = self.selected
        duplicates = selected.apart if selected.duplicates is None else selected.duplicates
        found = check_leakage(plan, duplicates, selected.quality)
        if found.in_both and recipe.strategy != "given":
            raise AccountingError(
                f"recipe {recipe.name}: {found.in_both} clips are in train and in val; please report this"
            )
        return found if found.num_val else None


def _recaptioned(recipe: RecipeConfig, clips: pa.Table, texts: RecipeTexts) -> tuple[pa.Table, pa.Table]:
    """Clips with the captions their recipe gives them, and rejects of those it has none for."""
    tables = [REJECT_SCHEMA.empty_table()]
    if recipe.captions is not None and texts.captions is not None:
        clips, rejects, _ = replace_captions(
            clips, texts.captions.table, missing=recipe.captions.missing, recipe=recipe.name
        )
        tables.append(rejects)
    is_blank = pc.equal(pc.utf8_trim_whitespace(clips["caption"]), "")
    blank = clips.filter(is_blank)  # media of ready-made samples have captions only here and there
    tables.append(
        rejects_table(
            [
                {
                    "stage": "weave",
                    "part": "",
                    "recipe": recipe.name,
                    "clip_id": clip["clip_id"],
                    "key": clip["key"],
                    "reason": RejectReason.EMPTY_CAPTION.value,
                    "detail": "its source gives it no caption; set captions.file or strategy: given",
                }
                for clip in blank.select(["clip_id", "key"]).to_pylist()
            ]
        )
    )
    return clips.filter(pc.invert(is_blank)), pa.concat_tables(tables)


def _of_known_clips(samples: pa.Table, catalog_ids: pa.Array) -> pa.Table:
    """Samples all of whose clips are among those of a preview's limit."""
    lists = samples["clip_ids"].combine_chunks()
    sizes = lists.value_lengths().to_numpy(zero_copy_only=False)
    is_unknown = pc.invert(pc.is_in(lists.flatten(), value_set=catalog_ids)).to_numpy(zero_copy_only=False)
    unknown = np.bincount(np.repeat(np.arange(len(sizes)), sizes)[is_unknown], minlength=len(sizes))
    return samples.filter(pa.array(unknown == 0))


def _matched(recipe: RecipeConfig, plan: pa.Table) -> tuple[pa.Table, int]:
    rule = recipe.match
    if rule is None or (rule.by == "videos" and recipe.strategy != "given"):  # clips were chosen before
        return plan, 0
    return match_plan(plan, rule, recipe=recipe.name)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
