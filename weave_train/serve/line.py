"""The line before the model: whoever waits is answered together with the others, in one batch at a time.

requests (any thread) -> waiting (bounded) -> one thread: batch -> pieces -> each request's own event loop
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from weave_train.models.asking import begin_alone, join_asked
from weave_train.models.decoding import Decoder, Finish, evaluating
from weave_train.models.generate import answer_text
from weave_train.serve.api_errors import ApiError
from weave_train.serve.limits import ServeLimits
from weave_train.serve.preparing import Prepared

if TYPE_CHECKING:
    from weave_train.models.answer_text import AnswerText
    from weave_train.models.model import VideoLanguageModel

__all__ = ["AnswerLine", "Ended", "Waiting"]


@dataclass(frozen=True)
class Ended:
    """An answer is whole."""

    reason: Finish
    num_tokens: int


@dataclass
class Waiting:
    """One request in the line; `events` gets text, then `Ended` or an error."""

    prepared: Prepared
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[str | Ended | ApiError] = field(default_factory=asyncio.Queue)
    is_left: bool = False

    def tell(self, event: str | Ended | ApiError) -> None:
        """Hand an event over, from the model's thread."""
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.is_left = True

    def leave(self) -> None:
        """Nobody wants the rest."""
        self.is_left = True


class AnswerLine:
    """Owner of the thread that runs the model.

    Args:
        vlm: That answers.
        limits: Of batches and of the line.
    """

    def __init__(self, vlm: VideoLanguageModel, limits: ServeLimits) -> None:
        self._vlm = vlm
        self._max_batch = 1 if begin_alone(vlm) else limits.max_batch
        self._waiting: queue.Queue[Waiting | None] = queue.Queue(limits.max_waiting)
        self._thread = threading.Thread(target=self._work, name="weave-serve-model", daemon=True)
        self._is_open = True
        self.num_batches = 0

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def join(self, prepared: Prepared, loop: asyncio.AbstractEventLoop) -> Waiting:
        """Stand in line.

        Raises:
            ApiError: The line is full, or the model has stopped.
        """
        waiting = Waiting(prepared, loop)
        if not self._is_open:
            raise ApiError("the model has stopped; restart the server", status=503)
        try:
            self._waiting.put_nowait(waiting)
        except queue.Full as error:
            raise ApiError(
                f"{self._waiting.maxsize} requests are waiting; come back later", status=429
            ) from error
        return waiting

    def close(self) -> None:
        """Stop after the batch in hand; those who wait are told."""
        self._is_open = False
        self._turn_away()
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        try:
            while (first := self._waiting.get()) is not None:
                batch, is_last = self._gather(first)
                self._answer([waiting for waiting in batch if not waiting.is_left])
                if is_last:
                    return
        finally:
            self._is_open = False
            self._turn_away()

    def _gather(self, first: Waiting) -> tuple[list[Waiting], bool]:
        batch = [first]
        while len(batch) < self._max_batch:
            try:
                more = self._waiting.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return batch, True
            batch.append(more)
        return batch, False

    def _turn_away(self) -> None:
        while True:
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                return
            if waiting is not None:
                waiting.tell(ApiError("the server stops", status=503))

    def _answer(self, batch: Sequence[Waiting]) -> None:
        if not batch:
            return
        self.num_batches += 1
        try:
            with evaluating(self._vlm):
                self._decode(batch)
        except RuntimeError as error:  # what torch raises, want of memory among it
            if len(batch) > 1:
                for waiting in batch:
                    if waiting.prepared.request.stream:
                        waiting.tell(_failed(error))
                    else:
                        self._answer([waiting])
                return
            batch[0].tell(_failed(error))

    def _decode(self, batch: Sequence[Waiting]) -> None:
        vlm = self._vlm
        asked = join_asked(
            [waiting.prepared.asked for waiting in batch], pad_id=int(vlm.tokenizer.pad_token_id)
        )
        options = [waiting.prepared.options for waiting in batch]
        texts = [answer_text(vlm, row) for row in options]
        decoder = Decoder(vlm, asked, options)
        is_told = [False] * len(batch)
        while not decoder.is_done:
            tokens = decoder.step()
            for row, waiting in enumerate(batch):
                _hand_on(waiting, texts[row], tokens[row])
                if texts[row].is_stopped or waiting.is_left:
                    decoder.end(row)
                reason = decoder.finished[row]
                if reason is not None and not is_told[row]:
                    is_told[row] = True
                    _end(waiting, texts[row], reason)


def _hand_on(waiting: Waiting, text: AnswerText, token: int | None) -> None:
    if token is not None and (piece := text.add(token)):
        waiting.tell(piece)


def _end(waiting: Waiting, text: AnswerText, reason: Finish) -> None:
    if rest := text.finish():
        waiting.tell(rest)
    waiting.tell(Ended("stop" if text.is_stopped else reason, text.num_tokens))


def _failed(error: RuntimeError) -> ApiError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ApiError(f"the model failed: {first}; send fewer frames or come back later", status=500)
