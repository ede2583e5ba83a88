"""The root key, which is open only for hours: tasks without it, and tasks that wait for it."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from contract.platform import MAX_CA_GENERATION
from host.errors import UnavailableError
from ledger.corda.authority.authority import ROOT_LOOK_SECONDS, Lifetimes, RequestRefusedError
from ledger.corda.certificates import LIFETIME, RPC_LIFETIME, Chains, check_chain, key_stores, read_revocation_list
from ledger.corda.certificates import CertificateRole as Role
from ledger.corda.enrolment import NetworkAnswer
from ledger.software import AuthorityAccess, WaitingError
from tests.authority import BANK_B, Member, Network, epoch_of

DAY = timedelta(days=1)


def signatures(made: Network) -> int:
    """The number of signatures by the root's key."""
    return sum("/sign" in each for each in made.root_vault.served)


async def crl(url: str, issuer: str) -> x509.CertificateRevocationList:
    async with aiohttp.ClientSession() as client, client.get(f"{url}/{issuer}.crl") as answer:
        assert answer.status == 200
        return x509.load_der_x509_crl(await answer.read())


async def decisions(made: Network) -> list[dict[str, Any]]:
    store = made.store()
    found = [await store.read(name) for name in await store.names("decisions/")]
    return [json.loads(each.content) for each in found if each]


# --- Open and closed -----------------------------------------------------------------------------------------------


def test_a_first_network_waits_until_its_root_is_open(play):
    async def history(made: Network) -> None:
        made.root_vault.granted = False
        async with made.vm(tended=False) as vm:
            for _ in range(2):
                with pytest.raises(
                    UnavailableError, match=r"no root yet: .*403.*wanted ledger.network.rootOpenUntil"
                ):
                    await vm.authority.run_due_tasks()
            with pytest.raises(WaitingError, match="503"):
                await made.member("bank-b", vm.url, BANK_B).certificates()
            made.root_vault.granted = True
            await vm.authority.run_due_tasks()
            assert await made.member("bank-b", vm.url, BANK_B).certificates(), "without a restart"
            assert vm.authority.root_open

    play(history)


def test_everyday_work_needs_no_root_key(play):
    async def history(made: Network) -> None:
        async with made.vm():
            pass
        made.root_vault.granted = False
        signed = signatures(made)
        assert signed == 4, "the root, the identity CA, the parameters' certificate, and the root's list"
        async with made.vm() as vm:
            bank_a, bank_b = made.member("bank-a", vm.url), made.member("bank-b", vm.url, BANK_B)
            assert not vm.authority.root_open
            assert await bank_a.certificates(1), "a VM that starts while the root is closed certifies names"
            assert await bank_b.certificates()
            assert await vm.authority.run_due_tasks() is None, "and no trouble is reported"
            assert await bank_b.enrolment.network_parameters(epoch_of), "parameters are signed"
            revoked = await vm.authority.revoke(f"OU=node-1, {BANK_B}", "alice@bank-a.example")
            listed = {f"{each.serial_number:x}" for each in await crl(vm.lists_url, "identity-ca")}
            assert listed == {each.serial for each in revoked}, "names are revoked"
            for _ in range(30):
                made.clock.ahead += DAY
                await vm.authority.run_due_tasks()
            lists = [await crl(vm.lists_url, issuer) for issuer in ("identity-ca", "root")]
            fresh, root_list = (each.next_update_utc for each in lists)
            assert fresh
            assert root_list
            assert fresh > made.clock(), "its list is signed each day"
            assert root_list > made.clock() + timedelta(days=365), "the root's list is valid for another year"
            assert signatures(made) == signed, "the root signed nothing"

    play(history)


