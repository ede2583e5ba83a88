"""An identity's secret keys in Key Vault: made once, restored whole by whoever holds the identity later.

Each blob is a secret of its own. A manifest, written last, names their versions and hashes: a key that it does not
name was never in use. Key Vault can't make a write depend on what is there, so nothing here relies on being alone
with the vault: of several manifests the one that the identity's record knows counts, and before there is a record
the oldest. A person who tags that one gives its keys up: then the oldest manifest that says to replace it counts.
"""

import asyncio
import base64
import hashlib
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from azure.core.exceptions import AzureError, HttpResponseError
from azure.keyvault.secrets import KeyVaultSecret, SecretProperties
from azure.keyvault.secrets.aio import SecretClient
from pydantic import BaseModel, ConfigDict, ValidationError

from agent.fence import DamagedError, UnavailableError

MAX_SECRET_BYTES = 25_000
"""Key Vault's limit of a secret's value, learn.microsoft.com/azure/key-vault/secrets/about-secrets."""
MAX_BLOBS = 64
"""So many fit into the manifest, which is a secret too."""
REQUEST_SECONDS = 15
SETTLE_SECONDS = 2.0
"""Vault times are whole seconds: after so long no older manifest can appear any more."""
ABANDONED = "abandoned"
"""A person sets this tag to "yes" on what a cut-off storing left, or on the manifest in use, whose keys are given up
thereby: new keys may be stored as the next version."""

_MANIFEST = "keys"
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})

T = TypeVar("T")

log = logging.getLogger(__name__)


class VaultUnavailableError(UnavailableError):
    """No answer from the vault, or none yet: to be tried again."""


class KeysDamagedError(DamagedError):
    """The stored keys can't be used as they are, and new ones would lose them: a person must act."""


class HalfStoredError(KeysDamagedError):
    """Blobs without a manifest: their storing was cut off."""


class BlobMissingError(KeysDamagedError):
    """The manifest names a version that is not there."""


class DeletedError(KeysDamagedError):
    """A secret is soft-deleted."""


class DisabledError(KeysDamagedError):
    """A secret is disabled."""


class MismatchError(KeysDamagedError):
    """A secret, or the manifest, is not the one that was stored."""


class VanishedError(KeysDamagedError):
    """The vault knows nothing of keys that the identity's record knows."""


class _AbsentError(Exception):
    pass


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Stored(_Model):
    secret: str
    version: str
    sha256: str


class _Manifest(_Model):
    identity: str
    blobs: dict[str, _Stored]
    replaces: str | None = None
    """SHA-256 of the manifest whose keys were given up for these."""


@dataclass(frozen=True)
class Keys:
    """An identity's secret blobs."""

    blobs: Mapping[str, bytes] = field(repr=False)
    fingerprint: str
    """SHA-256 of the manifest that names them."""
    made: bool
    """Whether they were new with this call."""


