"""An identity's secret keys in Key Vault: made once, then restored by every VM that acquires the identity.

One secret holds all blobs as one JSON document, so they are stored atomically. Key Vault has no conditional write, so
two VMs may both store first keys. The version counts whose hash is in the identity's record; without a record, the
oldest. If a person tags it, its keys are given up, and the oldest that replaces it counts.
"""

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from azure.core.exceptions import HttpResponseError
from azure.keyvault.secrets import SecretProperties
from azure.keyvault.secrets.aio import SecretClient
from pydantic import ValidationError
from typing_extensions import override

from agent.resources import IdentityVault
from contract.identities import Identity
from contract.key_document import KeyDocument
from contract.models import first_fault
from host.azure import REQUEST_SECONDS, answering, vault_codes
from host.errors import DamagedError, UnavailableError

SETTLE_SECONDS = 2.0
"""Vault times are whole seconds: after this pause no older version can appear."""
ABANDONED = "abandoned"
"""A person sets this tag to "yes" on the version in use: its keys are given up, and new keys are stored."""

_FILE_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class KeysDamagedError(DamagedError):
    """The stored keys are unusable, and making new ones would lose them: a person must act."""


@dataclass(frozen=True)
class StoredKeys:
    """An identity's secret blobs, in use."""

    blobs: Mapping[str, bytes] = field(repr=False)
    fingerprint: str
    """SHA-256 of their document."""


@dataclass(frozen=True)
class _KeyVersion:
    name: str
    enabled: bool
    abandoned: bool
    text: str = field(repr=False)
    """The JSON document; empty for a disabled version, which the vault does not return."""

    @property
    def fingerprint(self) -> str:
        # JSON may hold a lone surrogate: no valid document, but the version still has a hash.
        return hashlib.sha256(self.text.encode(errors="surrogatepass")).hexdigest()

    @property
    def replaces(self) -> str | None:
        try:
            return KeyDocument.model_validate_json(self.text).replaces
        except ValidationError:
            return None


