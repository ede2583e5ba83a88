"""The authority of a network, on its VMs: `python -m ledger.corda.authority [COMMAND] [--configuration FILE]`."""

import argparse
import asyncio
import getpass
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.configuration import ConfigurationError
from agent.fence import DamagedError, UnavailableError
from agent.ports import HEALTH_PORT
from ledger.corda import CORDA
from ledger.corda.authority.authority import Authority, RefusedError
from ledger.corda.authority.configuration import PATH, Configuration, read_configuration
from ledger.corda.authority.register import BlobStore, RequestRecord

if TYPE_CHECKING:
    from azure.keyvault.keys.aio import KeyClient
    from azure.keyvault.secrets.aio import SecretClient
    from azure.storage.blob.aio import ContainerClient

_NO_RETRIES: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 10}
"""The authority decides when to ask again."""

Connect = Callable[[Configuration, float], AbstractAsyncContextManager[Authority]]


def authority_of(
    configuration: Configuration,
    configured: float,
    container: "ContainerClient",
    secrets: "SecretClient",
    keys: "KeyClient",
) -> Authority:
    """The authority whose register, vault and keys these clients reach."""
    from ledger.corda.authority.keys import VaultKeys  # noqa: PLC0415
    from ledger.corda.authority.members import VaultMembers  # noqa: PLC0415
    from ledger.corda.authority.parameters import JavaSerializer  # noqa: PLC0415

    return Authority(
        configuration,
        BlobStore(container),
        VaultKeys(keys),
        VaultMembers(secrets, configuration.member, configuration.legal_names),
        JavaSerializer(configuration.wanted),
        configured=configured,
    )


@asynccontextmanager
async def connect(configuration: Configuration, configured: float) -> AsyncIterator[Authority]:
    """An authority with the vault and the register that its configuration names, as the VM's identity."""
    # Loaded here: to tell what the commands are needs none of it.
    from azure.identity.aio import ManagedIdentityCredential  # noqa: PLC0415
    from azure.keyvault.keys.aio import KeyClient  # noqa: PLC0415
    from azure.keyvault.secrets.aio import SecretClient  # noqa: PLC0415
    from azure.storage.blob.aio import ContainerClient  # noqa: PLC0415

    async with AsyncExitStack() as clients:
        credential = await clients.enter_async_context(ManagedIdentityCredential(client_id=configuration.client_id))
        container = await clients.enter_async_context(
            ContainerClient(configuration.blob_url, configuration.container, credential, **_NO_RETRIES)
        )
        secrets = await clients.enter_async_context(SecretClient(configuration.vault_url, credential, **_NO_RETRIES))
        keys = await clients.enter_async_context(KeyClient(configuration.vault_url, credential, **_NO_RETRIES))
        yield authority_of(configuration, configured, container, secrets, keys)


async def _serve(configuration: Configuration, configured: float, connect: Connect) -> None:
    from agent import metrics  # noqa: PLC0415
    from agent.status import Status  # noqa: PLC0415
    from ledger.corda.authority.service import serve  # noqa: PLC0415

    assert CORDA.authority  # noqa: S101
    requests, lists = (each.port for each in CORDA.authority.listeners)
    status = Status(vm=os.uname().nodename)
    async with connect(configuration, configured) as authority:
        if configuration.connection_string:
            metrics.send(configuration.connection_string, configuration.client_id, status)
        # The network's rules say who gets in.
        await serve(authority, status, "0.0.0.0", HEALTH_PORT, requests, lists)  # noqa: S104


async def _command(given: argparse.Namespace, authority: Authority, by: str) -> None:
    match given.command:
        case "pending":
            waiting = await authority.pending()
            for each in waiting:
                _say(_line(each))
            if not waiting:
                _say("no request waits for approval")
        case "approve":
            _say(f"approved: {_line(await authority.approve(given.id, by))}")
        case "reject":
            _say(f"rejected: {_line(await authority.reject(given.id, given.reason, by))}")
        case "revoke":
            for issued in await authority.revoke(given.name, by):
                _say(f"revoked: {issued.role} {issued.serial}, key {issued.key_hash}")


def _line(record: RequestRecord) -> str:
    return f"{record.id}  {record.asked}  {record.member}  {record.role}  {record.legal_name}  key {record.key_hash}"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ledger.corda.authority", description="A network's authority.")
    parser.set_defaults(command="serve", configuration=PATH)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--configuration", type=Path, default=PATH, metavar="FILE", help=f"default: {PATH}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    serve = commands.add_parser("serve", help="answer members until SIGTERM (the default)")
    serve.add_argument("configuration", type=Path, nargs="?", default=PATH, metavar="FILE", help=f"default: {PATH}")
    commands.add_parser("pending", parents=[common], help="the requests that wait for approval")
    approve = commands.add_parser("approve", parents=[common], help="grant a request")
    approve.add_argument("id", metavar="ID")
    reject = commands.add_parser("reject", parents=[common], help="refuse a request; the member is told the reason")
    reject.add_argument("id", metavar="ID")
    reject.add_argument("reason", metavar="REASON")
    revoke = commands.add_parser("revoke", parents=[common], help="revoke all certificates of a legal name")
    revoke.add_argument("name", metavar="NAME")
    given = parser.parse_args(arguments)
    given.command = given.command or "serve"
    return given


def main(arguments: Sequence[str], connect: Connect = connect) -> int:
    """Run a command; returns the exit status, 78 (EX_CONFIG) where the configuration can't be used."""
    given = _arguments(arguments)
    logging.basicConfig(
        level=logging.INFO if given.command == "serve" else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("azure").setLevel(logging.WARNING)
    # Who decides is recorded: the person where sudo tells. Through `az vm run-command` it is root, and the person
    # stands in Azure's activity log.
    by = os.environ.get("SUDO_USER") or getpass.getuser()

    async def run(configuration: Configuration, configured: float) -> None:
        if given.command == "serve":
            await _serve(configuration, configured, connect)
            return
        async with connect(configuration, configured) as authority:
            await _command(given, authority, by)

    try:
        asyncio.run(run(*read_configuration(given.configuration)))
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return os.EX_CONFIG
    except (UnavailableError, DamagedError, RefusedError, LookupError, ValueError) as error:
        print(f"error: {error.args[0] if error.args else error}", file=sys.stderr)  # noqa: T201
        return os.EX_UNAVAILABLE if isinstance(error, UnavailableError) else 1
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