def test_a_compromised_vm_can_not_sign_a_ca_while_the_root_is_closed(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            own = await vm.authority.open()
            assert set(own.signers) == {"identity-ca", "network-parameters"}, "these keys may always be used"
            made.root_vault.granted = False
            with pytest.raises(UnavailableError, match="403"):
                await vm.authority._certify_key("identity-ca", own.certificates["root"], vm.authority._root, 2)  # type: ignore[arg-type]

    play(history)


def test_the_root_key_is_checked_at_intervals(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            made.root_vault.granted = False
            made.root_vault.served.clear()
            for _ in range(20):
                made.clock.ahead += timedelta(seconds=15)
                await vm.authority.run_due_tasks()
            assert len(made.root_vault.served) == 20 * 15 // ROOT_LOOK_SECONDS, "each refusal is a line in the log"
            assert not vm.authority.root_open, "the alert ends once the role is removed"
            made.root_vault.granted = True
            made.clock.ahead += timedelta(seconds=ROOT_LOOK_SECONDS)
            await vm.authority.run_due_tasks()
            assert vm.authority.root_open, "the alert does not depend on who granted the role"

    play(history)


def test_a_root_key_that_can_be_read_but_not_used_is_closed(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:

            async def judge(request: Any) -> str | None:
                return "403" if "/sign" in request.path else None

            made.root_vault.judge = judge
            made.clock.ahead = 2 * DAY
            assert "root" not in (await vm.authority.run_due_tasks() or ""), "its list is valid for a year"
            assert not vm.authority.root_open

    play(history)


# --- Renewals by the root ------------------------------------------------------------------------------------------


def test_the_roots_list_is_renewed_whenever_the_root_is_open(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            first = await crl(vm.lists_url, "root")
            assert first.next_update_utc == first.last_update_utc + timedelta(days=396), "13 months"
            made.root_vault.granted = False
            made.clock.ahead = timedelta(days=360)
            async with made.vm() as later:
                assert "root" not in (await later.authority.run_due_tasks() or "")
                assert 35 < later.authority.days_left()["root-list"] < 37, (
                    "the alerts of 90 and 30 days use this value"
                )
                made.clock.ahead = timedelta(days=370)
                trouble = await later.authority.run_due_tasks() or ""
                assert "root-list ends on" in trouble
                assert "wanted ledger.network.rootOpenUntil for an hour" in trouble
                assert await made.member("bank-b", later.url, BANK_B).certificates(), "no other task waits for it"
                made.root_vault.granted = True
                made.clock.ahead += timedelta(seconds=ROOT_LOOK_SECONDS)
                assert "root" not in (await later.authority.run_due_tasks() or "")
                second = await crl(later.lists_url, "root")
                assert second.next_update_utc
                assert second.next_update_utc > made.clock() + timedelta(days=390)
                assert later.authority.days_left()["root-list"] > 390

    play(history)


def test_days_until_an_expiry_are_reported(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            left = vm.authority.days_left()
            assert {name: round(days) for name, days in left.items()} == {
                "root": 7300,
                "network-parameters": 7300,
                "identity-ca": 3650 - 365,
                "root-list": 396,
            }, "an identity CA must be replaced when it can no longer certify for a full year"
            own = await vm.authority.open()
            ends = [own.certificates[name].not_valid_after_utc for name in ("root", "network-parameters")]
            assert ends[0] == ends[1], "members accept parameters as long as the root is valid"

    play(history)


def test_an_expiring_identity_ca_is_reported_in_time(play):
    async def history(made: Network) -> None:
        made.lifetimes = Lifetimes(identity_ca=timedelta(days=500))
        async with made.vm() as vm:
            made.clock.ahead = timedelta(days=100)
            assert "identity-ca" not in (await vm.authority.run_due_tasks() or "")
            made.clock.ahead = timedelta(days=110)
            assert "identity-ca ends on" in (await vm.authority.run_due_tasks() or ""), "its last full year begins"
            made.clock.ahead = timedelta(days=200)
            chains = await made.member("bank-b", vm.url, BANK_B).certificates()
            assert ends(chains) - made.clock() < timedelta(days=301), (
                "later certificates are valid for less than a year"
            )

    play(history)


def test_a_new_generation_certifies_names_after_the_root_was_open(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            before = await member.certificates()
            made.root_vault.granted = False
            async with made.vm(tended=False, ca_generation=2) as new:
                trouble = await new.authority.run_due_tasks() or ""
                assert "the identity CA of generation 2 waits for the root's key" in trouble
                assert await made.member("bank-a", new.url).certificates(1), "the earlier one is used until then"
                made.root_vault.granted = True
                assert "generation" not in (await new.authority.run_due_tasks() or "")
                await vm.authority.run_due_tasks()
                answers = [(await each.authority.network()).issuer for each in (vm, new)]
                assert len(set(answers)) == 1, "a VM of the older configuration uses the register's generation"
                for _ in range(62):
                    if member.enrolment.renewal_due(before):
                        break
                    made.clock.ahead += timedelta(seconds=60)
                    await member.settle()
                after = await member.certificates()
                assert after.node_ca[1] != before.node_ca[1], "members get its certificates within about an hour"
                assert after.node_ca[1].subject != before.node_ca[1].subject, "Java distinguishes CAs by their names"
                assert after.identity[0].public_key() == before.identity[0].public_key(), "each party is unchanged"
                assert after.rpc == before.rpc, "the certificate that applications pin stays"
                for role, chain in ((Role.NODE_CA, after.node_ca), (Role.LEGAL_IDENTITY, after.identity)):
                    check_chain(
                        chain,
                        role=role,
                        subject=member.identity().legal_name,
                        public_key=chain[0].public_key(),
                        trust_root=before.trust_root,
                        now=made.clock(),
                    )
                assert not member.enrolment.renewal_due(after), "once"
                await member.settle()
                await new.authority.revoke(f"OU=node-1, {BANK_B}", "alice@bank-a.example")
                lists = {issuer: await crl(new.lists_url, issuer) for issuer in ("identity-ca", "identity-ca-2")}
                for issuer, chains in (("identity-ca", before), ("identity-ca-2", after)):
                    assert {each.serial_number for each in lists[issuer]} == {
                        chains.node_ca[0].serial_number,
                        chains.identity[0].serial_number,
                        chains.tls[0].serial_number,
                    }, "each CA's list names that CA's certificates, and all valid ones are revoked"

    play(history)


def test_a_compromised_identity_ca_is_revoked_by_the_root(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            with pytest.raises(
                RequestRefusedError, match=r"certifies names; wanted ledger\.network.caGeneration raised"
            ):
                await vm.authority.revoke_identity_ca("identity-ca", "alice@bank-a.example")
            with pytest.raises(LookupError, match=r"root; wanted one of identity-ca"):
                await vm.authority.revoke_identity_ca("root", "alice@bank-a.example")
        async with made.vm(ca_generation=2) as vm:
            old = (await vm.authority.open()).certificates["identity-ca"]
            made.root_vault.granted = False
            await vm.authority.revoke_identity_ca("identity-ca", "alice@bank-a.example")
            assert "the root's revocation list waits for the root's key" in (await vm.authority.run_due_tasks() or "")
            made.root_vault.granted = True
            await vm.authority.run_due_tasks()
            assert [each.serial_number for each in await crl(vm.lists_url, "root")] == [old.serial_number]
            assert await made.member("bank-b", vm.url, BANK_B).certificates(), "names are certified by the new one"
            recorded = [each for each in await decisions(made) if each["decision"] in {"renewed", "revoked"}]
            assert [(each["decision"], each["key"], each.get("by")) for each in recorded] == [
                ("renewed", "identity-ca-2", None),
                ("revoked", "identity-ca", "alice@bank-a.example"),
            ]

    play(history)


@pytest.mark.parametrize("revoked", [False, True])
def test_a_missing_key_of_an_earlier_identity_ca_stops_no_other_task(play, revoked: bool):
    async def history(made: Network) -> None:
        async with made.vm():
            pass
        async with made.vm(ca_generation=2) as vm:
            if revoked:
                await vm.authority.revoke_identity_ca("identity-ca", "alice@bank-a.example")
                await vm.authority.run_due_tasks()

        async def judge(request: Any) -> str | None:
            return "404" if "/keys/identity-ca/" in request.path else None

        made.vault.judge = judge
        async with made.vm(ca_generation=2, tended=False) as vm:
            first = await crl(vm.lists_url, "identity-ca-2")
            made.clock.ahead = 2 * DAY
            trouble = await vm.authority.run_due_tasks() or ""
            assert ("revocation list of identity-ca: " in trouble) is not revoked, (
                "the fault is reported, unless the CA is revoked by the root's list"
            )
            assert (await crl(vm.lists_url, "identity-ca-2")).last_update_utc > first.last_update_utc, (
                "its list is signed"
            )
            assert await made.member("bank-b", vm.url, BANK_B).certificates(), "names are certified"
            # By a command, which runs in another process than the periodic tasks.
            async with made.authority(ca_generation=2) as command:
                if revoked:
                    assert await command.revoke(f"OU=node-1, {BANK_B}", "alice@bank-a.example")
                else:
                    with pytest.raises(
                        UnavailableError,
                        match=r"is revoked in the register \([0-9a-f, ]+\), and not listed yet: .*identity-ca",
                    ):
                        await command.revoke(f"OU=node-1, {BANK_B}", "alice@bank-a.example")
            made.clock.ahead += timedelta(minutes=1)
            assert len(await crl(vm.lists_url, "identity-ca-2")) == 3, "a name is still revoked"

    play(history)


def test_a_decision_is_recorded_even_if_the_vm_ends_at_once(play, monkeypatch):
    async def history(made: Network) -> None:
        async with made.authority() as dying:
            write = dying._store.write

            async def last(name: str, content: bytes, etag: str | None) -> str | None:
                done = await write(name, content, etag)
                if name == "authority":
                    raise KeyboardInterrupt
                return done

            for wanted in ("founded", "renewed"):
                with monkeypatch.context() as patched:
                    patched.setattr(dying._store, "write", last)
                    with pytest.raises(KeyboardInterrupt):
                        await dying.run_due_tasks()
                dying._own = None
                async with made.vm(ca_generation=2 if wanted == "renewed" else 1):
                    assert [each["decision"] for each in await decisions(made)].count(wanted) == 1, (
                        "the next VM records it"
                    )
                dying._configuration = made.configuration(ca_generation=2)

    play(history)


def test_the_person_who_revokes_a_ca_is_recorded_before_the_revocation(play, monkeypatch):
    async def history(made: Network) -> None:
        async with made.vm():
            pass
        async with made.vm(ca_generation=2) as vm:
            write = vm.authority._store.write

            async def away(name: str, content: bytes, etag: str | None) -> str | None:
                if name == "authority":
                    raise UnavailableError("storage is away")
                return await write(name, content, etag)

            monkeypatch.setattr(vm.authority._store, "write", away)
            with pytest.raises(UnavailableError):
                await vm.authority.revoke_identity_ca("identity-ca", "alice@bank-a.example")
            assert "alice@bank-a.example" in {each.get("by") for each in await decisions(made)}

    play(history)


def test_an_outage_of_the_register_does_not_hide_an_open_root(play, monkeypatch):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            assert vm.authority.root_open
            read = vm.authority._store.read

            async def away(name: str) -> Any:
                if name == "crl/identity-ca":
                    raise UnavailableError("storage is away")
                return await read(name)

            monkeypatch.setattr(vm.authority._store, "read", away)
            assert "storage is away" in (await vm.authority.run_due_tasks() or "")
            assert vm.authority.root_open, "the alert on an open root continues"
            made.root_vault.granted = False
            made.clock.ahead = timedelta(seconds=ROOT_LOOK_SECONDS)
            await vm.authority.run_due_tasks()
            assert not vm.authority.root_open

    play(history)


def test_a_wrong_root_key_is_reported_at_each_check(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            version = (await vm.authority.open()).record.versions["root"]
            made.root_vault.keys["root"][version] = ec.generate_private_key(ec.SECP256R1())
            for _ in range(3):
                made.clock.ahead += timedelta(seconds=ROOT_LOOK_SECONDS if not made.clock.ahead else 15)
                assert "which the authority's certificate has" in (await vm.authority.run_due_tasks() or "")

    play(history)


def test_a_list_signed_by_another_key_is_replaced(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            store = made.store()
            root, identity = [await store.read(f"crl/{each}") for each in ("root", "identity-ca")]
            assert root
            assert identity
            assert await store.write("crl/identity-ca", root.content, identity.etag)
            await vm.authority.run_due_tasks()
            assert await crl(vm.lists_url, "identity-ca") != x509.load_der_x509_crl(root.content)
            own = await vm.authority.open()
            listed = await store.read("crl/identity-ca")
            assert listed
            read_revocation_list(listed.content, own.certificates["identity-ca"])

    play(history)


def test_members_accept_as_many_lists_as_there_may_be_identity_cas(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            network = await vm.authority.network()
            for generation in range(2, MAX_CA_GENERATION + 1):
                network.crl[f"identity-ca-{generation}"] = f"{vm.lists_url}/identity-ca-{generation}.crl"
                network.issuers[f"identity-ca-{generation}"] = network.issuers["identity-ca"]
            assert NetworkAnswer.model_validate_json(network.model_dump_json(by_alias=True)) == network

    play(history)


def test_two_vms_agree_on_one_new_identity_ca(play):
    async def history(made: Network) -> None:
        async with made.vm():
            pass
        async with made.vm(tended=False, ca_generation=2) as one, made.vm(tended=False, ca_generation=2) as other:
            await asyncio.gather(one.authority.run_due_tasks(), other.authority.run_due_tasks())
            issuing = [(await each.authority._reopen()).issuing for each in (one, other)]
            assert issuing[0] == issuing[1]
            chains = [await made.member("bank-a", one.url).certificates(1)]
            made.clock.ahead = timedelta(minutes=1)
            await other.authority.run_due_tasks()
            assert chains[0].node_ca[1] == issuing[0]

    play(history)


# --- Twelve months -------------------------------------------------------------------------------------------------


async def lives(member: Member, chains: Chains) -> Chains:
    """The certificates of a running node after some time: the same ones, or new ones after a restart."""
    for _ in range(2):
        if member.enrolment.renewal_due(chains):
            return await member.vm().certificates(member.identity(), member.keys["node-1"])
        await member.settle()
    return chains


def ends(chains: Chains) -> datetime:
    return min(each.not_valid_after_utc for each in (chains.node_ca[0], chains.identity[0], chains.tls[0]))


def test_a_node_runs_beyond_the_end_of_its_first_certificates(play):
    async def history(made: Network) -> None:
        made.root_vault.granted = True
        async with made.vm() as vm:
            made.root_vault.granted = False
            member, other = made.member("bank-b", vm.url, BANK_B), made.member("bank-a", vm.url)
            first = chains = await member.certificates()
            assert ends(chains) - made.clock() > LIFETIME - DAY
            assert ends(chains) - made.clock() <= LIFETIME, "twelve months"
            started: list[int] = []
            for day in range(400):
                made.clock.ahead = day * DAY
                await vm.authority.run_due_tasks()
                after = await lives(member, chains)
                if after != chains:
                    started.append(day)
                    chains = after
                assert ends(chains) > made.clock(), f"day {day}: a node runs with expired certificates"
            assert len(started) == 1, "one restart a year"
            assert 365 * 2 / 3 <= started[0] <= 365 * 2 / 3 + 8, "about four months before the end"
            assert ends(first) < made.clock(), "the first ones have expired"
            assert chains.identity[0].public_key() == first.identity[0].public_key(), "the same party"
            assert chains.rpc == first.rpc, "applications pin it: it has a separate renewal"
            assert RPC_LIFETIME > 9 * LIFETIME
            stores = key_stores(member.keys["node-1"], chains, "a password")
            assert (
                stores["nodekeystore.jks"]
                != key_stores(member.keys["node-1"], first, "a password")["nodekeystore.jks"]
            )
            assert await other.certificates(1), "a new member gets certificates"

    play(history)


def test_an_outage_of_the_authority_for_months_stops_no_node(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            first = await member.certificates()
            made.clock.ahead = 240 * DAY
            await vm.authority.run_due_tasks()
            assert await lives(member, first) == first, "the renewal is not due"
            move(member, NOWHERE)
            for day in range(244, 361, 4):
                made.clock.ahead = day * DAY
                assert await lives(member, first) == first, (
                    "the renewal is due, the authority does not answer, and the node keeps running"
                )
                assert await member.vm().certificates(member.identity(), member.keys["node-1"]) == first, (
                    "the next holder starts the node with the stored certificates"
                )
            move(member, vm.url)
            made.clock.ahead = 361 * DAY
            after = await lives(member, first)
            assert after != first, "the authority answers again four days before the end"
            made.clock.ahead = 370 * DAY
            assert ends(first) < made.clock() < ends(after)

    play(history)


NOWHERE = "https://127.0.0.1:1"


def move(member: Member, url: str) -> None:
    """Let a member's agents use another URL from now on."""
    assert isinstance(member.context.network, AuthorityAccess)
    member.context = replace(member.context, network=replace(member.context.network, url=url))
    member.enrolment._context = member.context
