r"""The chat template of a tokenizer, taken apart: what it writes around messages depends on their number.

    rendered   <|im_start|>user\nMESSAGE0<|im_end|>\n<|im_start|>assistant\nMESSAGE1<|im_end|>\n
    around     [<|im_start|>user\n] [<|im_end|>\n<|im_start|>assistant\n] [<|im_end|>\n]

Messages never pass through the template: they can't change what it writes, nor be changed by it. A prompt is
what stands before the next answer, so asking and training can't differ.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weave_data.errors import ConfigError
from weave_train.rows.segments import Piece, Segment, message, template
from weave_train.rows.text_ids import control_pattern

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TemplateFormat"]

_MARK = re.compile(r"WEAVE(\d+)MESSAGE")
_SOME_DAY = "26 Jul 2024"  # Llama's own default: a prompt must not depend on the day
_EVERY_DAY = "{%- macro strftime_now(format) -%}" + _SOME_DAY + "{%- endmacro %}"
_INSTEAD = "give the tokenizer another chat template (chat_template.jinja), or --model.prompt_format legacy"


class TemplateFormat:
    """A `TurnFormat` from a tokenizer's chat template.

    Args:
        tokenizer: It has a chat template.

    Raises:
        ConfigError: The template can't be rendered, or its answers have no end.
    """

    answer_opening = ""
    strips_prompt = False
    is_joined = True
    writes_bos = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        _, before, after = _around(tokenizer, 2, has_system=False)
        self._written_start = before[len(before.rstrip(" ")) :]  # "[/INST] A": the blank is the answer's
        self._written_end = _end_of_answer(tokenizer, after)
        self.end = self._written_end.strip()

    def segments(self, messages: Sequence[Sequence[Piece]], system_prompt: str | None) -> list[Segment]:
        """See `TurnFormat.segments`."""
        has_system = system_prompt is not None
        # an answer is always asked for as the template writes the one that is there
        around = list(_around(self.tokenizer, len(messages) + len(messages) % 2, has_system=has_system))
        opening: list[Piece] = []
        if system_prompt is not None:
            opening = [template(around.pop(0)), message(system_prompt.strip())]
        found: list[Segment] = []
        for index, pieces in enumerate(messages):
            if index % 2:
                found.append(self.answer(pieces))
                if not around[index + 1].startswith(self._written_end):
                    raise ConfigError(
                        f"the chat template ends its last answer with {self._written_end!r} and an "
                        f"earlier one with {around[index + 1]!r}; {_INSTEAD}"
                    )
                around[index + 1] = around[index + 1].removeprefix(self._written_end)
            else:
                written = (
                    *opening,
                    template(around[index]),
                    *pieces,
                    template(around[index + 1].removesuffix(self._written_start)),
                )
                found.append(Segment(written))
                opening = []
        return found

    def answer(self, pieces: Sequence[Piece]) -> Segment:
        """See `TurnFormat.answer`."""
        written = (template(self._written_start), *pieces, template(self._written_end))
        return Segment(tuple(piece for piece in written if piece.text), is_supervised=True)

    def check_taught(self, num_turns: int) -> None:
        """See `TurnFormat.check_taught`."""
        whole = _around(self.tokenizer, num_turns, has_system=False)
        for answered in range(2, num_turns, 2):
            before = _around(self.tokenizer, answered, has_system=False)[:answered]
            if before != whole[:answered]:
                raise ConfigError(
                    f"the chat template writes the first {answered} turns otherwise once others follow "
                    f"({before[answered - 1]!r} becomes {whole[answered - 1]!r}): their answers would be "
                    f"learnt after another prompt than they are asked with; {_INSTEAD}"
                )


def _end_of_answer(tokenizer: PreTrainedTokenizerBase, written: str) -> str:
    """First control token after an answer, with the blanks before it."""
    found = control_pattern(tokenizer).search(written)
    if found is None or written[: found.start()].strip():
        raise ConfigError(
            f"the chat template writes {written!r} after an answer, which begins with no control token: "
            f"answers could never end; {_INSTEAD}"
        )
    return written[: found.end()]


def _around(tokenizer: PreTrainedTokenizerBase, num_turns: int, *, has_system: bool) -> tuple[str, ...]:
    """What the template writes around each message: one string more than there are messages.

    Raises:
        ConfigError: It refuses such a conversation, or leaves a message out, repeats or reorders them.
    """
    return _rendered_around(tokenizer, tokenizer.get_chat_template(), num_turns, has_system)


@functools.lru_cache(maxsize=256)
def _rendered_around(
    tokenizer: PreTrainedTokenizerBase, chat_template: str, num_turns: int, has_system: bool
) -> tuple[str, ...]:
    from jinja2 import TemplateError

    roles = ["system"] * has_system + [("user", "assistant")[turn % 2] for turn in range(num_turns)]
    marked = [{"role": role, "content": f"WEAVE{i}MESSAGE"} for i, role in enumerate(roles)]
    try:
        text = str(
            tokenizer.apply_chat_template(
                marked,
                chat_template=f"{_EVERY_DAY}{chat_template}"
                if "strftime_now" in chat_template
                else chat_template,
                tokenize=False,
                date_string=_SOME_DAY,
            )
        )
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        what = "a system prompt" if has_system else f"{num_turns} turns"
        raise ConfigError(f"the tokenizer's chat template refuses {what}: {error}; {_INSTEAD}") from error
    parts = _MARK.split(text)
    if parts[1::2] != [str(i) for i in range(len(roles))]:
        raise ConfigError(
            f"the chat template does not write each of {len(roles)} messages once and in order; {_INSTEAD}"
        )
    return tuple(parts[::2])
