"""A conversation about a video, line by line.

    i   another video, image or folder of frames; starts afresh
    p   another system prompt; starts afresh
    q   quit, as does the end of input
    any other line is said to the model

Source:
    VideoWeave's `scripts/generate.py`. Differs: all commands can be reached, and what is said by mistake
    (a file that is not there, too long a message) ends neither program nor conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from weave_data.errors import WeaveError
from weave_train.models.media import frames_from_path
from weave_train.models.model import VideoLanguageModel
from weave_train.rows.prompt import PromptBuilder

__all__ = ["Chat", "Screen"]

_COMMANDS = {"i", "p", "q"}
_HELP = "(i) new image, video or folder; (p) new system prompt; (q) quit; or a message: "


class Screen(Protocol):
    """Where lines come from and answers go."""

    def ask(self, question: str) -> str | None:
        """The next line; None at the end of input."""
        ...

    def write(self, piece: str) -> None:
        """Show a piece of an answer at once."""
        ...

    def complain(self, message: str) -> None:
        """Show what went wrong."""
        ...


class Chat:
    """One conversation.

    Args:
        vlm: That answers.
        frames: That it is about; none for text alone.
        screen: Of whoever asks.
        options: As `vlm.generate`.
        system_prompt: None takes the format's own, if it has one.

    Raises:
        ConfigError: A system prompt where the format has no place for one.
    """

    def __init__(
        self,
        vlm: VideoLanguageModel,
        frames: Sequence[bytes],
        screen: Screen,
        options: dict[str, Any],
        *,
        system_prompt: str | None = None,
    ) -> None:
        self._vlm = vlm
        self._frames = frames
        self._screen = screen
        self._options = options
        self._system_prompt = system_prompt
        self._turns: list[tuple[str, str]] = []
        vlm.get_prompt_builder(system_prompt)

    def run(self) -> None:
        """Talk until the end of input or `q`."""
        actions: dict[str, Callable[[], None]] = {"i": self._look, "p": self._instruct}
        while (line := self._screen.ask(_HELP)) is not None:
            text = line.strip()
            command = text.lower().strip("()")
            if command not in _COMMANDS or len(text) > len("(i)"):
                if text:
                    self._try(lambda text=text: self._say(text))  # type: ignore[misc]
            elif command == "q":
                return
            else:
                self._try(actions[command])

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except WeaveError as error:
            self._screen.complain(str(error))
        except KeyboardInterrupt:
            self._turns.clear()
            self._screen.complain("stopped; the conversation starts afresh")

    def _look(self) -> None:
        path = self._screen.ask("video, image or folder of frames: ")
        if path is not None:
            self._frames = frames_from_path(path.strip(), self._vlm.settings)
            self._turns.clear()

    def _instruct(self) -> None:
        text = self._screen.ask("system prompt: ")
        if text is not None:
            self._vlm.get_prompt_builder(text.strip() or None)
            self._system_prompt = text.strip() or None
            self._turns.clear()

    def _say(self, message: str) -> None:
        builder = self._builder([*self._turns, ("human", message)])
        pieces = []
        for piece in self._vlm.stream(list(self._frames), builder, **self._options):
            pieces.append(piece)
            self._screen.write(piece)
        self._screen.write("\n")
        self._turns += [("human", message), ("gpt", "".join(pieces))]

    def _builder(self, turns: Sequence[tuple[str, str]]) -> PromptBuilder:
        builder = self._vlm.get_prompt_builder(self._system_prompt)
        for role, text in turns:
            builder.add_turn(role, text)
        return builder
