"""A benchmark fails where a goal is missed."""

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.goals import Goal, compare, median_of, report

AT_MOST = Goal("takeover, s", 55, "measured")
AT_LEAST = Goal("through / straight", 0.95, "measured", at_least=True)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [(AT_MOST, 55.004, True), (AT_MOST, 55.01, False), (AT_LEAST, 0.946, True), (AT_LEAST, 0.94, False)],
)
def test_a_goal_is_met_by_the_value_as_printed(goal: Goal, value: float, met: bool) -> None:
    result = median_of(goal, [value])
    assert result.is_met is met, "what is printed and what is decided agree"
    console = Console(file=StringIO(), width=200)
    assert report(console, [median_of(AT_MOST, [1]), result]) == (0 if met else 1), "one missed goal fails the run"


def test_a_ratio_is_that_of_the_smallest_measurements() -> None:
    result = compare(AT_MOST, [6, 3], [2, 3])
    assert (result.value, result.spread) == (1.5, (1, 3)), "with the least and the most of the pairs"
