"""MVBench: twenty kinds of temporal question, one JSON file each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from weave_data.errors import ConfigError
from weave_train.evaluate.asking_text import choice_prompt
from weave_train.evaluate.question import Question, QuestionSet, Span
from weave_train.evaluate.tasks.reading import BadRowError, TaskFiles, collect, option_index, text_field

__all__ = ["MVBENCH_FOLDERS", "read_mvbench"]

MVBENCH_FOLDERS = {
    "action_antonym": "ssv2_video",
    "action_count": "perception/videos",
    "action_localization": "sta/sta_video",
    "action_prediction": "star/Charades_v1_480",
    "action_sequence": "star/Charades_v1_480",
    "character_order": "perception/videos",
    "counterfactual_inference": "clevrer/video_validation",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd",
    "moving_attribute": "clevrer/video_validation",
    "moving_count": "clevrer/video_validation",
    "moving_direction": "clevrer/video_validation",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "scene_transition": "scene_qa/video",
    "state_change": "perception/videos",
    "unexpected_action": "FunQA_test/test",
}
"""Where each kind's videos lie in the published archives; the same name may lie in two of them."""

_FRAMES_HZ = 3.0
_INSTANT_SECONDS = 0.001
"""What stands for a part without length: one question ends where it starts, and is asked about one frame."""
_PLACES = ("json/{}.json", "{}.json", "mvbench/{}.json", "mvbench/json/{}.json")


def read_mvbench(files: TaskFiles) -> QuestionSet:
    """Questions of every kind whose file is there; the others are `missing_kinds`.

    Raises:
        ConfigError: None is there.
    """
    found = {
        kind: key
        for kind in MVBENCH_FOLDERS
        if (key := files.find([place.format(kind) for place in _PLACES])) is not None
    }
    if not found:
        raise ConfigError(
            f"data: {files.root.uri} holds none of MVBench's files (json/action_antonym.json, ...); "
            "put them there",
            origin="command line",
        )
    missing = tuple(kind for kind in MVBENCH_FOLDERS if kind not in found)
    return replace(collect(files, _rows(files, found), _question), missing_kinds=missing)


def _rows(files: TaskFiles, found: dict[str, str]) -> Iterator[tuple[str, Any]]:
    for kind, key in found.items():
        for number, row in enumerate(files.rows(key)):
            yield f"{kind}-{number:03d}", row


def _question(row_id: str, row: Any) -> Question:
    kind = row_id.rpartition("-")[0]
    options = tuple(str(option).strip() for option in row["candidates"])
    text = text_field(row, "question")
    is_frames = kind == "episodic_reasoning"
    return Question(
        id=row_id,
        video=text_field(row, "video"),
        text=text,
        prompt=choice_prompt(text, options),
        options=options,
        answer_index=option_index(_as_option(row["answer"], options), options),
        tags={"kind": kind},
        span=_span(row),
        folder=MVBENCH_FOLDERS[kind],
        is_frames=is_frames,
        frames_hz=_FRAMES_HZ if is_frames else None,
    )


def _as_option(answer: Any, options: tuple[str, ...]) -> str:
    """Answers are texts, and digits among them are texts, too."""
    text = str(answer).strip()
    if text not in options:
        raise BadRowError(f"answer {text!r} is none of the candidates {list(options)!r}")
    return text


def _span(row: Any) -> Span | None:
    if "start" not in row and "end" not in row:
        return None
    start, stop = float(row["start"]), float(row["end"])
    if not 0 <= start <= stop:
        raise BadRowError(f"start {start} and end {stop}: no part of a video")
    return Span(start, max(stop, start + _INSTANT_SECONDS))
