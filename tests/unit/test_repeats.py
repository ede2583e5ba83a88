"""Tests of which of Azure's refusals make the program repeat a request, and for how long."""

import asyncio

import pytest
from pulumi import ErrorHookArgs

from components import repeats


def answers(monkeypatch: pytest.MonkeyPatch, *errors: str) -> tuple[bool, list[float]]:
    """Whether `errors`, newest first, are repeated, and the pauses before that in seconds."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    args = ErrorHookArgs(urn="", id="", name="keys", type="", failed_operation="create", errors=list(errors))
    return asyncio.run(repeats.again(args)), pauses


@pytest.mark.parametrize("code", repeats.MOMENTARY)
def test_a_momentary_refusal_is_repeated_for_four_minutes(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    error, waited, attempts = f'Status=409 Code="{code}" Message="try later"', 0.0, 1
    while (answer := answers(monkeypatch, *[error] * attempts))[0]:
        waited, attempts = waited + sum(answer[1]), attempts + 1
    assert 240 <= waited < 300, "long enough for Azure, and short enough for who waits for a run"
    assert answer[1] == [], "the last error must appear at once"


def test_other_refusals_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = 'Code="AuthorizationFailed"'
    assert answers(monkeypatch, newest, 'Code="ServerIsBusy"') == (False, []), "no repetition changes this one"
    assert answers(monkeypatch) == (False, []), "without an error there is nothing to repeat"
