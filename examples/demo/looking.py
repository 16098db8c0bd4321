"""Did the model look? Colour and direction, beside chance and beside exchanged frames.

    woven held-out samples -> answers -> one description per clip -> shares that are right

A falling loss proves nothing here: most of it is the caption's template, learned blind. So the
model describes held-out clips, and every clip's sentence is read for the two words that only the
pixels can give. The control puts the frames of other samples under the same truth: whatever it
scores was not seen. A word that is missing or unknown is wrong, never skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from world import COLOURS, DIRECTIONS

__all__ = [
    "CHANCE",
    "Answered",
    "Description",
    "Looking",
    "Question",
    "Score",
    "ask",
    "look",
    "parse_answer",
    "parse_caption",
    "table_rows",
]


@dataclass(frozen=True)
class Description:
    """What a sentence claims; None where it claims nothing."""

    colour: str | None
    direction: str | None


Reader = Callable[[str], Description]


@dataclass(frozen=True)
class Question:
    """One woven sample to describe.

    Args:
        frames: JPEG bytes, all of clip 1, then clip 2, and so on.
        captions: The truth, one per clip, in order.
    """

    frames: tuple[bytes, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """A question and what the model said to its frames."""

    question: Question
    answer: str


@dataclass(frozen=True)
class Score:
    """Shares of clips whose colour, and whose direction, was named right."""

    colour: float
    direction: float

    @property
    def mean(self) -> float:
        """Mean of the two."""
        return (self.colour + self.direction) / 2


CHANCE = Score(colour=1 / len(COLOURS), direction=1 / len(DIRECTIONS))


@dataclass(frozen=True)
class Looking:
    """The looking-table: `seen` with a clip's own frames, `exchanged` with other samples'."""

    seen: Score
    exchanged: Score
    num_clips: int

    def problems(self, *, least_seen: float, most_exchanged: float) -> list[str]:
        """Say what shows that the model did not look; empty when it did.

        Args:
            least_seen: Least mean of the two accuracies with the clips' own frames.
            most_exchanged: Greatest mean with exchanged frames.
        """
        found = []
        if not self.seen.mean >= least_seen:
            found.append(f"seen mean {self.seen.mean:.2f} is under {least_seen:.2f}: it did not look")
        if not self.exchanged.mean <= most_exchanged:
            found.append(
                f"exchanged mean {self.exchanged.mean:.2f} is above {most_exchanged:.2f}: "
                "the answers follow something else than the frames"
            )
        return found


def parse_caption(sentence: str) -> Description:
    """Read one sentence: its first colour and its first direction.

    `"a red circle moves left on a grey background"` -> `Description("red", "left")`
    """
    words = sentence.lower().replace(",", " ").split()
    colour = next((word for word in words if word in COLOURS), None)
    return Description(colour, next((word for word in words if word in DIRECTIONS), None))


def parse_answer(answer: str, *, num_clips: int, read: Reader = parse_caption) -> tuple[Description, ...]:
    """Read an answer sentence by sentence, one per clip, in order.

    Args:
        answer: Sentences ending in a full stop.
        num_clips: Descriptions to return; missing sentences claim nothing, further ones are dropped.
        read: Reads one sentence.
    """
    sentences = [sentence for sentence in answer.split(".") if sentence.strip()][:num_clips]
    said = [read(sentence) for sentence in sentences]
    return (*said, *(Description(None, None) for _ in range(num_clips - len(said))))


def ask(
    questions: Iterable[Question], *, describe: Callable[[tuple[bytes, ...]], str]
) -> tuple[Answered, ...]:
    """Ask about every question's frames.

    Args:
        questions: Held-out samples.
        describe: The model with its prompt: frames in, text out. Greedy, so that asking twice is
            the same answer.
    """
    return tuple(Answered(question, describe(question.frames)) for question in questions)


def look(answered: Sequence[Answered], *, read: Reader = parse_caption) -> Looking:
    """Score answers against their own truth and against the truth of every other sample.

    All questions have one prompt, so what the model says to exchanged frames is what it said to
    these frames where they belong: the exchange needs no second asking, and the control is the
    mean over all exchanges instead of one lucky or unlucky one.

    Args:
        answered: Questions and what was said to them.
        read: Reads one sentence, of a caption or of an answer.

    Raises:
        ValueError: Fewer than two answers (nothing to exchange), or samples of unequal clips.
    """
    clips_per_sample = {len(item.question.captions) for item in answered}
    if len(answered) < 2 or len(clips_per_sample) != 1:
        raise ValueError(
            f"{len(answered)} answers with {sorted(clips_per_sample)} clips each; "
            "give at least two samples of the same number of clips"
        )
    num_clips = clips_per_sample.pop()
    said = [parse_answer(item.answer, num_clips=num_clips, read=read) for item in answered]
    true = [tuple(map(read, item.question.captions)) for item in answered]
    samples = range(len(answered))
    return Looking(
        seen=_score((said[index], true[index]) for index in samples),
        exchanged=_score(
            (said[other], true[index]) for index in samples for other in samples if other != index
        ),
        num_clips=len(answered) * num_clips,
    )


def _score(pairs: Iterable[tuple[Sequence[Description], Sequence[Description]]]) -> Score:
    right = {field.name: 0 for field in fields(Description)}
    num_clips = 0
    for said, true in pairs:
        for claim, truth in zip(said, true, strict=True):
            num_clips += 1
            for name in right:
                right[name] += getattr(claim, name) == getattr(truth, name)
    return Score(**{name: count / num_clips for name, count in right.items()})


def table_rows(looking: Looking) -> list[tuple[str, str, str, str]]:
    """Rows of the printed table: label, colour, direction, mean."""
    labelled = (
        (f"held-out clips ({looking.num_clips})", looking.seen),
        ("the same, frames exchanged", looking.exchanged),
        ("chance", CHANCE),
    )
    return [
        (label, f"{score.colour:.2f}", f"{score.direction:.2f}", f"{score.mean:.2f}")
        for label, score in labelled
    ]
