"""One VM of an authority for tests, whose clouds are a local vault and Azurite.

Run as `python -m tests.processes.authority_vm JSON`.
"""

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract.authority_configuration import AuthorityConfiguration
from host.status import Status
from host.store_clock import StoreClock
from lab.banks.key_vault import client_of, key_client_of
from ledger.corda.authority.authority import Authority
from ledger.corda.authority.keys import VaultKeys
from ledger.corda.authority.members import VaultMembers
from ledger.corda.authority.register import BlobStore
from ledger.corda.authority.service import serve
from tests.authority import PlainSerializer, container_client


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def run(given: Mapping[str, Any]) -> None:
    configuration = AuthorityConfiguration.model_validate(given["configuration"])
    certificate = Path(given["certificate"])
    async with (
        container_client(*given["register"]) as container,
        client_of(given["vault"], certificate) as secrets,
        key_client_of(given["vault"], certificate) as keys,
        key_client_of(given["root"], certificate) as root_keys,
    ):
        authority = Authority(
            configuration,
            BlobStore(container),
            VaultKeys(keys, root_keys),
            VaultMembers(secrets, configuration, poll_seconds=1.0),
            PlainSerializer(),
            configured=1.0,
            check_clock=StoreClock(container).check,
        )
        ports = {name: free_port() for name in ("health", "requests", "lists")}
        print(json.dumps(ports), flush=True)
        await serve(
            authority, Status(vm="authority-1"), "127.0.0.1", ports["health"], ports["requests"], ports["lists"]
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    asyncio.run(run(json.loads(sys.argv[1])))
