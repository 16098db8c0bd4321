"""A conversation goes on, looks elsewhere and starts afresh when it is told to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from talkative import talkative_model
from test_loading import write_run
from test_video import render
from tiny_rows import jpeg

from weave_data.foreign_text import visible
from weave_train import cli
from weave_train.chat import Chat
from weave_train.config import ModelSettings
from weave_train.models.model import VideoLanguageModel
from weave_train.models.video import frames_from_video

RED, BLUE = jpeg((200, 30, 30)), jpeg((30, 30, 200))
SHORT = {"max_new_tokens": 6}


class Script:
    """A screen whose lines are known beforehand."""

    def __init__(self, *lines: str | BaseException) -> None:
        self.lines = list(lines)
        self.shown = ""
        self.complaints: list[str] = []

    def ask(self, question: str) -> str | None:
        if not self.lines:
            return None
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    def write(self, piece: str) -> None:
        self.shown += piece

    def complain(self, message: str) -> None:
        self.complaints.append(message)


@pytest.fixture(scope="module")
def llama(settings: ModelSettings, tokenizer: Any) -> VideoLanguageModel:
    return talkative_model("llama", settings, tokenizer)


def answers(vlm: VideoLanguageModel, frames: list[bytes], *questions: str) -> list[str]:
    builder, said = vlm.get_prompt_builder(), []
    for question in questions:
        builder.add_turn("human", question)
        said.append(vlm.generate(frames, builder.get_prompt(), **SHORT))
        builder.add_turn("gpt", said[-1])
    return said


def test_answers_follow_from_all_that_was_said(llama: VideoLanguageModel) -> None:
    screen = Script("What is it?", "  ", "And why?", "q", "not said any more")
    Chat(llama, [RED], screen, SHORT).run()
    first, second = answers(llama, [RED], "What is it?", "And why?")
    assert screen.shown == f"{first}\n{second}\n"
    assert second != answers(llama, [RED], "And why?")[0]
    assert screen.lines == ["not said any more"]


def test_another_image_starts_afresh(llama: VideoLanguageModel, tmp_path: Path) -> None:
    (tmp_path / "blue.jpg").write_bytes(BLUE)
    screen = Script("What is it?", "(I)", str(tmp_path / "blue.jpg"), "And why?", "i", "none.mp4", "So?")
    Chat(llama, [RED], screen, SHORT).run()
    expected = answers(llama, [RED], "What is it?") + answers(llama, [BLUE], "And why?", "So?")
    assert screen.shown == "".join(f"{text}\n" for text in expected)
    (complaint,) = screen.complaints
    assert "there is no file 'none.mp4'" in complaint  # and the conversation goes on


def test_what_does_not_work_is_said_and_leaves_the_conversation_alone(llama: VideoLanguageModel) -> None:
    screen = Script("What is it?", "too long " * 300, "p", "Be brief.", "And why?")
    Chat(llama, [RED], screen, SHORT).run()
    first, second = answers(llama, [RED], "What is it?", "And why?")
    assert screen.shown == f"{first}\n{second}\n"
    assert "leave no room" in screen.complaints[0]
    assert "system_prompt" in screen.complaints[1]


def test_an_interrupted_answer_starts_afresh(llama: VideoLanguageModel, monkeypatch: Any) -> None:
    screen = Script("What is it?", "again", "And why?")
    stream = llama.stream

    def interrupted(frames: Any, prompt: Any, **options: Any) -> Any:
        if "again" in str(prompt.get_prompt()):
            raise KeyboardInterrupt
        return stream(frames, prompt, **options)

    monkeypatch.setattr(llama, "stream", interrupted)
    Chat(llama, [RED], screen, SHORT).run()
    expected = [*answers(llama, [RED], "What is it?"), *answers(llama, [RED], "And why?")]
    assert screen.shown == "".join(f"{text}\n" for text in expected)


def test_generate_answers_about_what_it_is_given(
    vlm: VideoLanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(vlm, tmp_path / "run")
    (tmp_path / "red.jpg").write_bytes(RED)
    render(tmp_path / "clip.mp4", 20)
    video = frames_from_video(tmp_path / "clip.mp4", vlm.settings, num_frames=3)
    for flags, frames in [
        (["--image", str(tmp_path / "red.jpg")], [RED]),
        (["--video", str(tmp_path / "clip.mp4"), "--num-frames", "3"], video),
        ([], []),
    ]:
        command = ["generate", str(tmp_path / "run"), "--prompt", "What is it?", "--max-new-tokens", "6"]
        monkeypatch.setattr(sys, "argv", ["weave-train", *command, *flags])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code in (0, None)
        assert capsys.readouterr().out == visible(answers(vlm, frames, "What is it?")[0]) + "\n"


@pytest.mark.process
def test_serve_answers_by_the_name_of_its_run(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    write_run(vlm, tmp_path / "first")
    command = [sys.executable, "-m", "weave_train", "serve", str(tmp_path / "first"), "--port", "0"]
    server = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    try:
        assert server.stderr is not None
        found = None
        while found is None:
            line = server.stderr.readline().decode()
            assert line, "it ended"
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
        address = found[1]
        assert httpx.get(f"{address}/v1/models").json()["data"][0]["id"] == "first"
        message = {"role": "user", "content": "What is it?"}
        request = {"model": "first", "messages": [message], "max_tokens": 6}
        answer = httpx.post(f"{address}/v1/chat/completions", json=request, timeout=60).json()
        assert answer["choices"][0]["message"]["content"] == answers(vlm, [], "What is it?")[0]
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.process
def test_a_pipe_is_answered_line_by_line(vlm: VideoLanguageModel, tmp_path: Path) -> None:
    write_run(vlm, tmp_path / "run")
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in [(2, RED), (10, BLUE)]:
        (folder / f"{number}.jpg").write_bytes(frame)
    command = [sys.executable, "-m", "weave_train", "chat", str(tmp_path / "run"), "--frames", str(folder)]
    done = subprocess.run(
        [*command, "--max_new_tokens", "6"],
        input=b"What is it?\nAnd \xff why\x07?\ni\nnone.mp4\nq\n",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = answers(vlm, [RED, BLUE], "What is it?", "And \ufffd why\x07?")
    assert done.stdout.decode() == "".join(f"{visible(text)}\n" for text in expected)
    assert b"there is no file 'none.mp4'" in done.stderr
    assert b"Traceback" not in done.stderr
