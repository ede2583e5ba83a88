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


def test_each_run_registers_one_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    class Monitor:
        pass

    registered: list[str] = []

    def register(name: str, _: object) -> object:
        registered.append(name)
        return object()

    monkeypatch.setattr(repeats, "monitor_supports_feature", lambda _: True)
    monkeypatch.setattr(repeats, "ErrorHook", register)
    runs, hooks = [Monitor(), Monitor()], []
    for monitor in (*runs, runs[0]):
        monkeypatch.setattr(repeats, "get_monitor", lambda monitor=monitor: monitor)
        options = [repeats.repeated(), repeats.repeated()]
        hooks.append([each.on_error for each in options if each])
    first, second, again = hooks
    assert first == again == [first[0], first[0]], "Pulumi refuses a second hook of one name"
    assert first[0] != second[0], "a hook is known to the run that registered it"
    assert len(registered) == len(runs)


def test_other_refusals_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = 'Code="AuthorizationFailed"'
    assert answers(monkeypatch, newest, 'Code="ServerIsBusy"') == (False, []), "no repetition changes this one"
    assert answers(monkeypatch) == (False, []), "without an error there is nothing to repeat"
