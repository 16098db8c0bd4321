"""The model as lmms-eval holds it: any batch size, visuals of every kind, clear words for the rest."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from plain_videos import render

from weave_data.errors import ConfigError, SourceError
from weave_train.config import ModelSettings
from weave_train.harness.generation_kwargs import answer_options
from weave_train.harness.visuals import VisualReader
from weave_train.models.decoding import AnswerOptions
from weave_train.models.model import VideoLanguageModel
from weave_train.models.video import frames_from_video

needs_lmms_eval = pytest.mark.skipif(
    importlib.util.find_spec("lmms_eval") is None,
    reason="lmms-eval is not installed: `make lmms-eval` installs it without its contradicting pins",
)
SETTINGS = ModelSettings(precision="fp32", num_frames=3)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, AnswerOptions(1024)),
        ({"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False},
         AnswerOptions(16)),
        ({"max_gen_toks": 8, "until": "\n"}, AnswerOptions(8, stop_strings=("\n",))),
        ({"until": ["\n\n", "Q:"], "image_aspect_ratio": "original"},
         AnswerOptions(1024, stop_strings=("\n\n", "Q:"))),
        ({"temperature": 0.7, "top_p": 0.9}, AnswerOptions(1024, do_sample=True, temperature=0.7, top_p=0.9)),
        ({"do_sample": True, "temperature": 0.5, "top_k": 5},
         AnswerOptions(1024, do_sample=True, temperature=0.5, top_k=5)),
        ({"do_sample": False, "temperature": 0.7}, AnswerOptions(1024)),
        ({"do_sample": True, "temperature": 0, "top_p": None}, AnswerOptions(1024)),
    ],
)  # fmt: skip
def test_generation_kwargs_mean_what_they_mean_there(given: dict[str, Any], options: AnswerOptions) -> None:
    assert answer_options(given) == options


def test_beams_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_beams 4: there is no beam search"):
        answer_options({"num_beams": 4})


@pytest.fixture
def reader() -> Iterator[VisualReader]:
    reader = VisualReader(SETTINGS)
    yield reader
    reader.close()


@pytest.mark.process
def test_visuals_of_every_kind_become_frames(reader: VisualReader, tmp_path: Path) -> None:
    render(tmp_path / "a.mp4", ["red", "blue"])
    images = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(7)]
    (tmp_path / "frames").mkdir()
    for number, image in enumerate(images):
        image.save(tmp_path / "frames" / f"{number}.png")
    film = frames_from_video(tmp_path / "a.mp4", SETTINGS)
    assert reader.frames([str(tmp_path / "a.mp4")]) == film
    assert reader.frames(str(tmp_path / "a.mp4")) == film
    assert reader.frames([images[:2]]) == images[:2]
    assert reader.frames(images) == [images[0], images[3], images[6]]
    assert reader.frames([images[0], tmp_path / "a.mp4"]) == [images[0], *film]
    folder = [tmp_path / "frames" / f"{number}.png" for number in (0, 3, 6)]
    assert reader.frames([str(tmp_path / "frames")]) == [path.read_bytes() for path in folder]
    assert reader.frames(str(folder[1])) == [folder[1].read_bytes()]
    assert reader.frames(None) == reader.frames([]) == []


@pytest.mark.process
def test_what_is_no_picture_ends_the_evaluation(reader: VisualReader, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"broken\.mp4: no frames can be decoded"):
        reader.frames([tmp_path / "broken.mp4"])
    with pytest.raises(SourceError, match=r"missing\.mp4: can't be read: .*fetch the task's videos"):
        reader.frames([tmp_path / "missing.mp4"])
    with pytest.raises(SourceError, match="dict is neither an image nor a path"):
        reader.frames([{"array": [0.0], "sampling_rate": 16000}])


Make = Callable[..., Any]


@pytest.fixture
def make(run_dir: Path) -> Iterator[Make]:
    from weave_train.harness.model import WeaveTrain

    made = []

    def make_one(batch_size: int) -> Any:
        model = WeaveTrain.create_from_arg_string(
            f"pretrained={run_dir},num_frames=2", {"batch_size": batch_size, "device": "cpu"}
        )
        model.task_dict = {"task": {"test": DOCUMENTS}}
        made.append(model)
        return model

    yield make_one
    for model in made:
        model.clean()


DOCUMENTS = [
    {"images": [Image.new("RGB", (40, 32), colour)] * (number % 3)}
    for number, colour in enumerate(["red", "green", "blue", "white", "red"])
]


def request(kind: str, second: Any, document: int) -> Any:
    from lmms_eval.api.instance import Instance

    text = f"What is shown in picture {document}?"
    arguments = (text, second, lambda row: row["images"], document, "task", "test")
    metadata = {"task": "task", "doc_id": document, "repeats": 1}
    return Instance(request_type=kind, arguments=arguments, idx=0, metadata=metadata)


@needs_lmms_eval
def test_answers_are_the_models_own_for_any_batch_size(make: Make, vlm: VideoLanguageModel) -> None:
    lengths = [4, 9, 1, 5, 3]
    requests = [request("generate_until", {"max_new_tokens": n}, i) for i, n in enumerate(lengths)]
    expected = []
    for asked, number in zip(requests, lengths, strict=True):
        builder = vlm.get_prompt_builder()
        builder.add_turn("human", asked.args[0])
        images = DOCUMENTS[asked.args[3]]["images"] or None
        expected.append(vlm.generate(images, builder, max_new_tokens=number))
    assert any(expected)
    for batch_size in (1, 2, 8):
        assert make(batch_size).generate_until(requests) == expected


@needs_lmms_eval
def test_losses_come_one_for_each_request_in_order(make: Make) -> None:
    texts = [["a red dot", "blue"], ["no"], ["a", "b", "a long text about a red dot"], ["x"], ["y", "x"]]
    requests = [request("loglikelihood", f" {text}", i) for i, row in enumerate(texts) for text in row]
    requests[3] = request("loglikelihood", lambda row: f"{'a' * len(row['images']) or 'a'}", 2)
    found = [result.text for result in make(3).loglikelihood(requests)]
    alone = [result.text for asked in requests for result in make(1).loglikelihood([asked])]
    assert [greedy for _, greedy in found] == [greedy for _, greedy in alone]
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in alone], abs=1e-4)
    assert all(loss > 0 for loss, _ in found)


@needs_lmms_eval
def test_what_is_not_there_says_so(make: Make, run_dir: Path) -> None:
    from weave_train.harness.model import WeaveTrain

    with pytest.raises(ConfigError, match="unknown num_frame; known: pretrained, num_frames"):
        WeaveTrain.create_from_arg_string(f"pretrained={run_dir},num_frame=2")
    with pytest.raises(ConfigError, match="pretrained is missing"):
        WeaveTrain.create_from_arg_string("num_frames=2")
    with pytest.raises(ConfigError, match="batch_size auto: sizes are not searched for"):
        WeaveTrain(str(run_dir), batch_size="auto")
    with pytest.raises(NotImplementedError, match="1 requests of several rounds"):
        make(1).generate_until_multi_round([request("generate_until_multi_round", {}, 0)])


@needs_lmms_eval
def test_rank_and_world_size_are_the_environments(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (make(1).rank, make(1).world_size) == (0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert (make(1).rank, make(1).world_size) == (1, 3)
