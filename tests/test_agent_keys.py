"""An identity's keys, through the SDK's own client over TLS: made once, restored, never made anew over old ones."""

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.fence import DamagedError, UnavailableError
from agent.keys import MAX_SECRET_BYTES, KeyVaultKeys, StoredKeys, write_files
from tests.key_vault import Vault, running

BLOBS = {"node": b"\x00node key store", "tls": b"tls key store", "password": b"a-password-of-the-stores"}


class Bank:
    """One identity's vault, and how often new keys were made."""

    def __init__(self, folder: Path) -> None:
        self.vault, self.folder, self.made = Vault(), folder, 0

    def make(self) -> Mapping[str, bytes]:
        self.made += 1
        return {name: blob + str(self.made).encode() for name, blob in BLOBS.items()}

    def obtain(self, known: str | None = None, make: Callable[[], Mapping[str, bytes]] | None = None) -> StoredKeys:
        async def run() -> StoredKeys:
            async with running(self.vault, self.folder) as client:
                return await KeyVaultKeys(client).obtain("node-1", make or self.make, known)

        return asyncio.run(run())


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path)


def test_keys_are_made_once_and_restored_ever_after(bank: Bank) -> None:
    first = bank.obtain()
    again = bank.obtain(first.fingerprint)
    assert (first.made, again.made, bank.made) == (True, False, 1), "a later holder is the same node"
    assert again.blobs == first.blobs == {name: blob + b"1" for name, blob in BLOBS.items()}, "byte by byte"
    assert again.fingerprint == first.fingerprint
    assert bank.obtain(None).blobs == first.blobs, "a record that missed the fingerprint is no reason for new keys"


def test_the_manifest_is_written_last_and_all_is_read_back(bank: Bank) -> None:
    bank.obtain()
    puts = [request for request in bank.vault.requests if request.startswith("PUT")]
    assert puts[-1] == "PUT /secrets/node-1-keys", "before that nothing is announced"
    assert bank.vault.requests[-1].startswith("GET /secrets/node-1-keys/"), "a key is used once the vault has it"


@pytest.mark.parametrize("requests", range(2, 12))
def test_a_holder_that_dies_while_it_stores_never_leads_to_other_keys(bank: Bank, requests: int) -> None:
    bank.vault.breaks_after = requests
    with contextlib.suppress(UnavailableError):
        bank.obtain()
    bank.vault.breaks_after = None
    stored = set(bank.vault.secrets)
    if stored and "node-1-keys" not in stored:
        with pytest.raises(DamagedError, match="stored by half"):
            bank.obtain()
    else:
        keys = bank.obtain()
        assert keys.made is not bool(stored), "what was stored whole is restored; where nothing was, it is made"
    assert bank.made == 1 or not stored, "once anything is stored, no other keys are made"


def spoiled(bank: Bank, spoil: Callable[[Vault], None]) -> str:
    known = bank.obtain().fingerprint
    spoil(bank.vault)
    with pytest.raises(DamagedError) as refused:
        bank.obtain(known)
    assert bank.made == 1, "new keys over old ones would end the identity"
    return str(refused.value)


def test_a_deleted_blob_is_to_be_recovered(bank: Bank) -> None:
    said = spoiled(bank, lambda vault: setattr(vault.secrets["node-1-tls"], "deleted", True))
    assert "secret node-1-tls" in said
    assert "recover it" in said


def test_a_deleted_manifest_is_to_be_recovered(bank: Bank) -> None:
    said = spoiled(bank, lambda vault: setattr(vault.secrets["node-1-keys"], "deleted", True))
    assert "node-1-keys" in said
    assert "recover them" in said


def test_a_disabled_secret_is_told_from_a_vault_that_refuses(bank: Bank) -> None:
    said = spoiled(bank, lambda vault: setattr(vault.secrets["node-1-node"], "disabled", True))
    assert said == "secret node-1-node is disabled; wanted it enabled"


def test_a_changed_blob_is_noticed(bank: Bank) -> None:
    def change(vault: Vault) -> None:
        versions = vault.secrets["node-1-node"].versions
        versions[next(iter(versions))] = "b3RoZXI="

    assert "not what node-1-keys says" in spoiled(bank, change)


def test_a_newer_version_of_a_blob_alone_changes_nothing(bank: Bank) -> None:
    first = bank.obtain()
    bank.vault.secrets["node-1-node"].versions["f" * 32] = "b3RoZXI="
    assert bank.obtain(first.fingerprint).blobs == first.blobs, "the manifest names the versions that belong together"


def test_another_manifest_than_the_record_knows_is_noticed(bank: Bank) -> None:
    def change(vault: Vault) -> None:
        vault.secrets["node-1-keys"].versions["f" * 32] = "{}"

    assert "is not the one that the record of node-1 knows" in spoiled(bank, change)


def test_an_emptied_vault_is_noticed(bank: Bank) -> None:
    assert "restore them from a backup" in spoiled(bank, lambda vault: vault.secrets.clear())


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_vault_that_refuses_is_waited_for(bank: Bank, status: int) -> None:
    bank.vault.refuses = status
    with pytest.raises(UnavailableError, match=f"key vault, keys of node-1: {status}"):
        bank.obtain()
    bank.vault.refuses = None
    assert bank.obtain().made, "roles have spread, and the first holder goes on"


def test_too_large_a_blob_is_refused_before_anything_is_stored(bank: Bank) -> None:
    with pytest.raises(ValueError, match="node-1: big too large"):
        bank.obtain(make=lambda: {"small": b"x", "big": b"x" * MAX_SECRET_BYTES})
    assert bank.vault.secrets == {}, "half a set is worse than none"


def test_identities_whose_names_begin_alike_are_kept_apart(bank: Bank) -> None:
    async def run() -> StoredKeys:
        async with running(bank.vault, bank.folder) as client:
            keys = KeyVaultKeys(client)
            await keys.obtain("node-10", bank.make, None)
            return await keys.obtain("node-1", bank.make, None)

    assert asyncio.run(run()).made, "node-10's secrets are not node-1's"


def test_no_secret_is_logged(bank: Bank, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = bank.obtain()
    assert caplog.text, "the SDK logs its requests"
    for name in ("password", "tls"):
        assert keys.blobs[name].decode() not in caplog.text, "what a log shows, many read"
        assert keys.blobs[name].decode() not in repr(keys)


def test_files_are_in_memory_and_the_nodes_alone() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        folder = Path(memory) / "secrets"
        write_files(folder, BLOBS)
        assert folder.stat().st_mode & 0o777 == 0o700, "no other user lists them"
        for name, blob in BLOBS.items():
            assert (folder / name).read_bytes() == blob
            assert (folder / name).stat().st_mode & 0o777 == 0o600, "no other user reads them"


def test_no_file_is_written_to_a_disk(tmp_path: Path) -> None:
    if os.statvfs(tmp_path).f_fsid == os.statvfs("/dev/shm").f_fsid:  # noqa: S108
        pytest.skip("the folder for temporary files is in memory here")
    with pytest.raises(ValueError, match="wanted tmpfs"):
        write_files(tmp_path / "secrets", BLOBS)
    assert list((tmp_path / "secrets").iterdir()) == []
