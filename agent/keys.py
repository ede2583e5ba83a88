"""An identity's secret blobs in Azure Key Vault: made once, restored ever after."""

import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.keyvault.secrets import KeyVaultSecret
from azure.keyvault.secrets.aio import SecretClient

from agent.fence import DamagedError, UnavailableError

MAX_SECRET_BYTES = 25_600
"""What a secret's value may have, learn.microsoft.com/azure/key-vault/secrets/about-secrets."""
_MANIFEST = "keys"
_DISABLED = "SecretDisabled"


@dataclass(frozen=True)
class StoredKeys:
    """Blobs by name, as the vault holds them."""

    blobs: Mapping[str, bytes] = field(repr=False)
    fingerprint: str
    """SHA-256 of the manifest that names their versions and hashes."""
    made: bool
    """Whether they were made now."""


@dataclass(frozen=True)
class KeyVaultKeys:
    """Implements `KeyVault`: a secret for each blob, and one that lists them, written last.

    Where anything of an identity was ever stored and is not whole, a person must act: new keys over old ones would
    end the identity.
    """

    client: SecretClient

    async def obtain(self, identity: str, make: Callable[[], Mapping[str, bytes]], known: str | None) -> StoredKeys:
        """Restore an identity's keys; make them if there never were any.

        Args:
            identity: its name.
            make: makes new blobs by name.
            known: fingerprint that the identity's record has of its keys; None before there are any.

        Raises:
            UnavailableError: the vault does not answer or refuses, as it does until its roles have spread.
            DamagedError: what is stored is not whole, or not what the record knows.
            ValueError: a new blob is too large for a secret.
        """
        async with _answers(identity):
            manifest = await self._get(f"{identity}-{_MANIFEST}")
            if manifest is None:
                await self._refuse_leftovers(identity, known)
                return await self._make(identity, make())
            return await self._restore(identity, manifest, known)

    async def _restore(self, identity: str, manifest: KeyVaultSecret, known: str | None) -> StoredKeys:
        text = manifest.value or ""
        fingerprint = _sha256(text.encode())
        if known not in {None, fingerprint}:
            raise DamagedError(
                f"secret {manifest.name} is not the one that the record of {identity} knows; "
                f"wanted its version with fingerprint {known}: restore it as the newest"
            )
        blobs = {}
        for name, stated in json.loads(text).items():
            secret = await self._get(stated["secret"], stated["version"])
            if secret is None:
                raise DamagedError(
                    f"secret {stated['secret']}, version {stated['version']}, is gone; wanted it back: recover it"
                )
            blobs[name] = base64.b64decode(secret.value or "")
            if _sha256(blobs[name]) != stated["sha256"]:
                raise DamagedError(f"secret {stated['secret']}: not what {manifest.name} says; wanted it unchanged")
        return StoredKeys(blobs, fingerprint, made=False)

    async def _refuse_leftovers(self, identity: str, known: str | None) -> None:
        prefix = f"{identity}-"
        listed_deleted = self.client.list_deleted_secrets()
        deleted = [name async for each in listed_deleted if (name := each.name or "").startswith(prefix)]
        if deleted:
            raise DamagedError(f"secrets of {identity} are deleted: {', '.join(sorted(deleted))}; recover them")
        listed = self.client.list_properties_of_secrets()
        left = [name async for each in listed if (name := each.name or "").startswith(prefix)]
        if left:
            raise DamagedError(
                f"secrets of {identity} are there without {prefix}{_MANIFEST}: {', '.join(sorted(left))}; they were "
                "stored by half and never used: delete and purge them, and new ones are made"
            )
        if known:
            raise DamagedError(
                f"no secret of {identity} is there, and its record knows keys {known}: restore them from a backup"
            )

    async def _make(self, identity: str, blobs: Mapping[str, bytes]) -> StoredKeys:
        encoded = {name: base64.b64encode(blob).decode() for name, blob in blobs.items()}
        if large := [name for name, value in encoded.items() if len(value) > MAX_SECRET_BYTES]:
            raise ValueError(f"{identity}: {', '.join(large)} too large; wanted {MAX_SECRET_BYTES} bytes in base64")
        stated = {}
        for name, value in encoded.items():
            secret = f"{identity}-{name}"
            version = await self._store(secret, value)
            stated[name] = {"secret": secret, "version": version, "sha256": _sha256(blobs[name])}
        text = json.dumps(stated, sort_keys=True)
        await self._store(f"{identity}-{_MANIFEST}", text)
        return StoredKeys(blobs, _sha256(text.encode()), made=True)

    async def _store(self, name: str, value: str) -> str:
        """Write a secret and read it back; returns its version."""
        stored = await self.client.set_secret(name, value)
        version = str(stored.properties.version)
        read = await self._get(name, version)
        if read is None or read.value != value:
            raise UnavailableError(f"secret {name}: what was read back is not what was stored")
        return version

    async def _get(self, name: str, version: str | None = None) -> KeyVaultSecret | None:
        try:
            return await self.client.get_secret(name, version)
        except ResourceNotFoundError:
            return None
        except HttpResponseError as error:
            if error.error and _DISABLED in str(error.error.innererror):
                raise DamagedError(f"secret {name} is disabled; wanted it enabled") from error
            raise


@asynccontextmanager
async def _answers(identity: str) -> AsyncIterator[None]:
    try:
        yield
    except HttpResponseError as error:
        raise UnavailableError(f"key vault, keys of {identity}: {error.status_code} {error.reason}") from error
    except AzureError as error:
        raise UnavailableError(f"key vault, keys of {identity}: {error}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_files(folder: Path, blobs: Mapping[str, bytes]) -> None:
    """Write blobs as files of mode 0600 into a folder of mode 0700, in memory.

    Raises:
        ValueError: the folder is on a disk.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if (kind := _file_system(folder)) not in {"tmpfs", "ramfs"}:
        raise ValueError(f"{folder} is on {kind}; wanted tmpfs, since a disk keeps what was deleted")
    for name, blob in blobs.items():
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(blob)


def _file_system(path: Path) -> str:
    resolved = path.resolve()
    kinds = {}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split(" ")
        kinds[Path(where)] = kind
    return next(kinds[parent] for parent in (resolved, *resolved.parents) if parent in kinds)