class KeyVaultKeys:
    """The keys of a bank's identities, in its vault.

    Keep one instance as long as the agent runs: it remembers what it could not store to the end, and goes on there.
    """

    def __init__(
        self,
        client: SecretClient,
        *,
        request_seconds: float = REQUEST_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._client, self._request_seconds, self._settle_seconds = client, request_seconds, settle_seconds
        self._begun: dict[tuple[str, str | None], Mapping[str, bytes]] = {}

    async def obtain(self, identity: str, make: Callable[[], Mapping[str, bytes]], known: str | None) -> Keys:
        """Restore an identity's keys, or make and store them where there never were any or a person gave them up.

        Args:
            identity: its name; the names of its secrets begin with it.
            make: makes new keys: blobs by name. Called in a thread.
            known: fingerprint that the identity's record remembers; None where it remembers none.

        Raises:
            VaultUnavailableError: the vault does not answer, or not yet.
            KeysDamagedError: only a person can mend what is stored; the subclass tells what it is.
            ValueError: a name or a blob is not fit for Key Vault.
        """
        stored = None
        content, given_up = await self._find(identity, known)
        if content is None:
            if known and not given_up:
                raise VanishedError(
                    f"{self._named(_manifest_name(identity))} is not there, but the record of {identity} knows keys"
                    f" of fingerprint {known}; wanted: the vault's secrets of {identity} restored from their backup"
                )
            stored = await self._store(identity, make, given_up)
            await asyncio.sleep(self._settle_seconds)
            # Not what was written but what is found: another first holder may have been there a moment earlier.
            content, _ = await self._find(identity, known)
            if content is None:
                raise VaultUnavailableError(f"{self._named(_manifest_name(identity))} can't be read yet")
        manifest = self._parse(identity, content)
        blobs = {name: await self._restore(each) for name, each in manifest.blobs.items()}
        for begun in [each for each in self._begun if each[0] == identity]:
            del self._begun[begun]
        if made := content == stored:
            log.info("%s: new keys are stored, fingerprint %s", identity, _sha256(content))
        return Keys(blobs, _sha256(content), made)

    async def _find(self, identity: str, known: str | None) -> tuple[str | None, str | None]:
        """The content of the manifest that counts; where there is none, the fingerprint of one that was given up."""
        name = _manifest_name(identity)
        latest = await self._get(name)
        if latest is None:
            return None, None
        # A holder that was late may have written another manifest over the known one: that one was never in use.
        if known and _sha256(_value(latest)) == known and not _abandoned(latest.properties):
            return _value(latest), None
        versions = await self._ask(name, self._versions(name))
        read: dict[str, str] = {}

        async def content_of(version: str) -> str:
            if version not in read:
                read[version] = _value(await self._get(name, version))
            return read[version]

        async def oldest(fits: Callable[[str], bool]) -> tuple[str, str] | None:
            for each in versions:
                if fits(content := await content_of(str(each.version))):
                    return str(each.version), content
            return None

        # One content may have two versions, where the SDK repeated a write: it does not matter which has the tag.
        given_up = {_sha256(await content_of(str(each.version))) for each in versions if _abandoned(each)}
        found = await oldest(lambda each: _sha256(each) == known if known else _replaces(each) is None)
        if found is None and known is None:
            raise VaultUnavailableError(f"{self._named(name)} has a value but lists no version yet")
        if found is None:
            raise MismatchError(
                f"{self._named(name)} has no version of fingerprint {known}, which the record of {identity} knows;"
                " wanted: that version of it, and of the secrets it names, restored from their backup"
            )
        while (replaced := _sha256(found[1])) in given_up:
            found = await oldest(partial(_is_for, replaced))
            if found is None:
                return None, replaced
        version, content = found
        if version != latest.properties.version:
            log.info("%s, version %s, is in use, though not the latest", self._named(name), version)
        return content, None

    async def _store(self, identity: str, make: Callable[[], Mapping[str, bytes]], replaces: str | None) -> str:
        """Write the blobs, then the manifest; returns its content."""
        # What was begun before other keys were given up may be as old as they are.
        begun = identity, replaces
        if begun not in self._begun:
            self._begun[begun] = _checked(identity, await asyncio.to_thread(make))
        blobs = {_secret_name(identity, name): (name, blob) for name, blob in self._begun[begun].items()}
        there = {secret: await self._get(secret) for secret in blobs}
        if left := [
            secret
            for secret, found in there.items()
            # What has our value is ours, of an attempt before. Over keys that were given up a person wants others.
            if found and _value(found) != _text(blobs[secret][1]) and not (replaces or _abandoned(found.properties))
        ]:
            raise HalfStoredError(
                f"{self._named(', '.join(left))} there, but not {_manifest_name(identity)}: the storing of"
                f" {identity}'s keys was cut off; wanted: the manifest restored if there ever was one, else the tag"
                f" {ABANDONED}=yes on what is there, and new keys are stored over it"
            )
        manifest = {}
        for secret, (name, blob) in blobs.items():
            version = await self._written(identity, secret, there[secret], blob)
            manifest[name] = _Stored(secret=secret, version=version, sha256=_sha256(blob))
        content = _Manifest(identity=identity, blobs=manifest, replaces=replaces).model_dump_json(exclude_none=True)
        await self._set(identity, _manifest_name(identity), content, "application/json")
        return content

    async def _written(self, identity: str, secret: str, there: KeyVaultSecret | None, blob: bytes) -> str:
        """The version of a secret that holds the blob, as read back."""
        text = _text(blob)
        if there is None or _value(there) != text:
            there = await self._set(identity, secret, text, "application/octet-stream;base64")
        version = str(there.properties.version)
        back = await self._get(secret, version)
        if back is None:
            raise VaultUnavailableError(f"{self._named(secret)}, version {version}, can't be read yet")
        if _value(back) != text:
            raise MismatchError(f"{self._named(secret)}, version {version}, is not what was stored a moment ago")
        return version

    async def _set(self, identity: str, secret: str, text: str, content_type: str) -> KeyVaultSecret:
        tags = {"identity": identity}
        return await self._ask(secret, self._client.set_secret(secret, text, content_type=content_type, tags=tags))

    def _parse(self, identity: str, content: str) -> _Manifest:
        try:
            manifest = _Manifest.model_validate_json(content)
        except ValidationError:
            manifest = None
        if manifest is None or manifest.identity != identity:
            raise MismatchError(
                f"{self._named(_manifest_name(identity))} holds no manifest of {identity}'s keys; wanted: the"
                " secret restored from its backup"
            )
        return manifest

    async def _restore(self, stored: _Stored) -> bytes:
        found = await self._get(stored.secret, stored.version)
        if found is None:
            raise BlobMissingError(
                f"{self._named(stored.secret)} has no version {stored.version}, which the manifest names;"
                " wanted: the secret with that version restored from its backup"
            )
        try:
            blob = base64.b64decode(_value(found), validate=True)
        except ValueError:
            blob = b""
        if _sha256(blob) != stored.sha256:
            raise MismatchError(
                f"{self._named(stored.secret)}, version {stored.version}, has not the SHA-256 that the manifest"
                " names; wanted: the secret and the manifest restored from backups of one time"
            )
        return blob

    async def _versions(self, secret: str) -> list[SecretProperties]:
        """Oldest first."""
        listed = [each async for each in self._client.list_properties_of_secret_versions(secret)]
        return sorted(listed, key=lambda each: (str(each.created_on), str(each.version)))

    async def _get(self, secret: str, version: str | None = None) -> KeyVaultSecret | None:
        try:
            return await self._ask(secret, self._client.get_secret(secret, version))
        except _AbsentError:
            pass
        try:
            await self._ask(secret, self._client.get_deleted_secret(secret))
        except _AbsentError:
            return None
        raise self._deleted(secret)

    async def _ask(self, secret: str, request: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._request_seconds):
                return await request
        except HttpResponseError as error:
            # Not chained: what is no proper answer is quoted in it, and could be part of a secret.
            raise self._meant(secret, error) from None
        except TimeoutError:
            raise VaultUnavailableError(f"{self._named(secret)}: no answer in {self._request_seconds} s") from None
        except (AzureError, OSError) as error:
            raise VaultUnavailableError(f"{self._named(secret)}: {error}") from None
        except ValueError as error:
            # The SDK could make nothing of the answer.
            raise VaultUnavailableError(f"{self._named(secret)}: {type(error).__name__}") from None

    def _meant(self, secret: str, error: HttpResponseError) -> Exception:
        """What an answer means; codes as on learn.microsoft.com/azure/key-vault/general/rest-error-codes."""
        codes = re.findall(r'"code"\s*:\s*"(\w+)"', _body(error)) if (error.status_code or 0) >= 400 else []
        if error.status_code == 404 and "SecretNotFound" in codes:
            return _AbsentError(secret)
        if error.status_code == 403 and "SecretDisabled" in codes:
            return DisabledError(f"{self._named(secret)} is disabled; wanted: enabled, with the version in use")
        if error.status_code == 409 and "ObjectIsDeletedButRecoverable" in codes:
            return self._deleted(secret)
        return VaultUnavailableError(f"{self._named(secret)}: {error.status_code} {' '.join(codes)}".rstrip())

    def _deleted(self, secret: str) -> DeletedError:
        return DeletedError(f"{self._named(secret)} is soft-deleted; wanted: recovered, before it is purged")

    def _named(self, secret: str) -> str:
        return f"{self._client.vault_url}: secret {secret}"


def file_system(descriptor: int) -> str:
    """The type of the file system of an open file, or `unknown`."""
    device = os.fstat(descriptor).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == wanted:
            return source.split()[0]
    return "unknown"


def write_files(folder: Path, blobs: Mapping[str, bytes], file_system: Callable[[int], str] = file_system) -> None:
    """Write blobs as files that their owner alone can read, into a folder in memory.

    Each is seen whole or not at all; one that is there is replaced.

    Raises:
        ValueError: the folder is not in memory, or a name is not a plain one.
    """
    for name in blobs:
        _check_name("blob", name)
    folder.mkdir(mode=0o700, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if (kind := file_system(opened)) not in _IN_MEMORY:
            raise ValueError(
                f"{folder} is on {kind}; wanted one of {', '.join(sorted(_IN_MEMORY))}: keys touch no disk"
            )
        os.fchmod(opened, 0o700)
        for name, blob in blobs.items():
            _write(opened, name, blob)
    finally:
        os.close(opened)


def _write(folder: int, name: str, blob: bytes) -> None:
    new = f".{name}.new"

    def create(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)

    if new in os.listdir(folder):
        # Of a writer that was killed.
        os.unlink(new, dir_fd=folder)
    with open(new, "xb", opener=create) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(blob)
    os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)


def _checked(identity: str, blobs: Mapping[str, bytes]) -> Mapping[str, bytes]:
    if not 1 <= len(blobs) <= MAX_BLOBS:
        raise ValueError(f"{identity}: {len(blobs)} blobs; wanted 1 to {MAX_BLOBS}")
    # Key Vault does not tell upper from lower case.
    if len({name.lower() for name in (*blobs, _MANIFEST)}) <= len(blobs):
        raise ValueError(f"{identity}: blobs {', '.join(blobs)}; wanted different names, none of them {_MANIFEST}")
    for name, blob in blobs.items():
        secret = _secret_name(identity, name)
        if not 1 <= len(_text(blob)) <= MAX_SECRET_BYTES:
            raise ValueError(f"secret {secret}: {len(_text(blob))} bytes in base64; wanted 1 to {MAX_SECRET_BYTES}")
    return dict(blobs)


def _manifest_name(identity: str) -> str:
    return _secret_name(identity, _MANIFEST)


def _secret_name(identity: str, name: str) -> str:
    return _check_name("secret", f"{identity}-{name}")


def _check_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} name {name!r}; wanted 1 to 127 of 0-9, a-z, A-Z and -")
    return name


def _text(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


def _value(secret: KeyVaultSecret | None) -> str:
    return (secret and secret.value) or ""


def _abandoned(properties: SecretProperties) -> bool:
    return (properties.tags or {}).get(ABANDONED) == "yes"


def _is_for(replaced: str, content: str) -> bool:
    return _replaces(content) == replaced


def _replaces(content: str) -> str | None:
    try:
        return _Manifest.model_validate_json(content).replaces
    except ValidationError:
        return None


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _body(error: HttpResponseError) -> str:
    try:
        return str(error.response.text()) if error.response else ""
    except (AzureError, ValueError):
        return ""
