"""A Key Vault of a test's own: its REST interface for secrets over TLS, with the faults that a test wants."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from azure.core.credentials import AccessToken
from azure.keyvault.secrets.aio import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Secret:
    versions: dict[str, str] = field(default_factory=dict)
    disabled: bool = False
    deleted: bool = False


@dataclass
class Vault:
    """What it holds, and how it fares."""

    secrets: dict[str, Secret] = field(default_factory=dict)
    refuses: int | None = None
    """Answer everything with this status."""
    breaks_after: int | None = None
    """Drop the connection at each request after so many more."""
    requests: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:  # noqa: PLR0911
        if "Authorization" not in request.headers:
            challenge = 'Bearer authorization="https://login.test/tenant", resource="https://vault.azure.net"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        self.requests.append(f"{request.method} {request.path}")
        if self.breaks_after is not None:
            self.breaks_after -= 1
            if self.breaks_after < 0:
                request.transport.close()  # type: ignore[union-attr]
                return web.Response()
        if self.refuses:
            return _error(self.refuses, "Forbidden" if self.refuses == 403 else "Trouble", "ForbiddenByRbac")
        _, kind, *rest = request.path.split("/")
        if not rest:
            deleted = kind == "deletedsecrets"
            names = [name for name, secret in self.secrets.items() if secret.deleted is deleted]
            key = "recoveryId" if deleted else "contentType"
            value = [{"id": f"{self.url}/secrets/{name}", key: f"{self.url}/deletedsecrets/{name}"} for name in names]
            return web.json_response({"value": value, "nextLink": None})
        name, version = rest[0], rest[1] if len(rest) > 1 else ""
        secret = self.secrets.get(name)
        if request.method == "PUT":
            if secret and secret.deleted:
                return _error(409, "Conflict", "ObjectIsDeletedButRecoverable")
            secret = self.secrets.setdefault(name, Secret())
            version = f"{len(secret.versions) + 1:032x}"
            secret.versions[version] = (await request.json())["value"]
        elif secret is None or secret.deleted or (version and version not in secret.versions):
            return _error(404, "SecretNotFound", None)
        elif secret.disabled:
            return _error(403, "Forbidden", "SecretDisabled")
        version = version or list(secret.versions)[-1]
        return web.json_response(
            {
                "value": secret.versions[version],
                "id": f"{self.url}/secrets/{name}/{version}",
                "attributes": {"enabled": True},
            }
        )


def _error(status: int, code: str, inner: str | None) -> web.Response:
    detail: dict[str, Any] = {"code": code, "message": code}
    if inner:
        detail["innererror"] = {"code": inner}
    return web.json_response({"error": detail}, status=status)


class Credential:
    """A token without a meaning."""

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken("token", 2**31)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> "Credential":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


@asynccontextmanager
async def running(vault: Vault, folder: Path) -> AsyncIterator[SecretClient]:
    """The SDK's own client of a vault that runs in this event loop."""
    certificate, key = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", vault.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    vault.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with SecretClient(
            vault.url,
            Credential(),
            verify_challenge_resource=False,
            connection_verify=str(certificate),
            retry_total=0,
        ) as client:
            yield client
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "vault.pem", folder / "vault.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private
