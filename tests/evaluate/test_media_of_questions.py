"""Videos of questions are found however they lie; a store that fails is no question's fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from plain_videos import render
from servers import S3Server
from tiny_rows import jpeg

from weave_data.errors import ConfigError, StoreError
from weave_data.storage import open_source
from weave_train.commands.evaluate import evaluate
from weave_train.config import ModelSettings
from weave_train.evaluate.answer import read_answers
from weave_train.evaluate.media import MediaFinder, Sampling
from weave_train.evaluate.question import LostQuestionError, Question, Span
from weave_train.evaluate.run import Evaluation, evaluate_task
from weave_train.evaluate.tasks.catalog import TASKS
from weave_train.evaluate.weights import PinnedModel, pin_model, run_folder
from weave_train.models.model import VideoLanguageModel

ALL = Sampling(4)


def about(video: str, **fields: object) -> Question:
    return replace(Question("q", video, "?", "?"), **fields)  # type: ignore[arg-type]


def finder(folder: Path) -> MediaFinder:
    return MediaFinder(open_source(str(folder)), ModelSettings(num_frames=4))


def frames_folder(folder: Path, count: int) -> list[bytes]:
    folder.mkdir(parents=True)
    images = [jpeg((number * 20, 0, 0)) for number in range(count)]
    for number, image in enumerate(images):
        (folder / f"{number + 1}.jpg").write_bytes(image)
    return images


def test_a_folder_of_frames_is_sampled_in_natural_order_and_by_seconds(tmp_path: Path) -> None:
    images = frames_folder(tmp_path / "tvqa" / "castle", 12)
    media = finder(tmp_path)
    assert media.frames(about("castle"), ALL) == [images[index] for index in (0, 3, 7, 11)]
    assert media.frames(about("castle"), Sampling(1, is_center=True)) == [images[6]]
    part = about("castle", span=Span(1.0, 2.0), frames_hz=3.0)
    assert media.frames(part, ALL) == images[3:6]  # no more than there are
    with pytest.raises(LostQuestionError, match="none in the part asked for"):
        media.frames(about("castle", span=Span(9.0, 10.0), frames_hz=3.0), ALL)


def test_a_frame_that_is_no_image_loses_its_question(tmp_path: Path) -> None:
    frames_folder(tmp_path / "clip", 3)
    (tmp_path / "clip" / "2.jpg").write_bytes(b"no image")
    with pytest.raises(LostQuestionError, match=r"clip/2\.jpg") as caught:
        finder(tmp_path).frames(about("clip"), ALL)
    assert caught.value.reason == "undecodable-frame"


@pytest.mark.process
def test_one_image_is_a_single_frame_at_its_very_place(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(jpeg((9, 9, 9)))
    media = finder(tmp_path)
    assert media.frames(about("pictures/a.jpg"), ALL) == [jpeg((9, 9, 9))]
    assert media.frames(about("a.jpg", folder="pictures"), ALL) == [jpeg((9, 9, 9))]
    for elsewhere in ("a.jpg", "../pictures/a.jpg", f"{tmp_path}/pictures/a.jpg"):
        with pytest.raises(LostQuestionError, match=r"a\.jpg: no such image") as caught:
            media.frames(about(elsewhere), ALL)
        assert caught.value.reason == "missing-video"


def test_a_gif_is_a_video_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    frames = [Image.new("RGB", (32, 32), (20 * number, 0, 0)) for number in range(10)]
    frames[0].save(tmp_path / "videos" / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    media = finder(tmp_path)
    for name in ("videos/a.gif", "a.gif", "a"):
        assert len(media.frames(about(name), ALL)) == 4


def test_the_published_folder_decides_between_files_of_one_name(tmp_path: Path) -> None:
    render(tmp_path / "star" / "a.mp4", ["red"])
    render(tmp_path / "sta" / "a.mp4", ["blue"])
    media = finder(tmp_path)
    try:
        red = media.frames(about("a.mp4", folder="star"), ALL)
        assert red != media.frames(about("a.mp4", folder="sta"), ALL)
        assert red == media.frames(about("star/a.mp4"), ALL)
        with pytest.raises(LostQuestionError, match="2 files fit"):
            media.frames(about("a.mp4"), ALL)
    finally:
        media.close()


def test_thumbnails_beside_a_video_are_not_taken_for_it(tmp_path: Path) -> None:
    images = frames_folder(tmp_path / "thumbs" / "ABC", 3)
    media = finder(tmp_path)
    assert media.frames(about("ABC"), ALL) == images
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "ABC.mp4").write_bytes(b"never opened")
    media = finder(tmp_path)
    with pytest.raises(LostQuestionError, match="2 files fit") as caught:
        media.frames(about("ABC"), ALL)
    assert caught.value.reason == "ambiguous-video"
    assert media.frames(about("ABC", is_frames=True), ALL) == images
    assert media.frames(about("thumbs/ABC"), ALL) == images


@pytest.mark.process
def test_a_store_that_fails_ends_the_evaluation_and_loses_no_question(tmp_path: Path) -> None:
    for name in ("a", "b"):
        render(tmp_path / f"{name}.mp4", ["red"])
    media = finder(tmp_path)
    try:
        media.frames(about("a.mp4"), ALL)
        (tmp_path / "b.mp4").unlink()  # after it was listed
        with pytest.raises(StoreError, match="it was there when it was listed"):
            media.frames(about("b.mp4"), ALL)
    finally:
        media.close()


@pytest.mark.server
@pytest.mark.process
def test_questions_and_videos_in_a_bucket_get_the_same_answers(
    s3: S3Server, questions_dir: Path, vlm: VideoLanguageModel, tmp_path: Path
) -> None:
    bucket = s3.new_bucket()
    for path in questions_dir.rglob("*.*"):
        s3.client().upload_file(str(path), bucket, f"bench/{path.relative_to(questions_dir)}")
    answers = []
    for name, data in (("disk", str(questions_dir)), ("bucket", f"s3://{bucket}/bench")):
        asked = Evaluation(PinnedModel("tiny", "step 30"), data, tmp_path / name, limit=5)
        evaluate_task(asked, TASKS["questions"], vlm)
        answers.append(read_answers(tmp_path / name / "questions"))
    assert answers[0] == answers[1]
    assert all(answer.problem is None for answer in answers[1])


def test_a_run_is_pinned_to_the_checkpoint_that_was_newest(run_dir: Path) -> None:
    pinned = pin_model(str(run_dir))
    assert pinned.step == 30
    assert pinned.model.endswith("/checkpoints/step-000030")
    assert pin_model(pinned.model) == pinned
    assert pinned.weights.startswith("step 30, sha256 ")


def test_ranks_of_another_launcher_are_given_one_checkpoint_or_none_of_them_begins(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"name one, .*/checkpoints/step-\d+, or give --num-ranks"):
        evaluate(str(run_dir), task="questions", data=str(tmp_path))
    (step,) = (run_dir / "checkpoints").iterdir()
    with pytest.raises(ConfigError, match=r"holds no questions\.jsonl"):
        evaluate(str(step), task="questions", data=str(tmp_path), to=tmp_path / "results")


def test_a_run_that_has_only_just_begun_has_a_place_for_results(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="to: required"):
        run_folder(str(tmp_path))
    (tmp_path / "runner.json").touch()
    assert run_folder(str(tmp_path)) == tmp_path / "evaluations"
