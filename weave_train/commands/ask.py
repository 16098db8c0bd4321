"""`weave-train generate` and `weave-train chat`: a stored model answers on the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weave_data.errors import ConfigError
from weave_data.foreign_text import redact, visible

if TYPE_CHECKING:
    from weave_train.config import ModelSettings

__all__ = ["Model", "NumFrames", "Token", "chat", "generate"]

_MODEL_HELP = "Run directory or URI, one of its checkpoints/step-<n>, a .pt file or a published model's id."

Model = Annotated[str, typer.Argument(help=_MODEL_HELP)]
Video = Annotated[Path | None, typer.Option(help="Video file.")]
Frames = Annotated[Path | None, typer.Option(help="Folder of frames, in natural order.")]
Image = Annotated[Path | None, typer.Option(help="Image file.")]
SystemPrompt = Annotated[str | None, typer.Option("--system-prompt", "--system_prompt")]
NumFrames = Annotated[
    int | None, typer.Option("--num-frames", "--num_frames", min=1, help="Of a video, instead of the run's.")
]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", "--max_new_tokens", min=1)]
MinLength = Annotated[int, typer.Option("--min-length", "--min_length", min=0)]
DoSample = Annotated[bool, typer.Option("--do-sample", "--do_sample", help="Draw tokens.")]
Temperature = Annotated[float, typer.Option(help="Of the draws.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Of the draws.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--hf-token",
        "--hf_token",
        help="File or environment variable with a token of the hub; read when a model is gated.",
    ),
]


def generate(
    model: Model,
    *,
    video: Video = None,
    frames: Frames = None,
    image: Image = None,
    prompt: Annotated[str, typer.Option(help="What to ask.")] = "Describe what is happening in the video.",
    system_prompt: SystemPrompt = None,
    num_frames: NumFrames = None,
    max_new_tokens: MaxNewTokens = 128,
    min_length: MinLength = 1,
    do_sample: DoSample = False,
    temperature: Temperature = 1.0,
    seed: Seed = None,
    hf_token: Token = None,
) -> None:
    """Answer a prompt about a video, frames or an image, sampled as the run was trained to see videos."""
    _check_one(video, frames, image)
    from weave_train.loading import load

    vlm = load(model, hf_token, num_frames=num_frames)
    builder = vlm.get_prompt_builder(system_prompt)
    builder.add_turn("human", prompt)
    options = _options(max_new_tokens, min_length, do_sample, temperature, seed)
    for piece in vlm.stream(_media(vlm.settings, video, frames, image), builder, **options):
        print(visible(piece), end="", flush=True)
    print()


def chat(
    model: Model,
    *,
    video: Video = None,
    frames: Frames = None,
    image: Image = None,
    system_prompt: SystemPrompt = None,
    num_frames: NumFrames = None,
    max_new_tokens: MaxNewTokens = 512,
    min_length: MinLength = 1,
    do_sample: DoSample = False,
    temperature: Temperature = 1.0,
    seed: Seed = None,
    hf_token: Token = None,
) -> None:
    """Talk about a video: i looks at another, p sets a system prompt, q quits, all else is said."""
    _check_one(video, frames, image)
    from weave_train.chat import Chat
    from weave_train.loading import load

    vlm = load(model, hf_token, num_frames=num_frames)
    media = _media(vlm.settings, video, frames, image)
    options = _options(max_new_tokens, min_length, do_sample, temperature, seed)
    Chat(vlm, media, _Terminal(), options, system_prompt=system_prompt).run()


class _Terminal:
    """Standard input and output; questions are shown to people, not to pipes."""

    def __init__(self) -> None:
        if hasattr(sys.stdin, "reconfigure"):
            sys.stdin.reconfigure(errors="replace")  # bytes that are no text can't be tokenised

    def ask(self, question: str) -> str | None:
        """See `chat.Screen`."""
        if sys.stdin.isatty():
            print(question, end="", flush=True)
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None

    def write(self, piece: str) -> None:
        """See `chat.Screen`."""
        print(visible(piece), end="", flush=True)

    def complain(self, message: str) -> None:
        """See `chat.Screen`."""
        print(f"weave-train: {redact(visible(message))}", file=sys.stderr, flush=True)


def _check_one(video: Path | None, frames: Path | None, image: Path | None) -> None:
    given = {"--video": video, "--frames": frames, "--image": image}
    named = [flag for flag, path in given.items() if path is not None]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)}: a model is asked about one of them; leave the others out")


def _media(
    settings: ModelSettings, video: Path | None, frames: Path | None, image: Path | None
) -> list[bytes]:
    from weave_train.models.media import frames_from_folder, frames_from_image
    from weave_train.models.video import frames_from_video

    if video is not None:
        return frames_from_video(video, settings)
    if frames is not None:
        return frames_from_folder(frames, settings)
    return [] if image is None else frames_from_image(image)


def _options(
    max_new_tokens: int, min_length: int, do_sample: bool, temperature: float, seed: int | None
) -> dict[str, Any]:
    return {
        "max_new_tokens": max_new_tokens,
        "min_length": min_length,
        "do_sample": do_sample,
        "temperature": temperature,
        "seed": seed,
    }
