"""How clips are woven."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from weave_data.config.captions import CaptionsConfig, ClipQuestionsConfig, PromptsConfig, QuestionsConfig
from weave_data.config.loading import StrictModel
from weave_data.records import RESERVED_NAMES

__all__ = ["DEFAULT_PROMPT", "MatchConfig", "Portion", "RecipeConfig", "SplitConfig", "Strategy"]

DEFAULT_PROMPT = "Describe what is happening in the video."

Strategy = Literal["single", "random", "clustered", "diverse", "caption", "given"]
FramePolicy = Literal["linspace", "segment-center", "random-sorted", "fps"]
Weight = Annotated[float, Field(gt=0)]

GRID_FRAMES = 32
"""Candidates stored for policy `random-sorted`."""

_VECTOR_STRATEGIES = frozenset({"clustered", "diverse"})


@dataclass(frozen=True)
class Portion:
    """Samples of one shape: how their clips are chosen, and k of each clip, by its place in the sample.

    `weight` is the share of samples, relative to the recipe's other portions.
    """

    strategy: str
    frames: tuple[int, ...]
    weight: float

    @property
    def num_clips(self) -> int:
        """L."""
        return len(self.frames)


class SplitConfig(StrictModel):
    """Which clips go to the `val` split: a share by hash of the clip id, or the catalog's last ones."""

    val_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    val_last: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _check_one(self) -> SplitConfig:
        if self.val_fraction and self.val_last:
            raise ValueError("val_fraction and val_last are two rules; give one of them")
        return self


class MatchConfig(StrictModel):
    """Keep a part of each epoch's train split, so that recipes are compared at equal data or compute.

    `videos` chooses `count` clips and weaves those: the same clips for every L, strategy and epoch (the
    paper's figure 1), and those of a smaller count are among them. `samples` keeps that many samples
    (figure 2), `tokens` as many as fit into `count` visual and text tokens, counted as `tokens_per_frame`
    and `bytes_per_token` say: prefixes of the plan, so that a smaller count is a prefix of a larger one.
    """

    by: Literal["videos", "samples", "tokens"]
    count: Annotated[int, Field(ge=1)]
    tokens_per_frame: Annotated[int, Field(ge=1)] = 576
    bytes_per_token: Annotated[float, Field(gt=0)] = 4.0


