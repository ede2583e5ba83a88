"""Fixtures that modules of several tiers share, their tests' order, and the number of examples in property tests.

Few examples in the default tier, many with `--hypothesis-profile=thorough`.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from host import faults
from lab.banks.key_vault import write_certificate
from tests.authority import Network, network

settings.register_profile("quick", max_examples=20, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def no_fault_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the last unexpected exception, which a process reports for minutes."""
    monkeypatch.setattr(faults, "_faults", faults._Faults())


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """The TLS context of local vaults, and the certificate that their clients trust."""
    folder = tmp_path_factory.mktemp("vault")
    return write_certificate(folder), folder / "certificate.pem"


@pytest.fixture
def play(tls: tuple[ssl.SSLContext, Path]) -> Callable[..., Any]:
    """A function that runs a scenario in a new network whose register is in memory."""

    def run(history: Callable[[Network], Awaitable[Any]], **changes: Any) -> Any:
        async def in_network() -> Any:
            async with network(tls, None, **changes) as made:
                return await history(made)

        return asyncio.run(in_network())

    return run


@pytest.fixture
def ending() -> None:
    """Requested by a test that ends or changes its module's shared node or VM: it comes last."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move tests that use `ending` to the end of their module; otherwise keep the shuffled order."""
    modules = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (modules[item.path], "ending" in getattr(item, "fixturenames", ())))
