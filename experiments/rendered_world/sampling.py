"""What T uniform frames of a film show: whether its questions can be answered from them.

Both ways of taking uniform frames count: with both ends (`linspace`) and the middles of equal parts
(`segment-center`). A film that leaves a question open under one of them is drawn again.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from experiments.rendered_world.attributes import NUM_FRAMES
from experiments.rendered_world.records import Film
from weave_data.frame_policy import FrameAsk, linspace_indices

__all__ = [
    "Glimpses",
    "are_apart",
    "are_counted",
    "are_in_order",
    "glimpses",
    "is_off_beat",
    "sampled_frames",
]

Glimpses = tuple[frozenset[int], ...]
"""Numbers of the events that each sampled frame shows."""


def sampled_frames(num_frames: int, *, count: int = NUM_FRAMES) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Frames that are taken of a film: with both ends, and the middles of equal parts."""
    ends = linspace_indices(num_frames, count).tolist()
    middles = FrameAsk("segment-center", count).indices(num_frames, 0.0).tolist()
    return tuple(ends), tuple(middles)


def glimpses(film: Film) -> tuple[Glimpses, Glimpses]:
    """What each sampled frame shows, for both ways of sampling."""
    ends, middles = (
        tuple(frozenset(shown.event_index for shown in film.shown(frame)) for frame in frames)
        for frames in sampled_frames(film.num_frames)
    )
    return ends, middles


def is_off_beat(film: Film) -> bool:
    """Whether scenes and sampled frames keep no step: no scene but the first begins at one, and scenes
    have different numbers of them.
    """
    for frames in sampled_frames(film.num_frames):
        if set(frames) & set(film.starts[1:]):
            return False
        scenes = [film.locate(frame)[0] for frame in frames]
        if len({scenes.count(index) for index in range(len(film.scenes))}) == 1:
            return False
    return True


def are_in_order(seen: Glimpses, num_events: int) -> bool:
    """Whether every event is seen, each for the first time after the one before it."""
    first = [next((i for i, shown in enumerate(seen) if event in shown), None) for event in range(num_events)]
    return None not in first and all(a < b for a, b in pairwise(first))  # type: ignore[operator]


def are_counted(seen: Glimpses, events: Collection[int]) -> bool:
    """Whether these events of one thing are seen as so many runs, with a frame without it in between."""
    shown = [bool(frame & set(events)) for frame in seen]
    num_runs = sum(now and not before for before, now in pairwise([False, *shown]))
    return num_runs == len(events) and all(any(event in frame for frame in seen) for event in events)


def are_apart(film: Film) -> bool:
    """Whether no thing hides another in any sampled frame."""
    side = min(film.width_px, film.height_px)
    for frame in {frame for frames in sampled_frames(film.num_frames) for frame in frames}:
        _, inside = film.locate(frame)
        placed = [(*shown.event.centre(inside), shown.event.radius_ratio) for shown in film.shown(frame)]
        for number, (x, y, radius) in enumerate(placed):
            for other_x, other_y, other_radius in placed[:number]:
                across, down = (x - other_x) * film.width_px, (y - other_y) * film.height_px
                if max(abs(across), abs(down)) < max(radius, other_radius) * side:
                    return False
    return True
