"""A register that was edited, lost or restored: what the authority certified stays certified, and nothing else is."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contract.authority_configuration import Approval
from host.errors import DamagedError
from ledger.corda import ROOT_KEY
from ledger.corda.authority.register import AUTHORITY, PARAMETERS, REVOCATIONS, request_id
from ledger.corda.certificates import fingerprint, key_hash, read_revocation_list, to_pem
from ledger.software import WaitingError
from tests.authority import BANK_B, Network, Served
from tests.certificates import make_network

NODE_1 = f"OU=node-1, {BANK_B}"


async def listed(made: Network, vm: Served, issuer: str) -> tuple[int, frozenset[int]]:
    """Number and serial numbers of the stored revocation list."""
    document = await made.store().read(f"crl/{issuer}")
    assert document
    own = await vm.authority.open()
    read = read_revocation_list(document.content, own.certificates[issuer])
    return read.number, frozenset(read.serials)


async def edit(made: Network, prefix: str, change: Callable[[Any], object]) -> str:
    """Change the first blob with this prefix, as somebody who can write to the container; returns its name."""
    store = made.store()
    name = next(iter(await store.names(prefix)))
    document = await store.read(name)
    assert document
    record = json.loads(document.content)
    change(record)
    assert await store.write(name, json.dumps(record).encode(), document.etag)
    return name


async def lose(made: Network, blob: str) -> None:
    store = made.store()
    assert await store.read(blob), f"{blob} is to be lost, so it must be there"
    await store.delete(blob)


def test_a_lost_record_of_revocations_makes_no_certificate_valid_again(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            await made.member("bank-b", vm.url, BANK_B).certificates()
            await vm.authority.revoke(f"OU=node-1, {BANK_B}", "alice@bank-a.example")
            before = await listed(made, vm, "identity-ca")
            assert before[1], "something is revoked"
            await lose(made, REVOCATIONS)
            reasons = await vm.authority.run_due_tasks() or ""
            assert re.search(
                r"blob revocations was lost .*: crl/identity-ca revokes [0-9a-f]+, which it lacks;", reasons
            )
            assert await listed(made, vm, "identity-ca") == before, "the list stays until the blob is restored"

    play(history)


def test_a_lost_record_of_revoked_cas_makes_no_ca_valid_again(play):
    async def history(made: Network) -> None:
        async with made.vm():
            pass
        async with made.vm(ca_generation=2) as vm:
            store = made.store()
            old = await store.read(AUTHORITY)
            assert old
            await vm.authority.revoke_identity_ca("identity-ca", "alice@bank-a.example")
            await vm.authority.run_due_tasks()
            before = await listed(made, vm, "root")
            now = await store.read(AUTHORITY)
            assert now
            assert await store.write(AUTHORITY, old.content, now.etag)
            reasons = await vm.authority.run_due_tasks() or ""
            assert re.search(r"blob authority was lost .*: crl/root revokes [0-9a-f]+, which it lacks;", reasons)
            assert await listed(made, vm, "root") == before, "the list stays until the blob is restored"

    play(history)


def test_a_lost_record_of_the_authority_starts_no_second_network(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            await lose(made, AUTHORITY)
            reasons = await vm.authority.run_due_tasks() or ""
            why = "blob authority was lost or is older than the rest: it was there before;"
            assert reasons.count(why) == 1, "while it runs, and once though it stops several tasks"
        async with made.vm(tended=False) as vm:
            with pytest.raises(
                DamagedError, match=r"blob authority was lost .*: crl/[a-z-]+ is there, which it precedes;"
            ):
                await vm.authority.run_due_tasks()

    play(history)


def test_lost_parameters_do_not_begin_again_at_epoch_1(play):
    async def history(made: Network) -> None:
        async with made.vm(notaries=(f"OU=node-1, {BANK_B}",)) as vm:
            await made.member("bank-b", vm.url, BANK_B).certificates()
            await vm.authority.run_due_tasks()
            await lose(made, PARAMETERS)
            reasons = await vm.authority.run_due_tasks() or ""
            assert re.search(r"blob parameters was lost .*: decisions/.*/parameters-1\.json is there", reasons)
            assert await made.store().read(PARAMETERS) is None, "members would refuse an epoch that they had"

    play(history)


def test_no_root_is_made_where_one_is_pinned(play):
    async def history(made: Network) -> None:
        async with made.vm(tended=False, trust_root=f"sha256:{'0' * 64}") as vm:
            with pytest.raises(
                DamagedError, match=r"blob authority was lost .*: ledger\.network\.trustRoot pins its root;"
            ):
                await vm.authority.run_due_tasks()
            assert await made.store().read(AUTHORITY) is None, "the pinned one could not take its place"

    play(history)


def test_parameters_that_another_vm_has_just_signed_are_not_lost(play, monkeypatch):
    async def history(made: Network) -> None:
        async with made.vm(notaries=(NODE_1,)) as vm, made.vm(notaries=(NODE_1,)) as other:
            await made.member("bank-b", vm.url, BANK_B).certificates()
            store, looked = made.store(), False
            monkeypatch.setattr(vm.authority, "_store", store)
            read = store.read

            async def late(name: str) -> Any:
                nonlocal looked
                found = await read(name)
                if name == PARAMETERS and not looked:
                    looked = True
                    await other.authority.run_due_tasks()
                return found

            monkeypatch.setattr(store, "read", late)
            assert await vm.authority.run_due_tasks() is None, "both VMs found none, and one was faster"
            assert (await vm.authority.network()).epoch == 1

    play(history)


def test_a_lost_list_continues_above_the_numbers_that_members_know(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            for _ in range(3):
                made.clock.ahead += timedelta(days=2)
                await vm.authority.run_due_tasks()
            known, _ = await listed(made, vm, "identity-ca")
            await lose(made, "crl/identity-ca")
            await vm.authority.run_due_tasks()
            assert (await listed(made, vm, "identity-ca"))[0] >= known, "members take no list with a lower number"

    play(history)


def test_a_revocation_of_the_future_counts_at_once(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            await made.member("bank-b", vm.url, BANK_B).certificates()
            made.clock.ahead = timedelta(days=100)
            await vm.authority.revoke(NODE_1, "alice@bank-a.example")
            made.clock.ahead = timedelta()
            await vm.authority.run_due_tasks()
            document = await made.store().read("crl/identity-ca")
            assert document
            entries = list(x509.load_der_x509_crl(document.content))
            assert entries, "they stay listed"
            assert all(each.revocation_date_utc <= datetime.now(UTC) for each in entries), (
                "Java takes an entry of the future for no revocation"
            )

    play(history)


def test_no_other_key_is_certified_than_was_asked_for(play):
    async def history(made: Network) -> None:
        async with made.vm(approval=Approval.MANUAL) as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            with pytest.raises(WaitingError, match="approved by an operator"):
                await member.certificates()
            assert len(await vm.authority.pending()) == 3
            other = ec.generate_private_key(ec.SECP256R1()).public_key()
            pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            name = await edit(made, "requests/", lambda record: record.update(key=pem))
            edited = request_id(name.removeprefix("requests/"))
            with pytest.raises(DamagedError, match=rf"blob {name}: .*keyHash is of another key"):
                await vm.authority.approve(edited, "alice@bank-a.example")
            await edit(made, "requests/", lambda record: record.update(keyHash=key_hash(other)))
            with pytest.raises(DamagedError, match=rf"blob {name}: .*id is of another request"):
                await vm.authority.approve(edited, "alice@bank-a.example")
            waiting = await vm.authority.pending()
            assert len(waiting) == 2, "one damaged request hides no other"
            assert (await vm.authority.run_due_tasks() or "").count("id is of another request") == 1, "it is reported"
            for each in waiting:
                await vm.authority.approve(each.id, "alice@bank-a.example")
            with pytest.raises(WaitingError, match="503"):
                await member.certificates()

    play(history)


def test_a_restored_name_does_not_free_a_revoked_key(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            await member.certificates()
            store = made.store()
            (name,) = await store.names("names/")
            before = await store.read(name)
            assert before
            await vm.authority.revoke(NODE_1, "alice@bank-a.example")
            after = await store.read(name)
            assert after
            assert await store.write(name, before.content, after.etag)
            made.clock.ahead = timedelta(days=300)
            again = made.member("bank-b", vm.url, BANK_B)
            again.keys = member.keys
            with pytest.raises(WaitingError, match="the certificate of this key was revoked; wanted a new key"):
                await again.certificates()

    play(history)


def test_the_parameters_name_no_notary_that_the_authority_did_not_certify(play):
    async def history(made: Network) -> None:
        async with made.vm(notaries=(NODE_1,)) as vm:
            await made.member("bank-b", vm.url, BANK_B).certificates()
            forged = make_network().root

            def replace(record: dict[str, Any]) -> None:
                for each in record["issued"]:
                    each.update(certificate=to_pem(forged), keyHash=key_hash(forged.public_key()))

            await edit(made, "names/", replace)
            reasons = await vm.authority.run_due_tasks() or ""
            assert f"{NODE_1} has a certificate that the authority did not issue" in reasons
            assert (await vm.authority.network()).epoch is None, "nothing is signed"

    play(history)


def test_no_other_root_is_taken_from_the_register(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            root = fingerprint((await vm.authority.open()).certificates[ROOT_KEY])
        async with made.vm(trust_root=root) as vm:
            forged = to_pem(make_network().root)
            await edit(made, AUTHORITY, lambda record: record["certificates"].update({ROOT_KEY: forged}))
            assert "blob authority has another root;" in (await vm.authority.run_due_tasks() or ""), "while it runs"
        async with made.vm(tended=False, trust_root=root) as vm:
            with pytest.raises(
                DamagedError, match=rf"has root sha256:[0-9a-f]+; wanted {root}, as ledger.network.trustRoot"
            ):
                await vm.authority.run_due_tasks()

    play(history)