class RecipeConfig(StrictModel):
    """How clips are woven: L clips of T / L frames each per sample.

    `strategy` is one strategy or weights of several; `clips_per_sample` is L or weights of several Ls:
    weights are shares of samples. `frames_per_clip` gives each clip of a sample its own k (they add up
    to T); for strategy `given` it is one number, the k of every video. `epochs` weaves the train split
    anew that many times. Frame policy `fps` takes frames `1 / fps` seconds apart from the clip's start.
    `caption_order: shuffled` is a control: captions of a sample are joined in an order of their own, frames
    are not. `pixels: reference` stores addresses of frames in place of their bytes: shards of a few percent
    of the size, read by the same calls as long as the frame store lies beside them.
    """

    name: str
    strategy: Strategy | dict[Strategy, Weight]
    clips_per_sample: Annotated[int, Field(ge=1, le=64)] | dict[int, Weight] = 1
    frames_per_sample: Annotated[int, Field(ge=1, le=1024)] = 16
    frames_per_clip: Annotated[int, Field(ge=1, le=1024)] | list[int] | None = None
    frame_policy: FramePolicy = "linspace"
    fps: Annotated[float, Field(gt=0)] | None = None
    short_clips: Literal["reject", "repeat-last"] = "reject"
    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    match: MatchConfig | None = None
    seed: Annotated[int, Field(ge=0)] = 7
    prompt: str = DEFAULT_PROMPT
    prompts: PromptsConfig | None = None
    caption_join: Literal["parity", "sentences", "numbered", "timed"] = "parity"
    caption_order: Literal["clips", "shuffled"] = "clips"
    captions: CaptionsConfig | None = None
    questions: QuestionsConfig | None = None
    clip_questions: ClipQuestionsConfig | None = None
    remainder: Literal["drop", "keep"] = "drop"
    split: SplitConfig = SplitConfig()
    shard_rows: Annotated[int, Field(ge=1)] = 1024
    row_group_rows: Annotated[int, Field(ge=1)] = 16
    pixels: Literal["inline", "reference"] = "inline"

    @property
    def portions(self) -> tuple[Portion, ...]:
        """Every shape of sample, in fixed order: strategies by name, then L ascending."""
        return tuple(self._portions())

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies, sorted."""
        return tuple(sorted(_weights(self.strategy)))

    @property
    def needs_vectors(self) -> bool:
        """True when clips are grouped by what they look like."""
        return not _VECTOR_STRATEGIES.isdisjoint(self.strategies)

    @property
    def max_clips(self) -> int:
        """The largest L."""
        return max(portion.num_clips for portion in self.portions)

    @property
    def clip_frame_counts(self) -> tuple[int, ...]:
        """Distinct ks, ascending."""
        return tuple(sorted({count for portion in self.portions for count in portion.frames}))

    def _portions(self) -> Iterator[Portion]:
        for strategy, share in sorted(_weights(self.strategy).items()):
            for clips, weight in sorted(_weights(self.clips_per_sample).items()):
                yield Portion(strategy, self._frames_of(clips), share * weight)

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # a setting that came later leaves the settings recorded without it as they are
        values: dict[str, Any] = write(self)
        if self.caption_order == "clips":
            values.pop("caption_order", None)
        return values

    def _frames_of(self, clips: int) -> tuple[int, ...]:
        if self.strategy == "given":
            count = self.frames_per_clip
            return (count if isinstance(count, int) else self.frames_per_sample,)
        if isinstance(self.frames_per_clip, list):
            return tuple(self.frames_per_clip)
        return (self.frames_per_sample // clips,) * clips

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
            raise ValueError(f"{name!r}: use letters, digits, '.', '_', '+', '-', at most 64 of them")
        if name in RESERVED_NAMES:
            raise ValueError(f"{name!r} is taken by the output layout; choose another recipe name")
        return name

    @model_validator(mode="after")
    def _check_shape(self) -> RecipeConfig:
        for clips in _weights(self.clips_per_sample):
            if not 1 <= clips <= 64:
                raise ValueError(f"clips_per_sample {clips} is not within 1..64")
            if self.frames_per_clip is None and self.frames_per_sample % clips:
                raise ValueError(
                    f"frames_per_sample {self.frames_per_sample} is not a multiple of clips_per_sample "
                    f"{clips}; every clip gives the same number of frames"
                )
        if self.shard_rows % self.row_group_rows:
            raise ValueError(
                f"shard_rows {self.shard_rows} is not a multiple of row_group_rows {self.row_group_rows}"
            )
        return self

    @model_validator(mode="after")
    def _check_strategies(self) -> RecipeConfig:
        names, sizes = set(_weights(self.strategy)), set(_weights(self.clips_per_sample))
        if not names or not sizes:
            raise ValueError("strategy and clips_per_sample need at least one entry")
        for name in sorted({"single", "given"} & names):
            if len(names) > 1:
                raise ValueError(f"strategy {name} can't be mixed with others; give it a recipe of its own")
            if sizes != {1}:
                raise ValueError(
                    f"strategy {name} takes clips_per_sample 1, got {self.clips_per_sample}; set it to 1"
                )
        if sizes == {1} and names.isdisjoint({"single", "given"}):
            raise ValueError(f"strategy {self.strategy} needs clips_per_sample of at least 2, got 1")
        return self

    @model_validator(mode="after")
    def _check_match(self) -> RecipeConfig:
        rule, clips = self.match, self.clips_per_sample
        if rule is not None and rule.by == "videos" and isinstance(clips, int) and rule.count % clips:
            raise ValueError(
                f"match.count: {rule.count} videos do not fill samples of {clips}; give a multiple of every L"
            )
        return self

    @model_validator(mode="after")
    def _check_texts(self) -> RecipeConfig:
        if self.clip_questions is not None and self.max_clips < 2:
            raise ValueError(
                f"clip_questions ask about several clips, strategy {self.strategy} shows one; drop them, or "
                "weave at least 2"
            )
        if self.caption_order == "shuffled" and (self.max_clips < 2 or self.clip_questions is not None):
            raise ValueError(
                "caption_order shuffled needs several clips a sample, and no clip_questions, whose answers "
                "follow from the order; weave at least 2, and drop clip_questions"
            )
        if self.strategy == "given":
            for name in ("captions", "prompts"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} has no effect on strategy given, whose samples have their own turns"
                    )
        elif self.questions is not None:
            raise ValueError("questions make samples of their own; give them a recipe with strategy: given")
        return self

    @model_validator(mode="after")
    def _check_frames(self) -> RecipeConfig:
        counts = self.frames_per_clip
        if isinstance(counts, list):
            if self.strategy == "given" or isinstance(self.clips_per_sample, dict):
                raise ValueError("frames_per_clip as a list needs one fixed clips_per_sample")
            if (
                len(counts) != self.clips_per_sample
                or sum(counts) != self.frames_per_sample
                or min(counts) < 1
            ):
                raise ValueError(
                    f"frames_per_clip {counts} must be {self.clips_per_sample} positive numbers that add up "
                    f"to frames_per_sample {self.frames_per_sample}"
                )
        elif counts is not None and self.strategy != "given":
            raise ValueError(f"frames_per_clip {counts}: give a list of one number per clip")
        if (self.fps is None) == (self.frame_policy == "fps"):
            raise ValueError("fps (frames a second) goes with frame_policy: fps, and only with it")
        largest = max(self.clip_frame_counts)
        if self.frame_policy == "random-sorted" and largest > GRID_FRAMES:
            raise ValueError(
                f"frame_policy random-sorted takes at most {GRID_FRAMES} frames a clip, got {largest}"
            )
        return self


def _weights(value: object) -> dict[Any, float]:
    return value if isinstance(value, dict) else {value: 1.0}
