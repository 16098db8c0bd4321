"""lmms-eval's own Video-MME asks the same model the same questions: the same texts, the same scores."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from plain_videos import COLOURS, render
from small_exports import write_run
from torch.nn.functional import cross_entropy

from weave_data.storage import open_source
from weave_train.config import ModelSettings
from weave_train.evaluate.answer import read_answers
from weave_train.evaluate.asking_text import VIDEOMME_LEADING
from weave_train.evaluate.run import Evaluation, evaluate_task
from weave_train.evaluate.tasks.catalog import TASKS
from weave_train.evaluate.tasks.reading import TaskFiles
from weave_train.evaluate.weights import PinnedModel
from weave_train.models.likelihood import score_answers
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.models.video import frames_from_video
from weave_train.rows.pixels import to_pixels
from weave_train.towers import num_visual_tokens

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("lmms-eval"),
    pytest.mark.timeout(1800),  # lmms-eval reads all its tasks' files first: a minute, more on a busy machine
    pytest.mark.skipif(
        importlib.util.find_spec("lmms_eval") is None,
        reason="lmms-eval is not installed: `make lmms-eval` installs it without its contradicting pins",
    ),
]

NUM_FRAMES = 3  # the run has 4
DURATIONS = ("short", "medium", "long")
# what the model learns to say to each question: right, wrong, in words, nothing that is a letter
SAID = ["A", "(B)", "C.", "The answer is D.", "B", "A", "D", "(C)", "none", "A", "C", "B"]
RIGHT = "ABCDBDDCACCA"
NUM_RIGHT = 8


def questions() -> list[dict[str, Any]]:
    """Twelve rows of the published file, with categories that lmms-eval knows."""
    names = list(COLOURS)
    return [
        {
            "video_id": f"{number // 3 + 1:03d}",
            "duration": DURATIONS[number % 3],
            "domain": "Knowledge",
            "sub_category": "Astronomy",
            "url": "",
            "videoID": f"film-{number // 3}",
            "question_id": f"{number // 3 + 1:03d}-{number % 3 + 1}",
            "task_type": ("Counting Problem", "Temporal Reasoning")[number % 2],
            "question": f"Which colour comes {('first', 'second', 'last')[number % 3]}?",
            "options": [
                f"{letter}. {name.capitalize()}." for letter, name in zip("ABCD", names, strict=True)
            ],
            "answer": RIGHT[number],
        }
        for number in range(12)
    ]


@dataclass(frozen=True)
class World:
    """`data`: questions and films for both; `cwd`: where `lmms-eval/Video-MME` is a folder."""

    data: Path
    cwd: Path
    run: Path
    vlm: VideoLanguageModel


def teach(vlm: VideoLanguageModel, world_data: Path) -> None:
    """Until it says to each question what `SAID` has."""
    asked = TASKS["videomme"].read(TaskFiles(open_source(str(world_data)))).questions
    pixels, ids, labels = [], [], []
    for question, said in zip(asked, SAID, strict=True):
        film = world_data / "videomme" / "data" / f"{question.video}.mp4"
        frames = to_pixels(frames_from_video(film, vlm.settings, num_frames=NUM_FRAMES), vlm.settings)
        turns = [{"from": "human", "value": question.prompt}, {"from": "gpt", "value": said}]
        encoded = vlm.prompts.encode_conversation(turns, [num_visual_tokens(len(frames), vlm.settings)])
        pixels.append(frames)
        ids.append(encoded.input_ids)
        labels.append(encoded.labels)
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    wanted = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    seen = vlm.encode(torch.cat(pixels))
    vlm.core.requires_grad_(requires_grad=True)
    optimizer = torch.optim.AdamW(vlm.core.parameters(), lr=3e-3)
    for _ in range(400):
        logits = vlm.core.language_model(inputs_embeds=vlm.core.embed(seen, padded)).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), wanted[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.02:
            break
    assert loss.item() < 0.1, loss
    vlm.core.eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Questions in the published layout, films where both find them, a model that knows some answers."""
    torch.set_num_threads(1)
    data, cwd = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("cwd")
    names = list(COLOURS)
    for number in range(4):
        colours = [names[(number + step) % 4] for step in range(3)]
        render(data / "videomme" / "data" / f"film-{number}.mp4", colours)
    table = pa.Table.from_pylist(questions())
    pq.write_table(table, data / "videomme" / "test-00000-of-00001.parquet")
    published = cwd / "lmms-eval" / "Video-MME" / "videomme"
    published.mkdir(parents=True)
    shutil.copy(data / "videomme" / "test-00000-of-00001.parquet", published)
    settings = ModelSettings(precision="fp32", llm_max_length=512, num_frames=4)
    texts = [str(row["question"]) for row in questions()] + SAID + [VIDEOMME_LEADING]
    vlm = build_model(settings, train_caption_tokenizer(texts, vocab_size=400))
    teach(vlm, data)
    return World(data, cwd, write_run(vlm, tmp_path_factory.mktemp("runs") / "taught"), vlm)


def environment(world: World) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(world.data),
        "HF_DATASETS_CACHE": str(world.cwd / "cache"),
        "HF_HUB_OFFLINE": "1",
    }


