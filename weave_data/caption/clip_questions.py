"""Questions over the clips of one woven sample, whose answers follow from captions and order alone.

    which    Which clip shows: a dog runs?                         Clip 2.
    after    What is shown right after: a dog runs?                Rain on a roof.
    before   What is shown right before: rain on a roof?           A dog runs.
    first    Which is shown first: rain on a roof, or a dog runs?  A dog runs.
    order    In which order are these shown? A: rain on a roof. B: a dog runs.    B, A.
    list     List what each clip shows, in order.                  Clip 1: ... / Clip 2: ...

Only captions that no other clip of the sample has (letter case, blanks and end marks aside) are asked
about, so that every question has one answer. What is asked is a function of seed and sample alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weave_data.caption.conversations import IMAGE_TOKEN
from weave_data.caption.joins import make_sentences
from weave_data.config.captions import CLIP_QUESTION_TYPES, ClipQuestionsConfig, ClipQuestionType
from weave_data.keyed_hash import keyed_hashes

__all__ = ["MAX_ORDERED", "ClipQuestions", "ask_about_clips", "is_clip_question"]

MAX_ORDERED = 26
"""Clips that letters can name."""

_STARTS = (
    "Which clip shows: ",
    "What is shown right after: ",
    "What is shown right before: ",
    "Which is shown first: ",
    "In which order are these shown? ",
    "List what each clip shows, in order.",
)
_LETTERS = pa.array([chr(ord("A") + place) for place in range(MAX_ORDERED)])
_END_MARKS = ".!?\u2026\u3002\uff01\uff1f"

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


class ClipQuestions(NamedTuple):
    """Questions of some samples.

    `samples` int64[q], ascending: which sample each belongs to, in the order in which they are asked;
    `asked` and `answers` string[q].
    """

    samples: Integers
    asked: pa.StringArray
    answers: pa.StringArray


@dataclass(frozen=True)
class _Clips:
    """The m clips of all g samples.

    `phrases` stand within a question (no end mark), `sentences` are answers; `sizes`, `starts`, `hashes`
    are of samples, the others of clips; `usable`: the caption is there and no other of its sample.
    """

    phrases: pa.StringArray
    sentences: pa.StringArray
    sizes: Integers
    starts: Integers
    hashes: Hashes
    owner: Integers
    slots: Integers
    has_text: Bools
    usable: Bools


@dataclass(frozen=True)
class _Asked:
    """Questions: sample, index in `CLIP_QUESTION_TYPES`, the clip it is about, another one (`first`)."""

    samples: Integers
    types: Integers
    clips: Integers
    others: Integers

    def take(self, rows: Integers) -> _Asked:
        return _Asked(self.samples[rows], self.types[rows], self.clips[rows], self.others[rows])


def ask_about_clips(
    captions: pa.ListArray, keys: pa.StringArray, config: ClipQuestionsConfig
) -> ClipQuestions:
    """Draw each sample's questions.

    Args:
        captions: list<string>[g], in the order in which the clips are shown.
        keys: string[g], what tells samples apart.
        config: Which types, how many, of what share of the samples.

    Returns:
        At most `config.per_sample` different questions a sample, its types by turns; none of a sample of
        one clip, of one outside `config.share`, or of one that the types can't ask about.
    """
    clips = _look_at(captions, keyed_hashes(keys, key=f"clip questions:{config.seed}"))
    found = _askable(clips, config.types)
    is_asked = (clips.sizes > 1) & (_mix(clips.hashes, 1) / 2.0**64 < config.share)
    drawn = _draw(found.take(np.flatnonzero(is_asked[found.samples])), clips, config.per_sample)
    written, places = [], []
    for place, kind in enumerate(CLIP_QUESTION_TYPES):
        rows = np.flatnonzero(drawn.types == place)
        written.append(_write(kind, drawn.take(rows), clips))
        places.append(rows)
    back = pa.array(np.argsort(np.concatenate(places), kind="stable"))
    asked, answers = (pa.concat_arrays([pair[side] for pair in written]).take(back) for side in (0, 1))
    return ClipQuestions(drawn.samples, asked, answers)


def is_clip_question(text: str) -> bool:
    """True when a human turn may be one of these questions."""
    return text.removeprefix(f"{IMAGE_TOKEN}\n").startswith(_STARTS)


def _look_at(captions: pa.ListArray, hashes: Hashes) -> _Clips:
    sizes = captions.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(sizes)), sizes)
    sentences = pc.replace_substring_regex(make_sentences(captions.flatten()), r"\s+", " ")
    phrases = pc.utf8_rtrim(sentences, _END_MARKS)
    has_text = pc.not_equal(phrases, "").to_numpy(zero_copy_only=False)
    codes = pc.utf8_lower(phrases).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    _, place, counts = np.unique(
        owner << 32 | codes.astype(np.int64), return_inverse=True, return_counts=True
    )
    usable = (counts[place] == 1) & has_text
    slots = np.arange(len(owner)) - starts[owner]
    return _Clips(phrases, sentences, sizes, starts, hashes, owner, slots, has_text, usable)


def _askable(clips: _Clips, types: Sequence[ClipQuestionType]) -> _Asked:
    """Everything that some types can ask."""
    found = []
    for kind in types:
        rows, others = _clips_to_ask(kind, clips)
        place = np.full(len(rows), CLIP_QUESTION_TYPES.index(kind))
        found.append((clips.owner[rows], place, rows, others))
    return _Asked(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _clips_to_ask(kind: ClipQuestionType, clips: _Clips) -> tuple[Integers, Integers]:
    is_last = clips.slots == clips.sizes[clips.owner] - 1
    match kind:
        case "which":
            rows = np.flatnonzero(clips.usable)
        case "after":
            rows = np.flatnonzero(clips.usable & ~is_last & np.roll(clips.has_text, -1))
        case "before":
            rows = np.flatnonzero(clips.usable & (clips.slots > 0) & np.roll(clips.has_text, 1))
        case "first":
            return _pairs(clips)
        case "order":
            rows = clips.starts[_all(clips.usable, clips) & (clips.sizes <= MAX_ORDERED)]
        case "list":
            rows = clips.starts[_all(clips.has_text, clips)]
        case _:
            assert_never(kind)
    return rows, rows


def _all(is_fine: Bools, clips: _Clips) -> Bools:
    """bool[g]: of every clip of a sample that has some."""
    fine = np.bincount(clips.owner[is_fine], minlength=len(clips.sizes))
    return np.asarray((fine == clips.sizes) & (clips.sizes > 0))


def _pairs(clips: _Clips) -> tuple[Integers, Integers]:
    """Every usable clip but a sample's last one, with a later one that is drawn."""
    rows = np.flatnonzero(clips.usable)
    owner = clips.owner[rows]
    num_later = np.searchsorted(owner, owner, side="right") - np.arange(len(rows)) - 1
    places = np.flatnonzero(num_later > 0)
    lots = _mix(clips.hashes[owner] + _slots(rows, clips), 2)[places]
    steps = 1 + (lots % num_later[places].astype(np.uint64)).astype(np.int64)
    return rows[places], rows[places + steps]


