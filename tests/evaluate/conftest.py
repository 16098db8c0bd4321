"""A stored tiny model, and a folder of questions about rendered videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from plain_videos import COLOURS, render
from small_exports import write_run
from tiny_rows import CAPTIONS

from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.tokenizer import train_caption_tokenizer

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def vlm() -> VideoLanguageModel:
    settings = ModelSettings(precision="fp32", llm_max_length=256, num_frames=4)
    tokenizer = train_caption_tokenizer(
        [*CAPTIONS, "A. B. C. D. Answer with the option's letter"], vocab_size=400
    )
    return build_model(settings, tokenizer)


@pytest.fixture(scope="session")
def run_dir(vlm: VideoLanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(vlm, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def questions_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen questions about five videos: choices by letter and by text, one open, one without a video."""
    folder = tmp_path_factory.mktemp("questions")
    names = list(COLOURS)
    for number in range(5):
        render(folder / "videos" / f"v{number}.mp4", [names[(number + step) % 4] for step in range(3)])
    rows = []
    for number in range(11):
        right = names[(number % 5) % 4]
        rows.append(
            {
                "id": f"q{number:02d}",
                "video": f"videos/v{number % 5}.mp4",
                "question": "What colour comes first?",
                "options": names,
                "answer": names.index(right) if number % 2 else right,
                "tags": {"type": "first", "half": "a" if number < 6 else "b"},
                "style": "texts" if number % 3 == 0 else "letters",
            }
        )
    rows.append({"id": "open", "video": "videos/v1.mp4", "question": "What is shown?", "answer": ["green"]})
    rows.append(
        {"id": "text", "video": None, "question": "What is 1 + 1?", "options": ["2", "3"], "answer": "2"}
    )
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
