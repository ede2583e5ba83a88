"""The services around a guest: stand-ins with the names of its stack's plan."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from threading import Thread
from typing import Any

import trustme
from aiohttp import web
from azure.storage.blob import ContainerClient

from contract.authority_configuration import AuthorityConfiguration
from contract.ports import HTTP_PORT, HTTPS_PORT
from contract.vm_configuration import AgentConfiguration
from lab.banks import azurite, postgres
from lab.banks.key_vault import TOKEN, Served, Vault
from lab.vm import image, network, share
from lab.vm.authority import certifying, host_of
from lab.vm.image import MIRROR, Image
from lab.vm.metadata import Metadata
from lab.vm.network import METADATA_ADDRESS, WIRE_SERVER_ADDRESS, GuestSubnet
from lab.vm.share import ServedShare

VAULT_RESOURCE, DATABASE_RESOURCE = "https://vault.azure.net", "https://ossrdbms-aad.database.windows.net"
_LISTEN_SECONDS = 30


@dataclass
class GuestServices:
    """The services around a guest."""

    metadata: Metadata
    share: ServedShare
    keys: Vault
    """The vault that agents write to."""
    database: postgres.Server | None
    fetched: list[str]
    """Paths of packages and wheels that guests asked for."""
    _blobs: str
    _certificate: Path
    _account: str

    def container(self, name: str) -> ContainerClient:
        """A container of the bank's blobs, for a test."""
        return ContainerClient(
            self._blobs,
            name,
            {"account_name": self._account, "account_key": azurite.KEY},
            connection_verify=str(self._certificate),
        )


@contextmanager
def around(
    configuration: AgentConfiguration,
    share_source: str,
    secrets: Mapping[str, Mapping[str, str]],
    *,
    authority: AuthorityConfiguration | None,
    database_subnet: IPv4Network | None,
    subnet: GuestSubnet,
    metadata: Metadata,
    made: Image,
    folder: Path,
) -> Iterator[GuestServices]:
    """The services of a bank's plan, in this thread's network namespace, see `network.isolated`.

    Args:
        configuration: the configuration of the bank's VMs.
        share_source: the share as NFS names it, `HOST:/ACCOUNT/SHARE`.
        secrets: what the bank's stack writes into its vaults, by their hosts.
        authority: the configuration of the VMs of the bank's network authority, if it has one.
        database_subnet: where the database is, if the bank has one.
        subnet: where the guest is.
        metadata: what the platform tells the guest of itself.
        made: what the guest starts from.
        folder: an empty one.
    """
    files, _, shared = share_source.partition(":")
    blobs = host_of(configuration.blob_url)
    hosts = {host_of(configuration.key_vault_url), host_of(configuration.bank_vault_url), blobs, files, MIRROR}
    # The last addresses of the bank's range.
    names = {host: configuration.address_space[-2 - number] for number, host in enumerate(sorted(hosts))}
    server = configuration.database
    if server and database_subnet:
        # The first address that Azure assigns.
        names[server.host] = database_subnet[4]
    issuer, certificate, account = made.authority, made.folder / "authority.pem", blobs.partition(".")[0]
    keys, bank, fetched = Vault(), Vault(), list[str]()
    metadata.tokens = {VAULT_RESOURCE: lambda: TOKEN, DATABASE_RESOURCE: lambda: postgres.PASSWORD}
    others = [IPv4Address(host_of(authority.url))] if authority else []
    with ExitStack() as stack:
        stack.enter_context(network.connected(subnet, names, others, folder))
        nfs = stack.enter_context(share.serving(names[files], shared, folder))
        front = azurite.AzureFront(str(names[blobs]), account, *_certify(issuer, blobs, names[blobs], folder))
        url, _ = stack.enter_context(azurite.blob_service(front))
        database = None
        if server:
            address = names[server.host]
            at = postgres.AzureDatabase(
                str(address), server.administrator, *_certify(issuer, server.host, address, folder)
            )
            database = stack.enter_context(postgres.server(endpoint=at))

        async def serve(servers: AsyncExitStack) -> None:
            for address in (METADATA_ADDRESS, WIRE_SERVER_ADDRESS):
                await _serve(servers, metadata.application(), address)
            await _serve(servers, _mirror(made, fetched), names[MIRROR])
            for vault, vault_url in ((keys, configuration.key_vault_url), (bank, configuration.bank_vault_url)):
                host = host_of(vault_url)
                await _serve(servers, vault.application(), names[host], _tls(issuer, host, names[host]))

        stack.enter_context(_in_thread(serve))
        site = GuestServices(metadata, nfs, keys, database, fetched, url, certificate, account)
        for container in (configuration.lease_container, configuration.network_container):
            with site.container(container) as client:
                client.create_container()
        host = host_of(configuration.bank_vault_url)
        Served(f"https://{names[host]}", certificate).set(secrets[host])
        if authority:
            stack.enter_context(certifying(authority, secrets[host_of(authority.vault_url)], folder / "authority"))
        yield site


def _certify(issuer: trustme.CA, host: str, address: IPv4Address, folder: Path) -> tuple[Path, Path]:
    """Files with a certificate for a host, and its key."""
    made, certificate, key = issuer.issue_cert(host, str(address)), folder / f"{host}.pem", folder / f"{host}.key"
    made.cert_chain_pems[0].write_to_path(certificate)
    made.private_key_pem.write_to_path(key)
    return certificate, key


def _tls(authority: trustme.CA, host: str, address: IPv4Address) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, str(address)).configure_cert(context)
    return context


def _mirror(made: Image, fetched: list[str]) -> web.Application:
    """The packages and wheels that a plan names, with the same bytes."""

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        fetched.append(request.path)
        answer: web.StreamResponse = await handler(request)
        return answer

    application = web.Application(middlewares=[note])
    application.router.add_static("/packages", made.packages)
    application.router.add_static("/wheels", image.wheels(), show_index=True)
    return application


async def _serve(
    servers: AsyncExitStack, application: web.Application, address: IPv4Address, tls: ssl.SSLContext | None = None
) -> None:
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    servers.push_async_callback(_end, runner)
    await web.TCPSite(runner, str(address), HTTPS_PORT if tls else HTTP_PORT, ssl_context=tls).start()


async def _end(runner: web.AppRunner) -> None:
    for each in runner.server.connections if runner.server else ():
        # A guest without power never answers the end of TLS.
        if each.transport:
            each.transport.abort()
    await runner.cleanup()


@contextmanager
def _in_thread(serve: Callable[[AsyncExitStack], Coroutine[Any, Any, None]]) -> Iterator[None]:
    """Run servers in a new thread, in the network namespace of the calling thread."""
    loop, servers = asyncio.new_event_loop(), AsyncExitStack()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(serve(servers), loop).result(_LISTEN_SECONDS)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(servers.aclose(), loop).result(_LISTEN_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