class KeyVaultKeys(IdentityVault):
    """The keys of a bank's identities in its Key Vault; implements `IdentityVault`."""

    def __init__(
        self,
        client: SecretClient,
        *,
        request_seconds: float = REQUEST_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._client, self._request_seconds, self._settle_seconds = client, request_seconds, settle_seconds

    @override
    async def exists(self, identity: Identity) -> bool:
        return bool(await self._versions(_secret(identity)))

    @override
    async def obtain(
        self, identity: Identity, make: Callable[[], Mapping[str, bytes]], recorded: str | None
    ) -> StoredKeys:
        secret, written = _secret(identity), None
        versions = await self._versions(secret)
        used, replaces = self._in_use(secret, versions, recorded)
        if used is None:
            written = await self._store(secret, identity, make, replaces)
            await asyncio.sleep(self._settle_seconds)
            versions = await self._versions(secret)
            self._check_read_back(secret, versions, written)
            # Another VM may have stored keys a moment earlier.
            used, _ = self._in_use(secret, versions, recorded)
        if used is None:
            raise UnavailableError(f"{self._named(secret)}: a person gave up the new keys before their first use")
        blobs = self._blobs(secret, identity, used)
        log.info(
            "%s, fingerprint %s, is in use%s",
            self._named(secret, used),
            used.fingerprint,
            ", with new keys" if written and used.text == written.text else "",
        )
        for stray in _tagged_beside(used, versions):
            log.warning(
                "%s has the tag %s and is not in use; wanted on version %s, if its keys are to be given up",
                self._named(secret, stray),
                ABANDONED,
                used.name,
            )
        return StoredKeys(blobs, used.fingerprint)

    def _in_use(
        self, secret: str, versions: Sequence[_KeyVersion], recorded: str | None
    ) -> tuple[_KeyVersion | None, str | None]:
        """The version that counts; None if new keys must be stored, with the fingerprint that they replace."""
        if not versions and recorded is None:
            return None, None
        disabled = next((each for each in versions if not each.enabled), None)

        def oldest(replaces: str | None) -> _KeyVersion | None:
            # A disabled version may be the one that counts, so no younger one is used instead.
            return next((each for each in versions if not each.enabled or each.replaces == replaces), None)

        used = (
            next((each for each in versions if each.fingerprint == recorded), disabled) if recorded else oldest(None)
        )
        if used is None and (written := oldest(recorded)) and written.abandoned:
            # The recorded keys were purged, and a person tagged a version without keys that replaces them.
            used = written
        if used is None:
            what = f"of fingerprint {recorded}, as in the identity's record" if recorded else "with first keys"
            raise KeysDamagedError(
                f"{self._named(secret)} has no version {what}; wanted: the secret with that version restored from its"
                f" backup{', or the record deleted if it was edited' if recorded else ''}"
            )
        replaced = None
        while used:
            if not used.enabled:
                raise KeysDamagedError(
                    f"{self._named(secret, used)} is disabled; wanted: enabled, as it may be in use"
                )
            # A tag on a later copy does not count: a VM may add one.
            if not used.abandoned:
                return used, None
            replaced = used.fingerprint
            used = oldest(replaced)
        return None, replaced

    async def _store(
        self, secret: str, identity: Identity, make: Callable[[], Mapping[str, bytes]], replaces: str | None
    ) -> _KeyVersion:
        blobs = dict(await asyncio.to_thread(make))
        identity.role.check_secrets(blobs)
        text = KeyDocument(identity=identity.name, blobs=blobs, replaces=replaces).to_json()
        tags = {"identity": identity.name}
        stored = await self._ask(
            secret, self._client.set_secret(secret, text, content_type="application/json", tags=tags)
        )
        if stored is None:
            raise UnavailableError(f"{self._named(secret)} can't be written yet")
        return _KeyVersion(str(stored.properties.version), True, False, text)

    def _check_read_back(self, secret: str, versions: Sequence[_KeyVersion], written: _KeyVersion) -> None:
        back = next((each for each in versions if each.name == written.name), None)
        if back is None:
            raise UnavailableError(f"{self._named(secret, written)} is not listed yet")
        if back.enabled and back.text != written.text:
            raise KeysDamagedError(
                f"{self._named(secret, written)} is not what was stored a moment ago; wanted: the same text"
            )

    def _blobs(self, secret: str, identity: Identity, used: _KeyVersion) -> Mapping[str, bytes]:
        try:
            document = KeyDocument.model_validate_json(used.text)
            if document.identity != identity.name:
                raise ValueError("another identity's keys")
            identity.role.check_secrets(document.blobs)
        except ValueError as error:
            why = first_fault(error) if isinstance(error, ValidationError) else error
            raise KeysDamagedError(
                f"{self._named(secret, used)} does not hold the keys of {identity.name}: {why}; wanted: the secret"
                f" restored from its backup, or the tag {ABANDONED}=yes on this version if its keys are lost"
            ) from None
        return document.blobs

    async def _versions(self, secret: str) -> Sequence[_KeyVersion]:
        """All versions, oldest first, by name within a second; none if there is no such secret."""
        listed = await self._ask(secret, self._list(secret))
        if not listed:
            if await self._ask(secret, self._client.get_secret(secret)):
                raise UnavailableError(f"{self._named(secret)} has a value but lists no version yet")
            if await self._ask(secret, self._client.get_deleted_secret(secret)):
                raise self._deleted(secret)
            return []
        in_order = sorted(listed, key=lambda each: (str(each.created_on), str(each.version)))
        return [await self._read(secret, each) for each in in_order]

    async def _list(self, secret: str) -> list[SecretProperties]:
        return [each async for each in self._client.list_properties_of_secret_versions(secret)]

    async def _read(self, secret: str, listed: SecretProperties) -> _KeyVersion:
        abandoned = (listed.tags or {}).get(ABANDONED) == "yes"
        version = _KeyVersion(str(listed.version), listed.enabled is not False, abandoned, "")
        if not version.enabled:
            return version
        found = await self._ask(secret, self._client.get_secret(secret, version.name))
        if found is None:
            raise UnavailableError(f"{self._named(secret, version)} is listed but can't be read yet")
        return replace(version, text=found.value or "")

    async def _ask(self, secret: str, request: Awaitable[_T]) -> _T | None:
        """The vault's answer; None if it has no such secret."""
        async with answering(self._named(secret), self._request_seconds):
            try:
                return await request
            except HttpResponseError as error:
                codes = vault_codes(error)
                # A 404 without this code is not the vault's answer, and must not lead to new keys.
                if error.status_code == 404 and "SecretNotFound" in codes:
                    return None
                # Not chained: the SDK's error quotes the answer, which may contain a secret.
                if error.status_code == 409 and "ObjectIsDeletedButRecoverable" in codes:
                    raise self._deleted(secret) from None
                raise

    def _deleted(self, secret: str) -> KeysDamagedError:
        return KeysDamagedError(f"{self._named(secret)} is soft-deleted; wanted: recovered, before it is purged")

    def _named(self, secret: str, version: _KeyVersion | None = None) -> str:
        return f"{self._client.vault_url}: secret {secret}{f', version {version.name}' if version else ''}"


def _secret(identity: Identity) -> str:
    return f"{identity.name}-keys"


def _tagged_beside(used: _KeyVersion, versions: Sequence[_KeyVersion]) -> list[_KeyVersion]:
    """Versions with a tag that has no effect: not in use, and not among those that the version in use replaced."""
    before, replaced = {each.fingerprint: each for each in versions if each.enabled}, set[str]()
    last: _KeyVersion | None = used
    while last and last.replaces and last.replaces not in replaced:
        replaced.add(last.replaces)
        last = before.get(last.replaces)
    return [each for each in versions if each.abandoned and each.fingerprint not in replaced]


def file_system(descriptor: int) -> str:
    """The type of an open file's file system, or `unknown`."""
    device = os.fstat(descriptor).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            return source.split()[0]
    return "unknown"


def write_files(folder: Path, blobs: Mapping[str, bytes], file_system: Callable[[int], str] = file_system) -> None:
    """Write blobs as files to a folder in memory, readable for the agent's user and its group: the node's, if any.

    Each file is replaced atomically.

    Raises:
        ValueError: the folder is not in memory, or a name is invalid.
    """
    for name in blobs:
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"blob name {name!r}; wanted 1 to 127 of 0-9, a-z, A-Z and -")
    folder.mkdir(mode=0o750, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if (kind := file_system(opened)) not in _IN_MEMORY:
            raise ValueError(
                f"{folder} is on {kind}; wanted one of {', '.join(sorted(_IN_MEMORY))}: keys touch no disk"
            )
        os.fchmod(opened, 0o750)
        for name, blob in blobs.items():
            _write(opened, name, blob)
    finally:
        os.close(opened)


def _write(folder: int, name: str, blob: bytes) -> None:
    new = f".{name}.new"

    def create(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o640, dir_fd=folder)

    if new in os.listdir(folder):
        # Left by a writer that was killed.
        os.unlink(new, dir_fd=folder)
    with open(new, "xb", opener=create) as file:
        os.fchmod(file.fileno(), 0o640)
        file.write(blob)
    os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
