from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from looking import CHANCE, Description, Looking, Question, Score, ask, look, parse_answer, parse_caption
from world import World

CLIPS_PER_SAMPLE = 4
Frames = tuple[bytes, ...]


def make_questions(num_samples: int) -> list[Question]:
    world = World()
    captions = [
        world.scene(seed=11, clip_number=number).caption for number in range(num_samples * CLIPS_PER_SAMPLE)
    ]
    groups = [captions[i : i + CLIPS_PER_SAMPLE] for i in range(0, len(captions), CLIPS_PER_SAMPLE)]
    return [Question(tuple(text.encode() for text in group), tuple(group)) for group in groups]


def looking_of(describe: Callable[[Frames], str], num_samples: int = 100) -> Looking:
    return look(ask(make_questions(num_samples), describe=describe))


def perfect(frames: Frames) -> str:
    """The fake clips' frames are their captions: to read them is to look."""
    return " ".join(frame.decode() + "." for frame in frames)


def constant(frames: Frames) -> str:
    return " ".join(["a red circle moves left on a grey background."] * len(frames))


def make_blind() -> Callable[[Frames], str]:
    rng = random.Random(5)
    world = World()

    def describe(frames: Frames) -> str:
        numbers = [rng.randrange(10**9) for _ in frames]
        return " ".join(world.scene(seed=99, clip_number=number).caption + "." for number in numbers)

    return describe


def test_a_perfect_model_is_right_and_its_exchanged_control_is_at_chance() -> None:
    looking = looking_of(perfect)
    assert looking.seen == Score(1.0, 1.0)
    assert looking.num_clips == 400
    assert looking.exchanged.mean == pytest.approx(CHANCE.mean, abs=0.03)
    assert looking.problems(least_seen=0.5, most_exchanged=0.35) == []


@pytest.mark.parametrize("describe", [constant, make_blind()], ids=["constant", "blind"])
def test_a_model_that_does_not_look_scores_chance_and_fails(describe: Callable[[Frames], str]) -> None:
    looking = looking_of(describe)
    assert looking.seen.colour == pytest.approx(CHANCE.colour, abs=0.08)
    assert looking.seen.direction == pytest.approx(CHANCE.direction, abs=0.08)
    assert "did not look" in looking.problems(least_seen=0.5, most_exchanged=0.35)[0]


def test_a_model_that_swaps_its_clips_is_not_credited() -> None:
    reversed_answers = looking_of(lambda frames: perfect(frames[::-1]))
    assert reversed_answers.seen.mean < 0.4


def test_colour_alone_passes_for_colour_only() -> None:
    def colour_only(frames: Frames) -> str:
        return ". ".join(f"a {parse_caption(frame.decode()).colour} thing moves left" for frame in frames)

    seen = looking_of(colour_only).seen
    assert seen.colour == 1.0
    assert seen.direction < 0.4


def test_an_exchanged_control_above_the_limit_is_a_problem() -> None:
    leaking = Looking(seen=Score(0.9, 0.9), exchanged=Score(0.5, 0.3), num_clips=8)
    assert "above 0.35" in leaking.problems(least_seen=0.5, most_exchanged=0.35)[0]


def test_a_score_that_is_not_a_number_never_passes() -> None:
    nan = float("nan")
    assert (
        len(Looking(Score(nan, nan), Score(nan, nan), 0).problems(least_seen=0.5, most_exchanged=0.35)) == 2
    )


def test_silence_and_missing_sentences_are_wrong_not_skipped() -> None:
    assert looking_of(lambda frames: "").seen == Score(0.0, 0.0)
    first_only = looking_of(lambda frames: frames[0].decode() + ".").seen
    assert first_only == Score(0.25, 0.25)


def test_an_answer_is_read_sentence_by_sentence() -> None:
    said = parse_answer("a red circle moves left. nothing here.. A Blue square moves UP.", num_clips=4)
    assert said == (
        Description("red", "left"),
        Description(None, None),
        Description("blue", "up"),
        Description(None, None),
    )
    assert len(parse_answer("a. b. c. d. e.", num_clips=2)) == 2


def test_every_caption_of_the_world_can_be_read_back() -> None:
    for number in range(200):
        scene = World().scene(seed=1, clip_number=number)
        assert parse_caption(scene.caption) == Description(scene.colour, scene.direction)


def test_the_control_is_the_mean_over_every_exchange() -> None:
    captions = ["a red circle moves up", "a red circle moves left", "a blue circle moves up"]
    answered = ask([Question((text.encode(),), (text,)) for text in captions], describe=perfect)
    # of the six ordered pairs of samples two share the colour and two the direction
    assert look(answered).exchanged == Score(colour=2 / 6, direction=2 / 6)


def test_one_answer_can_not_be_exchanged() -> None:
    with pytest.raises(ValueError, match="at least two samples"):
        look(ask(make_questions(1), describe=perfect))


def test_chance_is_what_the_world_s_choices_say() -> None:
    assert Score(1 / 6, 1 / 4) == CHANCE
    assert CHANCE.mean == pytest.approx(0.21, abs=0.005)
