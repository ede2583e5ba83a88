"""The meaning of the lease store's answers: only a missing answer lets a node keep running."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError

from agent.blob_leases import BlobLeases
from agent.lease import LeaseDeniedError, LeaseRefusedError
from host.errors import UnavailableError


class Answering:
    """A container whose every request fails in one way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def download_blob(self, *_: Any, **__: Any) -> None:
        raise self.error

    def walk_blobs(self, **_: Any) -> Any:
        raise self.error


def status(code: int) -> HttpResponseError:
    response: Any = SimpleNamespace(status_code=code, reason="reason", headers={}, content_type="application/xml")
    return HttpResponseError("message", response)


MEANING = {
    **dict.fromkeys((404, 409, 412), LeaseRefusedError),
    **dict.fromkeys((400, 401, 403), LeaseDeniedError),
    **dict.fromkeys((408, 429, 500, 503), UnavailableError),
}


@pytest.mark.parametrize(("code", "meaning"), MEANING.items())
def test_a_status_is_a_refusal_a_denial_or_no_answer(code: int, meaning: type[Exception]) -> None:
    container: Any = Answering(status(code))
    with pytest.raises(meaning) as raised:
        asyncio.run(BlobLeases(container).read("node-1"))
    assert type(raised.value) is meaning, "a node keeps running only if there is no answer"
    assert str(code) in str(raised.value)


def test_a_store_that_can_not_be_reached_has_not_answered() -> None:
    container: Any = Answering(ServiceRequestError("no route"))
    with pytest.raises(UnavailableError) as raised:
        asyncio.run(BlobLeases(container).read("node-1"))
    assert type(raised.value) is UnavailableError


def test_standbys_report_a_missing_container() -> None:
    container: Any = Answering(status(404))
    with pytest.raises(UnavailableError, match="the list of identities: 404"):
        asyncio.run(BlobLeases(container).leased())
