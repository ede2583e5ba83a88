"""Translates errors of Azure's SDK to `host.errors`."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from azure.core.exceptions import AzureError, HttpResponseError

from host.errors import ResourceError, UnavailableError
from host.faults import unexpected

_VAULT_CODE = re.compile(r'"code"\s*:\s*"([A-Z][A-Za-z]{1,60})"')
REQUEST_SECONDS = 15
"""Time limit of a request."""


@asynccontextmanager
async def answering(what: str, seconds: float | None = REQUEST_SECONDS) -> AsyncIterator[None]:
    """Run one request to a service.

    Args:
        what: the service and the request, for the message.
        seconds: time limit; None if the caller has its own.

    Raises:
        UnavailableError: the request failed, its answer was garbled, or none came in time. Not chained; quotes only
            Azure's codes, since the rest of an answer may contain a secret.
        ResourceError: raised by the block.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except ResourceError:
        raise
    except HttpResponseError as error:
        code = error_code(error) or " ".join(vault_codes(error))
        raise UnavailableError(
            f"{what}: {error.status_code} {error.reason!s:.100}{f' ({code})' if code else ''}"
        ) from None
    except TimeoutError:
        raise UnavailableError(f"{what}: no answer{f' in {seconds:g} s' if seconds else ''}") from None
    except (AzureError, OSError) as error:
        # The inner exception says whether a name did not resolve.
        below = getattr(error, "inner_exception", None)
        reason = type(error).__name__ + (f" ({type(below).__name__})" if below else "")
        raise UnavailableError(f"{what}: {reason}") from None
    except Exception as error:
        # On a garbled answer the SDK may raise anything.
        raise UnavailableError(unexpected(what, error, secret=True)) from None


def error_code(error: HttpResponseError) -> str | None:
    """Azure Storage's error code, such as `BlobNotFound`; None if the answer has none."""
    code = getattr(error, "error_code", None)
    return getattr(code, "value", code)


def vault_codes(error: HttpResponseError) -> list[str]:
    """Key Vault's error codes, such as `Forbidden`, `ForbiddenByRbac`; empty if the answer has none.

    Source: learn.microsoft.com/azure/key-vault/general/rest-error-codes.
    """
    if (error.status_code or 0) < HTTPStatus.BAD_REQUEST:
        return []
    try:
        body = str(error.response.text()) if error.response else ""
    except Exception:
        # The answer may name an unknown encoding.
        return []
    return _VAULT_CODE.findall(body)