def _draw(found: _Asked, clips: _Clips, count: int) -> _Asked:
    """The first `count` of each sample: its types in a drawn order, each once before any comes again."""
    hashes, kinds = clips.hashes[found.samples], found.types.astype(np.uint64) << np.uint64(32)
    lots = _mix(hashes + kinds + _slots(found.clips, clips), 3)
    order = np.lexsort((lots, found.types, found.samples))
    rounds = np.empty(len(order), np.int64)
    rounds[order] = _places(found.samples[order] * len(CLIP_QUESTION_TYPES) + found.types[order])
    order = np.lexsort((_mix(hashes + kinds, 4), rounds, found.samples))
    return found.take(order[_places(found.samples[order]) < count])


def _write(kind: ClipQuestionType, asked: _Asked, clips: _Clips) -> tuple[pa.StringArray, pa.StringArray]:
    """Question and answer: string[q] each."""
    phrase, rows = clips.phrases.take(pa.array(asked.clips)), asked.clips
    match kind:
        case "which":
            numbers = pa.array(clips.slots[rows] + 1).cast(pa.string())
            return _concat(_STARTS[0], phrase, "?"), _concat("Clip ", numbers, ".")
        case "after":
            answers = clips.sentences.take(pa.array(rows + 1))
            return _concat(_STARTS[1], phrase, "?"), answers
        case "before":
            answers = clips.sentences.take(pa.array(rows - 1))
            return _concat(_STARTS[2], phrase, "?"), answers
        case "first":
            other = clips.phrases.take(pa.array(asked.others))
            is_swapped = pa.array(
                _mix(clips.hashes[asked.samples] + _slots(rows, clips), 5) % np.uint64(2) == 0
            )
            one, two = pc.if_else(is_swapped, other, phrase), pc.if_else(is_swapped, phrase, other)
            answers = clips.sentences.take(pa.array(rows))
            return _concat(_STARTS[3], one, ", or ", two, "?"), answers
        case "order":
            return _write_order(asked, clips)
        case "list":
            members, sizes = _members(asked.samples, clips)
            numbers = pa.array(clips.slots[members] + 1).cast(pa.string())
            lines = _concat("Clip ", numbers, ": ", clips.sentences.take(pa.array(members)))
            question = pa.repeat(_STARTS[5], len(rows))
            return question.cast(pa.string()), _join(lines, sizes, "\n")
        case _:
            assert_never(kind)


def _write_order(asked: _Asked, clips: _Clips) -> tuple[pa.StringArray, pa.StringArray]:
    members, sizes = _members(asked.samples, clips)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    lots = _mix(clips.hashes[clips.owner[members]] + _slots(members, clips), 6)
    shuffled = np.lexsort((lots, owner))
    letters = np.empty(len(members), np.int64)
    letters[shuffled] = _places(owner)
    named = _LETTERS.take(pa.array(letters))
    items = _concat(named, ": ", clips.phrases.take(pa.array(members)), ".").take(pa.array(shuffled))
    question = _concat(_STARTS[4], _join(items, sizes, " "))
    return question, _concat(_join(named, sizes, ", "), ".")


def _members(samples: Integers, clips: _Clips) -> tuple[Integers, Integers]:
    """The clips of some samples, one sample after the other, and how many each has."""
    sizes = clips.sizes[samples]
    rows = np.repeat(clips.starts[samples] - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    return rows, sizes


def _slots(rows: Integers, clips: _Clips) -> Hashes:
    return clips.slots[rows].astype(np.uint64)


def _places(runs: Integers) -> Integers:
    """0, 1, ... within each run of equal values."""
    places = np.arange(len(runs))
    is_first = np.diff(runs, prepend=-1) != 0
    return places - np.maximum.accumulate(np.where(is_first, places, 0))


def _mix(values: Hashes, salt: int) -> Hashes:
    """Uniform uint64s, other ones for another salt.

    Source:
        The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    with np.errstate(over="ignore"):
        mixed = values.astype(np.uint64) + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _concat(*parts: pa.StringArray | str) -> pa.StringArray:
    return pc.binary_join_element_wise(*parts, "")


def _join(texts: pa.StringArray, sizes: Integers, separator: str) -> pa.StringArray:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), texts), separator)
