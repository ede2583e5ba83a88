"""A Key Vault's REST API for secrets and keys, as far as agents, authority and operators use it; with faults.

Started as `python -m lab.banks.key_vault PORT FOLDER` it writes `FOLDER/certificate.pem`, which clients must trust.
`PUT /fault` with `{"fault": "429", "times": 3}` injects a fault into the next requests; `PUT /granted` with
`false` removes the callers' role, and with `true` grants it again.
"""

import asyncio
import base64
import json
import ssl
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import trustme
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.secrets.aio import SecretClient
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from typing_extensions import override

from lab import ROOT

# learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
CHALLENGE = (
    'Bearer authorization="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000",'
    ' resource="https://vault.azure.net"'
)
"""The header `WWW-Authenticate` of a request without a token."""
TOKEN = "a-token"
"""The only access token that the vault accepts."""
MAX_VALUE = 25_600
PAGE = 25
"""Key Vault's limits: characters of a secret's value, and entries of a page."""

# A fault of a request: a status code, "hang", "cut" (the request is lost), "lose" (its answer is lost), "garble".
Fault = str | None


@dataclass
class Vault:
    """A vault's content, and its injected faults."""

    secrets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Secret bundles by name and version, in the order of their creation."""
    deleted: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Soft-deleted secrets, in the same form."""
    keys: dict[str, dict[str, ec.EllipticCurvePrivateKey]] = field(default_factory=dict)
    """P-256 keys by name and version, in the order of their creation. No request returns a private key."""
    now: Callable[[], float] = time
    """The clock of created and updated times, in seconds since 1970."""
    judge: Callable[[web.Request], Awaitable[Fault]] | None = None
    """Returns the fault of each authenticated request, or None; called after the request was added to `served`."""
    granted: bool = True
    """Whether callers have a role on the vault; otherwise each request is refused with 403."""
    served: list[str] = field(default_factory=list)
    """Authenticated requests as `METHOD path`."""

    def application(self) -> web.Application:
        """The web application that answers the vault's requests."""
        application = web.Application(middlewares=[self._guard])
        application.router.add_routes(
            [
                web.put("/fault", self._order),
                web.put("/granted", self._grant),
                web.put("/secrets/{name}", self._set),
                web.patch("/secrets/{name}/{version}", self._update),
                web.patch("/secrets/{name}/", self._update),
                web.get("/secrets/{name}/versions", self._list),
                web.get("/secrets/{name}/{version}", self._get),
                web.get("/secrets/{name}/", self._get),
                web.get("/secrets/{name}", self._get),
                web.delete("/secrets/{name}", self._delete),
                web.get("/deletedsecrets/{name}", self._get_deleted),
                web.delete("/deletedsecrets/{name}", self._purge),
                web.post("/deletedsecrets/{name}/recover", self._recover),
                web.post("/keys/{name}/create", self._create_key),
                web.get("/keys/{name}/{version}", self._get_key),
                web.get("/keys/{name}/", self._get_key),
                web.get("/keys/{name}", self._get_key),
                web.post("/keys/{name}/{version}/sign", self._sign),
            ]
        )
        return application

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path in {"/fault", "/granted"}:
            return await handler(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response(
                {"error": {"code": "Unauthorized", "message": "AKV10000: Request is missing a Bearer token."}},
                status=401,
                headers={"WWW-Authenticate": CHALLENGE},
            )
        self.served.append(f"{request.method} {request.path}")
        fault = "403" if not self.granted else await self.judge(request) if self.judge else None
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "cut":
            return _cut(request)
        if fault and fault.isdigit():
            return _error(int(fault), "Fault", inner={"403": "ForbiddenByRbac"}.get(fault))
        answer = await handler(request)
        if fault == "lose":
            return _cut(request)
        if fault == "garble" and isinstance(answer, web.Response) and isinstance(answer.body, bytes):
            answer = web.Response(body=answer.body[:-2], content_type="application/json")
        return answer

    async def _order(self, request: web.Request) -> web.Response:
        order = await request.json()
        left = [order["fault"]] * order.get("times", 1)

        async def judge(_: web.Request) -> Fault:
            return left.pop() if left else None

        self.judge = judge
        return web.json_response({})

    async def _grant(self, request: web.Request) -> web.Response:
        self.granted = bool(await request.json())
        return web.json_response({})

    async def _set(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"].lower(), await request.json()
        if name in self.deleted:
            return _error(409, "Conflict", inner="ObjectIsDeletedButRecoverable")
        if not 1 <= len(body["value"]) <= MAX_VALUE:
            return _error(400, "BadParameter")
        version = uuid.uuid4().hex
        made = int(self.now())
        bundle = {
            "value": body["value"],
            "id": f"https://{request.host}/secrets/{name}/{version}",
            "attributes": {"enabled": True, "created": made, "updated": made, "recoveryLevel": "Recoverable"},
            "contentType": body.get("contentType"),
            "tags": body.get("tags") or {},
        }
        self.secrets.setdefault(name, {})[version] = bundle
        return web.json_response(bundle)

    async def _update(self, request: web.Request) -> web.Response:
        bundle, body = self._version(request), await request.json()
        if bundle is None:
            return _error(404, "SecretNotFound")
        bundle["attributes"].update(body.get("attributes") or {})
        bundle["tags"] = body.get("tags") or bundle["tags"]
        return web.json_response({key: value for key, value in bundle.items() if key != "value"})

    async def _get(self, request: web.Request) -> web.Response:
        bundle = self._version(request)
        if bundle is None:
            return _error(404, "SecretNotFound")
        if not bundle["attributes"]["enabled"]:
            return _error(403, "Forbidden", inner="SecretDisabled")
        return web.json_response(bundle)

    async def _list(self, request: web.Request) -> web.Response:
        # Azure documents no order: this one is neither the order of creation nor the one that an agent needs.
        versions = sorted(self.secrets.get(request.match_info["name"].lower(), {}).items(), reverse=True)
        start = int(request.query.get("$skiptoken", "0"))
        items = [{key: bundle[key] for key in ("id", "attributes", "tags")} for _, bundle in versions]
        more = start + PAGE < len(items)
        query = f"api-version={request.query['api-version']}&$skiptoken={start + PAGE}"
        link = f"https://{request.host}{request.path}?{query}" if more else None
        return web.json_response({"value": items[start : start + PAGE], "nextLink": link})

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"].lower()
        if name not in self.secrets:
            return _error(404, "SecretNotFound")
        self.deleted[name] = self.secrets.pop(name)
        return self._tombstone(request, name)

    async def _get_deleted(self, request: web.Request) -> web.Response:
        name = request.match_info["name"].lower()
        return self._tombstone(request, name) if name in self.deleted else _error(404, "SecretNotFound")

    async def _purge(self, request: web.Request) -> web.Response:
        found = self.deleted.pop(request.match_info["name"].lower(), None)
        return web.Response(status=204) if found else _error(404, "SecretNotFound")

    async def _recover(self, request: web.Request) -> web.Response:
        name = request.match_info["name"].lower()
        if name not in self.deleted:
            return _error(404, "SecretNotFound")
        self.secrets[name] = self.deleted.pop(name)
        return web.json_response({key: value for key, value in self._latest(name).items() if key != "value"})

    async def _create_key(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["kty"] not in {"EC", "EC-HSM"} or body.get("crv") != "P-256":
            return _error(400, "BadParameter")
        self.make_key(request.match_info["name"])
        return await self._get_key(request)

    def make_key(self, name: str) -> None:
        """Create a new version of a key, as the infrastructure does."""
        self.keys.setdefault(name.lower(), {})[uuid.uuid4().hex] = ec.generate_private_key(ec.SECP256R1())

    async def _get_key(self, request: web.Request) -> web.Response:
        found = self._key(request)
        if found is None:
            return _error(404, "KeyNotFound")
        version, key = found
        point = key.public_key().public_numbers()
        made = int(self.now())
        return web.json_response(
            {
                "key": {
                    "kid": self._kid(request, version),
                    "kty": "EC-HSM",
                    "crv": "P-256",
                    "key_ops": ["sign", "verify"],
                    "x": _base64url(point.x.to_bytes(32, "big")),
                    "y": _base64url(point.y.to_bytes(32, "big")),
                },
                "attributes": {"enabled": True, "created": made, "updated": made, "exportable": False},
                "tags": {},
            }
        )

    async def _sign(self, request: web.Request) -> web.Response:
        body, found = await request.json(), self._key(request)
        if found is None:
            return _error(404, "KeyNotFound")
        digest = base64.urlsafe_b64decode(body["value"] + "==")
        if body["alg"] != "ES256" or len(digest) != 32:
            return _error(400, "BadParameter")
        version, key = found
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        value = _base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return web.json_response({"kid": self._kid(request, version), "value": value})

    def _key(self, request: web.Request) -> tuple[str, ec.EllipticCurvePrivateKey] | None:
        versions = self.keys.get(request.match_info["name"].lower(), {})
        version = request.match_info.get("version") or next(reversed(versions), "")
        return (version, versions[version]) if version in versions else None

    def _kid(self, request: web.Request, version: str) -> str:
        return f"https://{request.host}/keys/{request.match_info['name'].lower()}/{version}"

    def _version(self, request: web.Request) -> dict[str, Any] | None:
        versions = self.secrets.get(request.match_info["name"].lower(), {})
        if version := request.match_info.get("version"):
            return versions.get(version)
        return next(reversed(versions.values()), None)

    def _latest(self, name: str) -> dict[str, Any]:
        return next(reversed(self.secrets[name].values()))

    def _tombstone(self, request: web.Request, name: str) -> web.Response:
        bundle = next(reversed(self.deleted[name].values()))
        now = int(self.now())
        return web.json_response(
            {key: value for key, value in bundle.items() if key != "value"}
            | {
                "recoveryId": f"https://{request.host}/deletedsecrets/{name}",
                "deletedDate": now,
                "scheduledPurgeDate": now + 90 * 86_400,
            }
        )


def _error(status: int, code: str, *, inner: str | None = None) -> web.Response:
    error = {"code": code, "message": f"{code} {inner}"} | ({"innererror": {"code": inner}} if inner else {})
    return web.json_response({"error": error}, status=status)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _cut(request: web.Request) -> web.Response:
    assert request.transport
    request.transport.abort()
    return web.Response()


def write_certificate(folder: Path) -> ssl.SSLContext:
    """Write `certificate.pem`, which clients must trust; returns the server's TLS context for localhost."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "certificate.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@asynccontextmanager
async def serving(vault: Vault, context: ssl.SSLContext, port: int = 0) -> AsyncIterator[str]:
    """Serve a vault on localhost during the block; yields its URL.

    Args:
        vault: the vault.
        context: the server's TLS context.
        port: the port; 0 for a free one.
    """
    runner = web.AppRunner(vault.application(), shutdown_timeout=0.05)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Credential(AsyncTokenCredential):
    """Returns the token that the vault accepts."""

    @override
    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://vault.azure.net/.default",), "the challenge names the resource"
        return AccessToken(TOKEN, int(time()) + 3600)

    @override
    async def close(self) -> None:
        """Do nothing: nothing is open."""

    async def __aenter__(self) -> "Credential":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def client_of(url: str, certificate: Path, **options: Any) -> SecretClient:
    """The SDK's client of a vault's secrets, which does not retry.

    Args:
        url: the vault's URL.
        certificate: the root certificate to trust.
        options: further options of the SDK's client.
    """
    return SecretClient(url, Credential(), verify_challenge_resource=False, **_transport(certificate, options))


def key_client_of(url: str, certificate: Path, **options: Any) -> KeyClient:
    """The SDK's client of a vault's keys, which does not retry; arguments as for `client_of`."""
    return KeyClient(url, Credential(), verify_challenge_resource=False, **_transport(certificate, options))


def _transport(certificate: Path, options: dict[str, Any]) -> dict[str, Any]:
    # The SDK's own session would read the certificate again for each request.
    session = ClientSession(
        connector=TCPConnector(ssl=ssl.create_default_context(cafile=str(certificate))),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
    )
    return {"retry_total": 0, "read_timeout": 5, "transport": AioHttpTransport(session=session)} | options


@dataclass(frozen=True)
class Served:
    """A vault that runs in another process."""

    url: str
    certificate: Path
    """The root certificate that clients must trust."""

    def set(self, values: Mapping[str, str]) -> None:
        """Write secrets by name, as the infrastructure does."""
        for name, value in values.items():
            self._send("PUT", f"/secrets/{name}", {"value": value})

    def make_keys(self, names: Iterable[str]) -> None:
        """Create signing keys with these names."""
        for name in names:
            self._send("POST", f"/keys/{name}/create", {"kty": "EC-HSM", "crv": "P-256", "key_ops": ["sign"]})

    def grant(self, granted: bool) -> None:
        """Grant callers a role on the vault, or remove it, as the infrastructure does."""
        self._send("PUT", "/granted", granted)

    def _send(self, method: str, path: str, body: object) -> None:
        request = urllib.request.Request(
            f"{self.url}{path}?api-version=7.5",
            method=method,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        urllib.request.urlopen(request, timeout=10, context=context).close()


@contextmanager
def in_process(folder: Path) -> Iterator[Served]:
    """Run a vault in a separate process during the block; its content is lost afterwards.

    Args:
        folder: a new folder, for its certificate.
    """
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "lab.banks.key_vault", "0", str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout
    try:
        yield Served(json.loads(process.stdout.readline())["url"], folder / "certificate.pem")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


async def _main(port: int, folder: Path) -> None:
    async with serving(Vault(), write_certificate(folder), port) as url:
        print(json.dumps({"url": url}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), Path(sys.argv[2])))