def succeed(command: list[str], world: World) -> str:
    done = subprocess.run(
        command,
        cwd=world.cwd,
        env=environment(world),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# `lmms-eval`, on machines with a torchvision that doesn't fit torch as well
LMMS_EVAL = """
from weave_data.torchvision_ops import install
install()
from lmms_eval.__main__ import cli_evaluate
cli_evaluate()
"""

OPTIONS_TASK = """
include: {videomme}
task: videomme_options
output_type: multiple_choice
doc_to_text: question
doc_to_choice: options
doc_to_target: "{{{{'ABCD'.index(answer)}}}}"
process_results: null
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@dataclass(frozen=True)
class Theirs:
    """What lmms-eval wrote: results and samples by task."""

    results: dict[str, Any]
    samples: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def theirs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    """Its `videomme` as it is published, and the same questions with the likelihoods of the options."""
    spec = importlib.util.find_spec("lmms_eval")
    assert spec is not None
    package = Path(str(spec.origin)).parent
    include = tmp_path_factory.mktemp("tasks")
    (include / "videomme_options.yaml").write_text(
        OPTIONS_TASK.format(videomme=package / "tasks" / "videomme" / "videomme.yaml")
    )
    out = tmp_path_factory.mktemp("out")
    flags = ["--model", "weave_train", "--model_args", f"pretrained={world.run},num_frames={NUM_FRAMES}"]
    flags += ["--tasks", "videomme,videomme_options", "--include_path", str(include), "--batch_size", "5"]
    flags += ["--output_path", str(out), "--log_samples", "--verbosity", "DEBUG"]
    said = succeed([sys.executable, "-c", LMMS_EVAL, *flags], world)
    (results,) = out.rglob("*results.json")
    samples = {
        path.name.partition("samples_")[2].removesuffix(".jsonl"): [
            json.loads(line) for line in path.read_text().splitlines()
        ]
        for path in out.rglob("*samples_*.jsonl")
    }
    assert set(samples) == {"videomme", "videomme_options"}, said
    return Theirs(json.loads(results.read_text())["results"], samples)


def test_videomme_in_lmms_eval_gives_our_texts_and_our_scores(
    world: World, theirs: Theirs, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "weave_train", "evaluate", str(world.run), "--task", "videomme"]
    command += ["--data", str(world.data), "--to", str(tmp_path), "--num-frames", str(NUM_FRAMES)]
    succeed([*command, "--modes", "frames"], world)
    answers = read_answers(tmp_path / "videomme")
    samples = sorted(theirs.samples["videomme"], key=lambda sample: int(sample["doc_id"]))
    assert [sample["videomme_perception_score"]["question_id"] for sample in samples] == [
        answer.id for answer in answers
    ]
    asked = TASKS["videomme"].read(TaskFiles(open_source(str(world.data)))).questions
    assert [sample["input"] for sample in samples] == [question.prompt for question in asked]
    assert [sample["filtered_resps"] for sample in samples] == [answer.generated for answer in answers]
    assert [answer.generated for answer in answers] == SAID
    scores = [sample["videomme_perception_score"]["score"] for sample in samples]
    assert scores == [answer.scores["generated"] for answer in answers]
    assert sum(scores) == NUM_RIGHT
    results = json.loads((tmp_path / "videomme" / "results.json").read_text())
    mean = results["modes"]["frames"]["scores"]["generated"]["mean"]
    assert theirs.results["videomme"]["videomme_perception_score,none"] == pytest.approx(100 * mean)
    assert mean == NUM_RIGHT / 12


def test_likelihoods_in_lmms_eval_are_ours_and_choose_the_same_option(
    world: World, theirs: Theirs, tmp_path: Path
) -> None:
    rows = [
        {
            "id": row["question_id"],
            "video": f"{row['videoID']}.mp4",
            "question": row["question"],
            "options": row["options"],
            "answer": "ABCD".index(row["answer"]),
            "style": "texts",
        }
        for row in questions()
    ]
    data = tmp_path / "data"
    shutil.copytree(world.data / "videomme" / "data", data)
    (data / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = Evaluation(PinnedModel("taught", "step 30"), str(data), tmp_path / "to", ("frames",), NUM_FRAMES)
    evaluate_task(asked, TASKS["questions"], world.vlm)
    answers = read_answers(tmp_path / "to" / "questions")
    samples = sorted(theirs.samples["videomme_options"], key=lambda sample: int(sample["doc_id"]))
    assert len(samples) == len(answers) == 12
    for sample, answer in zip(samples, answers, strict=True):
        losses = [float(loss) for loss, _ in sample["filtered_resps"]]
        means = [s / n for s, n in zip(answer.log_probs or (), answer.num_tokens or (), strict=True)]
        assert losses == pytest.approx([-mean for mean in means], abs=1e-4)
        assert sample["acc"] == answer.scores["likelihood_per_token"]
    mean = sum(answer.scores["likelihood_per_token"] for answer in answers) / len(answers)
    assert theirs.results["videomme_options"]["acc,none"] == pytest.approx(mean)


def test_what_a_model_says_is_greedy_and_nothing_else_is(world: World) -> None:
    asked = TASKS["videomme"].read(TaskFiles(open_source(str(world.data)))).questions
    prompts, films = [], []
    for question in asked:
        prompts.append(world.vlm.get_prompt_builder())
        prompts[-1].add_turn("human", question.prompt)
        film = world.data / "videomme" / "data" / f"{question.video}.mp4"
        films.append(frames_from_video(film, world.vlm.settings, num_frames=NUM_FRAMES))
    texts = sorted(set(SAID))
    scores = score_answers(world.vlm, films, prompts, [texts] * len(asked), with_end=True)
    greedy = [[text for text, score in zip(texts, row, strict=True) if score.is_greedy] for row in scores]
    assert greedy == [[said] for said in SAID]


def test_the_entry_point_names_the_model_and_loads_nothing() -> None:
    found = [entry for entry in entry_points(group="lmms_eval.models") if entry.name == "weave_train"]
    assert found, "the package's metadata is older than the entry point: install it again (make setup)"
    script = (
        "import sys\nfrom importlib.metadata import entry_points\n"
        "(entry,) = entry_points(group='lmms_eval.models', name='weave_train')\nentry.load()\n"
        "print([name for name in ('torch', 'lmms_eval', 'transformers') if name in sys.modules])"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
