"""Errors of Azure's SDK, translated to `host.errors`."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError

from agent.lease import LeaseRefusedError
from host.azure import answering, vault_codes
from host.errors import DamagedError, ResourceError, SupersededError, UnavailableError

SECRET = "-----BEGIN PRIVATE KEY-----"


def asked(error: BaseException) -> None:
    async def ask() -> None:
        async with answering("vault: secret keys"):
            raise error

    asyncio.run(ask())


@pytest.mark.parametrize(
    "error",
    [
        AttributeError(f"'NoneType' object has no attribute {SECRET}"),
        TypeError(SECRET),
        KeyError(SECRET),
        RecursionError(SECRET),
        ValueError(SECRET),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_garbled_answer_is_an_outage_whose_message_has_the_line(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnavailableError, match=r"test_answering\.py:\d+") as raised:
        asked(error)
    assert type(error).__name__ in str(raised.value), "a fault of this program differs from an outage"
    assert "in ask" in caplog.text, "the log has its frames"
    assert SECRET not in caplog.text + str(raised.value), "the answer could be part of a secret"
    assert raised.value.__suppress_context__, "the traceback does not show it either"


@pytest.mark.parametrize("error", [ServiceRequestError("no route"), OSError("no route"), TimeoutError()])
def test_an_outage_is_no_fault(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnavailableError):
        asked(error)
    assert not caplog.text, "an outage is no fault of this program"


@pytest.mark.parametrize("error", [SupersededError("newer"), DamagedError("gone"), LeaseRefusedError("held")])
def test_a_resource_error_of_the_block_is_passed_on(error: ResourceError) -> None:
    with pytest.raises(type(error)):
        asked(error)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt()])
def test_exceptions_that_end_the_program_are_not_translated(error: BaseException) -> None:
    with pytest.raises(type(error)):
        asked(error)


@pytest.mark.parametrize("raised", [LookupError("unknown encoding"), AttributeError("text"), ValueError("no text")])
def test_an_answer_that_can_not_be_decoded_has_no_code(raised: Exception) -> None:
    def text() -> str:
        raise raised

    response: Any = SimpleNamespace(text=text, status_code=403, reason="Forbidden")
    assert vault_codes(HttpResponseError(response=response)) == [], "it names an unknown encoding"
