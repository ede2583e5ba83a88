"""The check of histories: it finds answers that no order of commits explains."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.banks.histories import Answered, breaches


def history(*answers: tuple[int, float, float], person: str = "p-1") -> list[Answered]:
    return [Answered(person, version, began, ended) for version, began, ended in answers]


@pytest.mark.parametrize(
    "answers",
    [
        [],
        history((1, 0, 1), (2, 1, 2), (3, 2, 9)),
        history((2, 0, 9), (1, 0, 5)),
        [*history((1, 0, 1), (2, 2, 3)), *history((1, 2, 3), person="p-2")],
    ],
    ids=["none", "sequential", "two concurrent ones in either order", "records of two persons are independent"],
)
def test_a_possible_history_passes_the_check(answers: Sequence[Answered]) -> None:
    assert list(breaches(answers)) == []


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (history((1, 0, 1), (2, 1, 2), (2, 3, 4)), "p-1: version 2 was answered twice"),
        (history((1, 0, 1), (3, 1, 2)), "p-1: version 3 was answered, and never 2"),
        (history((2, 0, 1), (1, 2, 3)), "p-1: version 1 was asked for after 2 had been answered"),
        (
            history((3, 0, 1), (1, 0, 9), (2, 2, 3)),
            "p-1: version 2 was asked for after 3 had been answered",
        ),
    ],
    ids=["doubled", "lost", "out of order", "out of order behind one that is still in progress"],
)
def test_an_impossible_history_fails_the_check(answers: Sequence[Answered], found: str) -> None:
    assert found in list(breaches(answers)), "sums of requests and commits would not show it"


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_a_sequential_history_passes_and_any_lost_write_is_found(seconds, random) -> None:
    clock, answers = 0.0, []
    for version, took in enumerate(seconds, start=1):
        answers.append(Answered("p", version, clock, clock + took))
        clock += took
    random.shuffle(answers)
    assert list(breaches(answers)) == [], "in any order of the lines"
    newest = max(answers, key=lambda answer: answer.version)
    lost = random.choice(answers)
    if lost is not newest:
        assert list(breaches([answer for answer in answers if answer is not lost])), (
            "a version in the middle is missing"
        )
    assert list(breaches([*answers, lost])), "a version is committed twice"
