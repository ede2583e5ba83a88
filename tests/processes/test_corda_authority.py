"""An authority over real sockets: the SDK's clients against a local vault and Azurite."""

import asyncio
import base64
import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contract.artifacts import Installation
from contract.authority_configuration import Approval, AuthorityConfiguration
from contract.metrics import Figure
from contract.timing import SECRET_POLL_SECONDS
from host.errors import DamagedError, UnavailableError
from host.http import serving_requests
from host.status import Status
from host.vm_configuration import ConfigurationError
from lab.banks import azurite, corda, npm
from ledger.corda import CORDA, IDENTITY_KEY, NODE_CA_KEY, TLS_KEY, proof
from ledger.corda.authority import __main__ as commands
from ledger.corda.authority.authority import Authority, Lifetimes, RequestRefusedError
from ledger.corda.authority.configuration import read_authority_configuration
from ledger.corda.authority.members import LOOK_AGAIN_SECONDS
from ledger.corda.authority.parameters import JavaSerializer
from ledger.corda.authority.register import (
    PARAMETERS,
    BlobStore,
    ParametersRecord,
    RequestRecord,
    RequestState,
    find,
    request_id,
)
from ledger.corda.authority.service import serve
from ledger.corda.certificates import (
    CertificateRole,
    check_chain,
    key_hash,
    make_keys,
    make_request,
    read_key,
    role_of,
)
from ledger.corda.installation import ToolError
from ledger.software import SoftwareError, WaitingError
from tests.authority import (
    BANK_A,
    BANK_B,
    SETTINGS,
    MemoryStore,
    Network,
    Served,
    container_client,
    epoch_of,
    network,
)
from tests.certificates import make_network
from tests.processes.authority_vm import free_port
from tests.vaults import Clock

pytestmark = pytest.mark.skipif(not npm.available(), reason="no node and npm here; wanted them for Azurite")
NOTARY, NODE_2 = f"OU=node-1, {BANK_A}", f"OU=node-2, {BANK_A}"


@pytest.fixture(scope="module")
def blobs() -> Iterator[str]:
    with azurite.blob_service() as (url, _):
        yield url


@pytest.fixture
def play(tls, blobs):
    """Play a history in a new network whose register is on Azurite."""

    def run(history: Callable[[Network], Awaitable[Any]], **changes: Any) -> Any:
        async def in_network() -> Any:
            async with network(tls, blobs, **changes) as made:
                return await history(made)

        return asyncio.run(in_network())

    return run


async def decisions(made: Network) -> list[dict[str, Any]]:
    store = made.store()
    found = [await store.read(name) for name in await store.names("decisions/")]
    recorded = [json.loads(each.content) for each in found if each]
    assert [each["decision"] for each in recorded].count("founded") == 1, "a network has one root"
    return sorted((each for each in recorded if each["decision"] != "founded"), key=lambda each: each["decision"])


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as made:
        yield made


async def ask(
    url: str, path: str, *, method: str = "GET", body: bytes = b"", **changes: str
) -> tuple[int, bytes, bool]:
    """Send a request as a member; `changes` replace parts of it, or of what is proven. Status, body, proven?"""
    key = bytes.fromhex(changes.pop("key", "b" * 64))
    member, nonce = changes.pop("member", "bank-b"), changes.pop("nonce", secrets.token_hex(16))
    now = changes.pop("time", str(int(time.time())))
    given = proof.request_proof(
        key,
        member=member,
        method=changes.pop("proven_method", method),
        path=changes.pop("proven_path", path),
        nonce=nonce,
        time=changes.pop("proven_time", now),
        body=changes.pop("proven_body", body.decode("latin1")).encode("latin1"),
    )
    headers = {proof.MEMBER: member, proof.NONCE: nonce, proof.TIME: now, proof.REQUEST_PROOF: given}
    async with session() as client, client.request(method, url + path, data=body or None, headers=headers) as answer:
        content = await answer.read()
        proven = answer.headers.get(proof.ANSWER_PROOF, "")
        wanted = proof.answer_proof(key, member=member, nonce=nonce, status=answer.status, body=content)
        assert not proven or proven == wanted, "an answer must not have a wrong proof"
        return answer.status, content, bool(proven)


# --- A first network -----------------------------------------------------------------------------------------------


def test_a_first_network_is_made_from_nothing_but_keys_in_the_vault(play, tmp_path):
    async def history(made: Network) -> None:
        began = time.monotonic()
        async with made.vm() as vm:
            bank_a, bank_b = made.member("bank-a", vm.url, BANK_A), made.member("bank-b", vm.url, BANK_B)
            assert await bank_b.enrolment.network_parameters(epoch_of) is None, "the notary has no certificate yet"
            chains = {
                (member.context.member, number): await member.certificates(number)
                for member, numbers in ((bank_a, (1, 2)), (bank_b, (1, 2)))
                for number in numbers
            }
            assert vm.authority.due.is_set(), "parameters are signed as soon as the notary is certified"
            assert await vm.authority.run_due_tasks() is None, "no task is left"
            parameters = await bank_b.enrolment.network_parameters(epoch_of)
            seconds = time.monotonic() - began
            print(f"a first network of four identities: {seconds:.2f} s")
            assert parameters is not None
            read = json.loads(parameters)
            assert read["epoch"] == 1
            assert read["notaries"] == ["OU=node-1,O=Bank A,L=London,C=GB"], (
                "the notary has the name in its certificate"
            )
            assert parameters == await bank_a.enrolment.network_parameters(epoch_of), "all nodes get the same file"
            roots = {chain.trust_root for chain in chains.values()}
            assert len(roots) == 1, "one network"
            for (member, number), chain in chains.items():
                of = bank_a if member == "bank-a" else bank_b
                identity = of.identity(number)
                for role, key, certified in (
                    (CertificateRole.NODE_CA, NODE_CA_KEY, chain.node_ca),
                    (CertificateRole.LEGAL_IDENTITY, IDENTITY_KEY, chain.identity),
                    (CertificateRole.TLS, TLS_KEY, chain.tls),
                ):
                    check_chain(
                        certified,
                        role=role,
                        subject=identity.legal_name,
                        public_key=read_key(of.keys[identity.name], key).public_key(),
                        trust_root=chain.trust_root,
                        now=made.clock(),
                    )
                assert len({key_hash(each.public_key()) for each in chain.node_ca}) == 3, "the keys differ"
            recorded = await decisions(made)
            assert [each["decision"] for each in recorded] == ["approved"] * 12 + ["issued"] * 12 + ["parameters"], (
                "each decision is recorded"
            )
            issued = next(each for each in recorded if each["decision"] == "issued" and each["member"] == "bank-b")
            assert set(issued) == {
                "when", "decision", "member", "legal_name", "role", "key", "by", "serial", "expires"
            }, "member, name, key and time are recorded"  # fmt: skip
            asked = len(made.vault.served)
            for number in (1, 2):
                assert await bank_b.certificates(number) == chains["bank-b", number], (
                    "certificates are stored as documents"
                )
                assert await bank_b.vm().certificates(bank_b.identity(number), bank_b.keys[f"node-{number}"]), (
                    "the next holder uses them"
                )
            assert len(made.vault.served) == asked, "the authority was not asked again"
            assert not any(key.startswith("PUT /keys") for key in made.vault.served), "keys are used for signing only"

    play(history)


def test_two_vms_that_start_at_once_agree_on_one_root_and_one_certificate_for_each_key(play):
    async def history(made: Network) -> None:
        async with made.vm(tended=False) as one, made.vm(tended=False) as other:
            opened = await asyncio.gather(one.authority.open(), other.authority.open())
            assert opened[0].certificates == opened[1].certificates, "the later VM uses the existing root"
            await asyncio.gather(one.authority.run_due_tasks(), other.authority.run_due_tasks())
            members = [made.member("bank-a", url) for url in (one.url, other.url)]
            members[1].keys = members[0].keys
            chains = await asyncio.gather(*(member.certificates(1) for member in members))
            assert chains[0].node_ca == chains[1].node_ca, (
                "two VMs of a bank that send requests to both VMs of the authority"
            )
            assert chains[0].identity == chains[1].identity
            await asyncio.gather(one.authority.run_due_tasks(), other.authority.run_due_tasks())
            parameters = await asyncio.gather(*(member.enrolment.network_parameters(epoch_of) for member in members))
            assert parameters[0] == parameters[1] is not None, "one file"
            recorded = [each["decision"] for each in await decisions(made)]
            assert recorded.count("issued") == 3, "one of each role: a certificate that lost the race was not issued"
            assert recorded.count("parameters") == 1

    play(history)


def test_after_a_vm_of_the_authority_died_the_next_one_completes_its_work(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-a", vm.url)
            identity = member.identity(1)
            key = read_key(member.keys[identity.name], NODE_CA_KEY)
            request = make_request(identity.legal_name, "a@b", CertificateRole.NODE_CA, key)
            asked = await vm.authority.request("bank-a", request)
        async with made.vm() as after:
            assert await after.authority.request("bank-a", request) == asked, "the id is derived from the request"
            chain = await after.authority.answer("bank-a", asked)
            assert chain is not None
            assert role_of(chain[0]) is CertificateRole.NODE_CA

    play(history)


# --- Authentication ------------------------------------------------------------------------------------------------


def test_an_unauthenticated_request_gets_no_proven_answer(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            assert await ask(vm.url, "/network") == (200, (await ask(vm.url, "/network"))[1], True), (
                "an authenticated request gets a proven answer"
            )
            lies: list[dict[str, Any]] = [
                {"key": "d" * 64},
                {"member": "bank-c"},
                {"member": ""},
                {"member": "bank-a"},
                {"proven_path": "/certificate/1"},
                {"proven_method": "POST"},
                {"proven_time": "1"},
                {"proven_body": "more"},
                {"nonce": "1234"},
                {"nonce": "Z" * 32},
                {"time": "-1"},
                {"time": "9" * 40},
            ]
            for changes in lies:
                status, _, proven = await ask(vm.url, "/network", **changes)
                assert (status, proven) == (401, False), f"{changes}: the request is not authenticated"

    play(history)


async def bank_c_joins(made: Network) -> None:
    bank_c = "O=Bank C, L=Oslo, C=NO"
    made.enrolment_keys["bank-c"], made.agreed["bank-c"] = "c" * 64, bank_c
    made.cards["bank-c"] = [f"OU=node-1, {bank_c}"]
    await made.write_secrets()


async def ask_as_bank_c(vm: Served, key: str = "c" * 64) -> tuple[int, bool]:
    status, _, proven = await ask(vm.url, "/network", member="bank-c", key=key)
    return status, proven


@pytest.fixture
def seconds() -> Clock:
    """The clock of the authority's cache of its vault."""
    return Clock()


@pytest.fixture
def cached(seconds: Clock) -> dict[str, Any]:
    """Changes to a network whose authority caches its vault, as on a real VM."""
    return {"vault_options": {"poll_seconds": SECRET_POLL_SECONDS, "now": seconds}}


def test_a_member_that_has_just_joined_is_authenticated(play, seconds, cached):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            assert (await ask(vm.url, "/network"))[0] == 200
            assert await vm.authority.members.entitlement("bank-b"), "the vault's members are cached from now on"
            await bank_c_joins(made)
            assert await ask_as_bank_c(vm) == (200, True), "the vault is read again before a refusal"
            found = await vm.authority.members.entitlement("bank-c")
            assert found.refusal("OU=node-1, O=Bank C, L=Oslo, C=NO") is None, (
                "its card and its bank's name are read too"
            )
            assert vm.authority.unproven == 0, "otherwise each new member would raise an alert"
            seconds.now = LOOK_AGAIN_SECONDS
            assert await ask_as_bank_c(vm, "d" * 64) == (401, False)
            assert vm.authority.unproven == 1, "another key is refused, however often the vault is read"

    play(history, **cached)


def test_a_new_member_beside_unauthenticated_requests_raises_no_alert(play, seconds, cached):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            assert await ask_as_bank_c(vm, "d" * 64) == (401, False)
            assert vm.authority.unproven == 1, "an unknown member"
            await bank_c_joins(made)
            reads = len(made.vault.served)
            seconds.now = LOOK_AGAIN_SECONDS - 0.1
            for _ in range(3):
                assert await ask_as_bank_c(vm) == (401, False), "it tries again later"
            assert vm.authority.unproven == 1, "the vault is not read now, so the member may be new"
            assert len(made.vault.served) == reads, "otherwise unauthenticated requests could cause reads without end"
            seconds.now = LOOK_AGAIN_SECONDS
            assert await ask_as_bank_c(vm) == (200, True)
            assert vm.authority.unproven == 1

    play(history, **cached)


def test_members_do_not_wait_for_a_read_that_an_unauthenticated_request_caused(play, cached):
    async def history(made: Network) -> None:
        reading, answers = asyncio.Event(), asyncio.Event()

        async def judge(request: web.Request) -> None:
            if request.path.startswith("/secrets/enrolment-keys"):
                reading.set()
                await answers.wait()

        async with made.vm() as vm:
            assert (await ask(vm.url, "/network"))[0] == 200
            made.vault.judge = judge
            outsiders = [asyncio.create_task(ask_as_bank_c(vm)) for _ in range(3)]
            async with asyncio.timeout(5):
                await reading.wait()
                assert (await ask(vm.url, "/network"))[0] == 200, "its key is cached, and the vault is slow"
            assert not any(each.done() for each in outsiders), "they wait"
            answers.set()
            assert await asyncio.gather(*outsiders) == [(401, False)] * 3
            assert vm.authority.unproven == 1, "only the request that caused the read; one is enough for the alert"

    play(history, **cached)


def test_a_member_gets_its_answer_from_an_authority_whose_vault_hangs(play, seconds, cached):
    async def history(made: Network) -> None:
        async def judge(_: web.Request) -> str:
            return "hang"

        async with made.vm() as vm:
            assert (await ask(vm.url, "/network"))[0] == 200
            seconds.now = SECRET_POLL_SECONDS
            made.vault.judge = judge
            assert (await ask(vm.url, "/network"))[0] == 200, "before the connection's time limit"

    play(history, **cached)


def test_no_request_is_called_unauthenticated_during_an_outage_of_the_vault(play, cached):
    async def history(made: Network) -> None:
        async def judge(_: web.Request) -> str:
            return "500"

        async with made.vm() as vm:
            assert (await ask(vm.url, "/network"))[0] == 200
            await bank_c_joins(made)
            made.vault.judge = judge
            assert await ask_as_bank_c(vm) == (503, False)
            assert (await ask(vm.url, "/network"))[0] == 200, "members are served from the cache"
            assert vm.authority.unproven == 0

    play(history, **cached)


def test_a_repeated_request_changes_nothing(play):
    async def history(made: Network) -> None:
        async with made.vm() as one, made.vm() as other:
            await one.authority.run_due_tasks()
            asked = new_request(f"OU=node-1, {BANK_B}")
            fixed: dict[str, Any] = {
                "method": "POST",
                "body": asked,
                "nonce": "0" * 32,
                "time": str(int(time.time())),
            }
            first = await ask(one.url, "/certificate", **fixed)
            assert (first[0], first[2]) == (200, True)
            identifier = request_id(first[1].decode())

            async def repeat() -> None:
                before = {name: await made.store().read(name) for name in await made.store().names("")}
                for url in (one.url, other.url):
                    assert await ask(url, "/certificate", **fixed) == first, "the same id, bound to the same nonce"
                after = {name: await made.store().read(name) for name in await made.store().names("")}
                assert after == before, "who repeats a request neither fills the register nor undoes a decision"

            await repeat()
            await one.authority.reject(identifier, "who are you?", "alice")
            await repeat()
            await one.authority.approve(identifier, "alice")
            assert (await ask(one.url, f"/certificate/{identifier}"))[0] == 200
            await repeat()
            await one.authority.revoke(f"OU=node-1, {BANK_B}", "alice")
            for url in (one.url, other.url):
                assert (await ask(url, "/certificate", **fixed))[0] == 403, "its key was revoked"

    play(history)


def test_an_old_request_is_refused(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            for apart in (-330, 330):
                status, body, proven = await ask(vm.url, "/network", time=str(int(time.time()) + apart))
                assert (status, proven) == (400, True), "the member must learn it, since a clock can be corrected"
                assert b"the clocks are 3" in body
            assert (await ask(vm.url, "/network", time=str(int(time.time()) - 200)))[0] == 200
            made.clock.ahead = timedelta(hours=1)
            member = made.member("bank-b", vm.url, BANK_B)
            member.enrolment._now = lambda: made.clock() - timedelta(minutes=6)
            with pytest.raises(SoftwareError, match="the clocks are"):
                await member.certificates()

    play(history)


def test_a_request_that_is_too_large_is_not_read(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            status, _, proven = await ask(vm.url, "/certificate", method="POST", body=b"x" * 20_000)
            assert (status, proven) == (413, False)

            async def endless() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 65_536

            async with session() as client:
                with contextlib.suppress(aiohttp.ClientError):
                    async with client.post(f"{vm.url}/certificate", data=endless()) as answer:
                        assert answer.status == 413
            assert (await ask(vm.url, "/network"))[0] == 200, "it continues to serve"

    play(history)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("DELETE", "/certificate", 404),
        ("GET", "/certificate/nothing", 404),
        ("PUT", "/network", 404),
    ],
)
def test_an_unknown_path_or_id_is_not_found(play, method, path, status):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            assert (await ask(vm.url, path, method=method))[::2] == (status, True)

    play(history)


# --- Names ---------------------------------------------------------------------------------------------------------


async def refused(made: Network, url: str, legal_name: str, member: str = "bank-b") -> str:
    request = make_request(legal_name, "a@b", CertificateRole.NODE_CA, read_key(make_keys(), NODE_CA_KEY))
    status, body, proven = await ask(url, "/certificate", method="POST", body=request, member=member)
    assert (status, proven) == (403, True), "refused, with a proven reason"
    return body.decode()


def test_a_member_gets_only_names_on_its_card(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            for name in (
                NOTARY,
                f"OU=node-3, {BANK_B}",
                BANK_B,
                f"OU=node-1, {BANK_B.upper()}".replace("OU=N", "OU=n"),
            ):
                with contextlib.suppress(ValueError):
                    assert "is not on the card of bank-b" in await refused(made, vm.url, name)
            recorded = [each for each in await decisions(made) if each["decision"] == "refused"]
            assert [each["member"] for each in recorded] == ["bank-b"], "the first refusal of a day is recorded"
            member = made.member("bank-b", vm.url, BANK_A)
            with pytest.raises(WaitingError, match="is not on the card of bank-b"):
                await member.certificates()

    play(history)


def test_a_name_that_is_added_to_the_card_is_certified(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            with pytest.raises(SoftwareError, match="is not on the card"):
                await member.certificates(3)
            made.cards["bank-b"].append(f"OU=node-3, {BANK_B}")
            await made.write_secrets()
            assert await member.certificates(3), "the member adds a node"
            made.cards["bank-b"].remove(f"OU=node-3, {BANK_B}")
            await made.write_secrets()
            with pytest.raises(SoftwareError, match="is not on the card"):
                await replace_documents(member).certificates(3)

    play(history)


def replace_documents(member: Any) -> Any:
    """The same member without its stored documents."""
    member.documents = MemoryStore()
    member.context = replace(member.context, documents=member.documents)
    member.enrolment = member.vm()
    return member


def test_a_certified_name_gets_no_second_key_and_its_key_the_same_certificate(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            first = await member.certificates()
            again = await replace_documents(member).certificates()
            assert again.node_ca == first.node_ca, "a bank that lost its documents gets the same certificates"
            assert (again.identity, again.tls) == (first.identity, first.tls)
            thief = made.member("bank-b", vm.url, BANK_B)
            with pytest.raises(WaitingError, match="is certified with another key"):
                await thief.certificates()
            refusals = [each for each in await decisions(made) if each["decision"] == "refused"]
            thiefs = {
                key_hash(read_key(thief.keys["node-1"], name).public_key())
                for name in (NODE_CA_KEY, IDENTITY_KEY, TLS_KEY)
            }
            assert {each["key"] for each in refusals} <= thiefs, "with the requesting key"
            assert refusals

    play(history)


def test_names_that_differ_in_case_are_one_name(play):
    async def history(made: Network) -> None:
        made.cards["bank-b"].append(f"OU=NODE-1, {BANK_B}")
        await made.write_secrets()
        async with made.vm() as vm:
            await made.member("bank-b", vm.url, BANK_B).certificates()
            message = await refused(made, vm.url, f"OU=NODE-1, {BANK_B}")
            assert "is certified with another key" in message, "X.500 treats them as equal"

    play(history)


def test_a_request_belongs_to_its_member_and_its_name_is_checked_against_the_card_again(play):
    async def history(made: Network) -> None:
        made.options["approval"] = Approval.MANUAL
        async with made.vm() as vm:
            key = read_key(make_keys(), NODE_CA_KEY)
            request = make_request(f"OU=node-1, {BANK_B}", "a@b", CertificateRole.NODE_CA, key)
            _, identifier, _ = await ask(vm.url, "/certificate", method="POST", body=request)
            path = f"/certificate/{identifier.decode()}"
            assert (await ask(vm.url, path))[::2] == (204, True)
            assert (await ask(vm.url, path, member="bank-a", key="a" * 64))[::2] == (404, True), (
                "no other member gets it"
            )
            await vm.authority.approve(request_id(identifier.decode()), "alice")
            names = made.cards.pop("bank-b")
            made.cards["bank-b"] = names[1:]
            await made.write_secrets()
            status, message, proven = await ask(vm.url, path)
            assert (status, proven) == (401, True), "it was approved, but the card no longer has the name"
            assert b"is not on the card" in message
            made.cards["bank-b"] = names
            await made.write_secrets()
            assert (await ask(vm.url, path))[0] == 200

    play(history)


def test_an_unreadable_card_delays_its_members_requests(play):
    async def history(made: Network) -> None:
        async def judge(request: Any) -> str | None:
            return "500" if "card-bank-b" in request.path else None

        # From the start: a card that was read once is used during an outage.
        made.vault.judge = judge
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            with pytest.raises(WaitingError, match="503"):
                await member.certificates()
            assert not [each for each in await decisions(made) if each["decision"] == "refused"], (
                "it is no fault of the member"
            )
            made.vault.judge = None
            assert await member.certificates()

    play(history)


def new_request(name: str) -> bytes:
    return make_request(name, "a@b", CertificateRole.NODE_CA, read_key(make_keys(), NODE_CA_KEY))


def test_no_member_fills_the_register_or_the_workspace(tls, caplog):
    caplog.set_level(logging.INFO)

    async def history() -> None:
        async with network(tls, None, options={"approval": Approval.MANUAL}) as made, made.vm() as vm:
            authority, store, name = vm.authority, made.store(), f"OU=node-1, {BANK_B}"
            other, asked = f"OU=node-2, {BANK_B}", [new_request(name) for _ in range(8)]
            ids = [await authority.request("bank-b", each) for each in asked]
            assert [await authority.request("bank-b", each) for each in asked] == ids, (
                "repeated requests get the same ids"
            )
            for _ in range(20):
                with pytest.raises(RequestRefusedError, match=r"8 keys were asked for .*; wanted one of them"):
                    await authority.request("bank-b", new_request(name))
                with pytest.raises(RequestRefusedError, match="is not on the card"):
                    await authority.request("bank-b", new_request(f"OU=node-{secrets.randbelow(10**9)}, {BANK_B}"))
            assert len(await store.names("requests/")) == 8
            assert len(await decisions(made)) == 1, "the first refusal of a day is recorded"
            refusals = [each for each in caplog.records if each.message.startswith("refused: ")]
            assert len(refusals) == 40, "the VM's journal has each attempt"
            assert len([each for each in refusals if each.levelno >= logging.WARNING]) == 1, (
                "a member may send many requests, and the workspace collects warnings up to its daily cap"
            )
            assert await authority.request("bank-b", new_request(other)), "another name has a separate limit"
            await authority.reject(ids[0], "a key too many", "alice")
            with pytest.raises(RequestRefusedError):
                # Otherwise its requests would take the place of each that is rejected, before those of others.
                await authority.request("bank-b", new_request(name))
            made.clock.ahead = timedelta(days=1, minutes=1)
            assert await authority.request("bank-b", new_request(name)), "requests rejected a day ago do not count"
            with pytest.raises(RequestRefusedError):
                await authority.request("bank-b", new_request(name))
            assert len([each for each in await store.names("decisions/") if "refused" in each]) == 2

    asyncio.run(history())


def test_no_member_hides_the_requests_of_another(play, command, tmp_path):
    async def history(made: Network) -> None:
        say = command(made, tmp_path)
        async with made.vm() as vm:
            asked = [await vm.authority.request("bank-b", new_request(f"OU=node-1, {BANK_B}")) for _ in range(8)]
            await vm.authority.request("bank-a", new_request(NOTARY))
            lines = (await say("pending"))[1].splitlines()
            assert len(lines) == 5, "the three oldest of each member, since Azure returns only the end of an output"
            assert lines[-1] == "bank-b: 5 more, which `pending bank-b` lists"
            assert "  bank-a  " in lines[0], "and the other member's"
            assert {line.split()[0] for line in (await say("pending", "bank-b"))[1].splitlines()} == set(asked)
            assert (await say("pending", "bank-c"))[1] == "no request waits for approval\n"

    play(history, options={"approval": Approval.MANUAL})


def test_decided_requests_are_not_read_again(tls, monkeypatch):
    async def history() -> None:
        async with network(tls, None, options={"approval": Approval.MANUAL}) as made, made.vm() as vm:
            authority, store, name = vm.authority, made.store(), f"OU=node-1, {BANK_B}"
            asked = [new_request(name) for _ in range(3)]
            ids = [await authority.request("bank-b", each) for each in asked]
            assert {each.id for each in await authority.pending()} == set(ids)
            await authority.reject(ids[0], "who are you?", "alice")
            await authority.approve(ids[1], "alice")
            read, names = store.read, []

            async def noted(name: str) -> Any:
                names.append(name)
                return await read(name)

            monkeypatch.setattr(store, "read", noted)
            assert [each.id for each in await authority.pending()] == [ids[2]]
            assert names == [f"requests/{ids[2]}"]
            # One VM ended between a request and its mark, one between a decision and its mark.
            await store.delete(f"open/{ids[2]}")
            await store.write(f"open/{ids[1]}", b"", None)
            assert not await authority.pending()
            assert await authority.request("bank-b", asked[2]) == ids[2]
            assert [each.id for each in await authority.pending()] == [ids[2]], "it polls every minute"
            assert list(await store.names("open/")) == [f"open/{ids[2]}"]

    asyncio.run(history())


def test_a_member_sends_a_limited_number_of_requests_a_minute(tls, monkeypatch):
    monkeypatch.setattr("ledger.corda.authority.authority.REQUESTS_A_MINUTE", 20)

    async def history() -> None:
        async with network(tls, None) as made, made.vm() as vm:
            # A fixed clock: no minute ends meanwhile.
            fixed_time = datetime.now(UTC)
            vm.authority.now = lambda: fixed_time
            now = lambda: str(int(fixed_time.timestamp()))  # noqa: E731
            answers = [await ask(vm.url, "/", method=how, time=now()) for how in ("GET", "PUT", "POST") * 10]
            assert [status for status, _, _ in answers] == [404] * 20 + [429] * 10, "all methods share one limit"
            assert answers[-1][1:] == (b"20 requests in a minute; wanted no more", True), "the limit is reported"
            vm.authority.accept("bank-c")
            fixed_time += timedelta(minutes=1)
            assert (await ask(vm.url, "/network", time=now()))[0] == 200, (
                "its requests are accepted again in the next minute"
            )

    asyncio.run(history())


def test_a_damaged_revocation_list_is_replaced(tls):
    async def history() -> None:
        async with network(tls, None) as made, made.vm() as vm:
            await made.member("bank-b", vm.url, BANK_B).certificates()
            await vm.authority.revoke(f"OU=node-1, {BANK_B}", "alice")
            before, store = (await fetch_lists(vm.lists_url))["identity-ca"], made.store()
            for damage in (b"", b"torn", before.public_bytes(Encoding.DER)[:-30]):
                there = await store.read("crl/identity-ca")
                assert there
                assert await store.write("crl/identity-ca", damage, there.etag)
                await vm.authority.run_due_tasks()
                made.clock.ahead += timedelta(minutes=1)
                after = (await fetch_lists(vm.lists_url))["identity-ca"]
                assert {each.serial_number for each in after} == {each.serial_number for each in before}
                assert number(after) > number(before), "the new list has a higher number"
                before = after

    asyncio.run(history())


def test_a_list_that_a_vm_with_a_wrong_clock_signed_is_replaced_at_once(tls):
    async def history() -> None:
        async with network(tls, None) as made, made.vm() as vm, made.authority() as other:
            first = (await fetch_lists(vm.lists_url))["identity-ca"]
            vm.authority.now = lambda: made.clock() + timedelta(days=300)
            await vm.authority.run_due_tasks()
            assert number((await fetch_lists(vm.lists_url))["identity-ca"]) == number(first) + 1
            vm.authority.now = made.clock
            await other.run_due_tasks()
            after = (await fetch_lists(vm.lists_url))["identity-ca"]
            assert number(after) == number(first) + 2, "it does not serve for 300 days what it read in the future"
            assert after.last_update_utc <= made.clock(), "nodes take no list of the future: all would refuse all"
            made.clock.ahead -= timedelta(minutes=4)
            await other.run_due_tasks()
            made.clock.ahead += timedelta(minutes=5)
            assert (await fetch_lists(vm.lists_url))["identity-ca"] == after, "two VMs' clocks may differ a little"

    asyncio.run(history())


def test_waiting_and_unauthenticated_requests_are_counted(tls, monkeypatch):
    async def history() -> None:
        async with network(tls, None) as made, made.authority() as authority:
            stopped, status = asyncio.Event(), Status(vm="authority-1")
            health, requests, lists = (free_port() for _ in range(3))
            due = ["root: it is closed", None]

            async def run_due_tasks() -> str | None:
                authority.due.clear()
                authority.waiting = 3
                return due.pop()

            monkeypatch.setattr(authority, "run_due_tasks", run_due_tasks)
            serving = asyncio.ensure_future(serve(authority, status, "127.0.0.1", health, requests, lists, stopped))
            await until(f"http://127.0.0.1:{health}/health", lambda report: report["state"] == "holding", 10)
            assert status.causes() == set(), (
                "requests of other members are no impairment: `approval` is for the bank's own nodes"
            )
            assert (status.figures[Figure.PENDING], status.figures[Figure.UNPROVEN]) == (3, 0)
            assert (await ask(f"https://127.0.0.1:{requests}", "/network", key="c" * 64))[0] == 401
            authority.due.set()
            await until(f"http://127.0.0.1:{health}/health", lambda report: report["impaired"] == ["authority"], 10)
            assert status.figures[Figure.UNPROVEN] == 1, "somebody guesses names, or a key was rotated"
            stopped.set()
            await asyncio.wait_for(serving, 20)

    asyncio.run(history())


@pytest.mark.parametrize("fault", [ValueError("torn"), KeyError("what"), UnavailableError("away")])
def test_members_get_answers_although_a_due_task_fails(tls, monkeypatch, fault):
    async def history() -> None:
        async with network(tls, None) as made, made.authority() as authority:
            stopped, status = asyncio.Event(), Status(vm="authority-1")
            health, requests, lists = (free_port() for _ in range(3))

            async def fail() -> str | None:
                raise fault

            monkeypatch.setattr(authority, "run_due_tasks", fail)
            serving = asyncio.ensure_future(serve(authority, status, "127.0.0.1", health, requests, lists, stopped))
            await until(f"http://127.0.0.1:{health}/health", lambda report: report["state"] == "holding", 10)
            assert (await ask(f"https://127.0.0.1:{requests}", "/network"))[::2] == (200, True)
            expected = "away" if isinstance(fault, UnavailableError) else f"unexpected {type(fault).__name__} at"
            assert expected in str(status.reason), "a fault is reported with its type and its line"
            stopped.set()
            await asyncio.wait_for(serving, 20)

    asyncio.run(history())


def test_nothing_is_signed_by_a_wrong_clock(tls):
    async def history() -> None:
        async with network(tls, None) as made, made.authority() as authority:
            stopped, status = asyncio.Event(), Status(vm="authority-1")
            health, requests, lists = (free_port() for _ in range(3))
            made.clock_fault = "the VM's clock differs by +3600 s from the store's"
            serving = asyncio.ensure_future(serve(authority, status, "127.0.0.1", health, requests, lists, stopped))
            found = await until(f"http://127.0.0.1:{health}/health", lambda report: report["reason"], 10)
            assert found["reason"] == made.clock_fault
            assert not await made.store().names(""), "certificates, lists and parameters would have a wrong time"
            with pytest.raises(aiohttp.ClientConnectionError):
                await ask(f"https://127.0.0.1:{requests}", "/network")
            made.clock_fault = ""
            authority.due.set()
            await until(f"http://127.0.0.1:{health}/health", lambda report: report["state"] == "holding", 10)
            made.clock_fault = "the VM's clock differs by -20 s from the store's"
            with pytest.raises(WaitingError, match="503"):
                await made.member("bank-b", f"https://127.0.0.1:{requests}", BANK_B).certificates()
            assert not await made.store().names("names/"), "nor later"
            stopped.set()
            await asyncio.wait_for(serving, 20)

    asyncio.run(history())


def test_a_configuration_of_the_future_freezes_no_parameters(play):
    async def history(made: Network) -> None:
        async def signed() -> ParametersRecord:
            found = await find(made.store(), ParametersRecord, PARAMETERS)
            assert found
            return found[0]

        ahead = made.clock().timestamp() + 3600
        later = SETTINGS.model_copy(update={"max_message_bytes": SETTINGS.max_message_bytes // 2})
        notaries = (f"OU=node-1, {BANK_B}",)
        async with made.vm(configured=ahead, notaries=notaries) as old:
            await made.member("bank-b", old.url, BANK_B).certificates()
            await old.authority.run_due_tasks()
            record = await signed()
            assert record.epoch == 1
            assert record.configured == pytest.approx(ahead - 3600, abs=60)
            made.clock.ahead += timedelta(minutes=10)
            configured = made.clock().timestamp()
            async with made.vm(configured=configured, notaries=notaries, parameters=later) as new:
                for _ in range(2):
                    await new.authority.run_due_tasks()
                    made.clock.ahead += timedelta(minutes=2)
                    await old.authority.run_due_tasks()
        record = await signed()
        assert (record.epoch, record.settings) == (2, later.model_dump()), (
            "a VM that had booted with a clock that was ahead is not the newest, neither for ever nor for that hour"
        )

    play(history)


def test_open_requests_are_answered_after_sigterm():
    async def history() -> None:
        begun = asyncio.Event()

        async def respond(_: web.BaseRequest) -> web.StreamResponse:
            begun.set()
            await asyncio.sleep(0.5)
            return web.Response(text="done")

        async with AsyncExitStack() as around:
            port = await around.enter_async_context(serving_requests(respond, None, "127.0.0.1", 0, grace=5))
            async with aiohttp.ClientSession() as client:
                asked = asyncio.ensure_future(client.get(f"http://127.0.0.1:{port}/"))
                await begun.wait()
                began = time.monotonic()
                await around.aclose()
                assert await (await asked).text() == "done"
                assert time.monotonic() - began < 3, "it ends as soon as they are answered"
                with pytest.raises(aiohttp.ClientError):
                    await client.get(f"http://127.0.0.1:{port}/")

    asyncio.run(history())


# --- Manual approval -----------------------------------------------------------------------------------------------


@pytest.fixture
def command(capsys, monkeypatch):
    """Run a command as an operator does on a VM of the authority."""
    monkeypatch.setenv("SUDO_USER", "alice")

    def prepare(made: Network, tmp_path: Path, **changes: Any) -> Callable[..., Awaitable[tuple[int, str]]]:
        path = tmp_path / "authority.json"
        path.write_text(made.configuration(**changes).to_json())

        @asynccontextmanager
        async def connect(configuration: AuthorityConfiguration, configured: float) -> AsyncIterator[Authority]:
            assert configured == path.stat().st_mtime
            assert made.container
            # Separate clients: a command has a separate event loop.
            async with container_client(*made.container) as container:
                own = replace(made, store=lambda: BlobStore(container))
                async with own.authority(configured=configured, approval=configuration.approval) as authority:
                    yield authority

        async def say(*arguments: str) -> tuple[int, str]:
            capsys.readouterr()
            given = [*arguments, "--configuration", str(path)]
            status = await asyncio.to_thread(commands.main, given, connect)
            printed = capsys.readouterr()
            return status, printed.out + printed.err

        return say

    return prepare


def test_an_operator_approves_by_one_command(play, command, tmp_path):
    async def history(made: Network) -> None:
        made.options["approval"] = Approval.MANUAL
        say = command(made, tmp_path)
        async with made.vm() as vm:
            assert await say("pending") == (0, "no request waits for approval\n")
            member = made.member("bank-b", vm.url, BANK_B)
            with pytest.raises(WaitingError, match="approved by an operator of the network's authority"):
                await member.certificates()
            await vm.authority.run_due_tasks()
            assert vm.authority.waiting == 3, "the operator is notified"
            status, output = await say("pending")
            lines = output.splitlines()
            assert status == 0
            assert len(lines) == 3, "node CA, identity and TLS are requested at once"
            assert all(f"OU=node-1, {BANK_B}" in line and "bank-b" in line and "key " in line for line in lines)
            for line in lines:
                with pytest.raises(WaitingError):
                    await member.certificates()
                assert (await say("approve", line.split()[0]))[0] == 0
            assert await member.certificates(), "approved certificates are issued"
            issued = [each for each in await decisions(made) if each["decision"] == "issued"]
            assert {each["by"] for each in issued} == {"alice"}, "the record names the operator"
            assert await say("pending") == (0, "no request waits for approval\n")
            status, output = await say("approve", "0" * 32)
            assert (status, "wanted one that `pending` lists" in output) == (1, True)

    play(history)


def test_each_decision_is_recorded_with_the_operators_name(play, command, tmp_path, monkeypatch):
    async def history(made: Network) -> None:
        made.options["approval"] = Approval.MANUAL
        say = command(made, tmp_path)
        monkeypatch.delenv("SUDO_USER")
        monkeypatch.setattr("getpass.getuser", lambda: "root")
        async with made.vm() as vm:
            asked = [
                await vm.authority.request("bank-b", new_request(f"OU=node-{index}, {BANK_B}")) for index in (1, 2)
            ]
            for given, match in (
                ((), "who decides is recorded; wanted --by"),
                (("--by", "root"), "--by 'root'; wanted a user principal name such as"),
                (("--by", "alice"), "wanted a user principal name"),
                (("--by", ""), "wanted a user principal name"),
                (("--by", "a@b, stated by bob@b"), "wanted a user principal name"),
            ):
                for decision in (("approve", asked[0]), ("reject", asked[0], "why"), ("revoke", "O=B, L=a, C=GB")):
                    status, output = await say(*decision, *given)
                    assert (status, match in output) == (1, True), (
                        "Azure runs commands as root, which names no person"
                    )
            assert len(await vm.authority.pending()) == 2
            group = "6f1d3a52-8a0b-4c9e-9f7e-2d5b7a1c4e90"
            assert (await say("approve", asked[0], "--by", "alice@bank-a.example"))[0] == 0
            assert (await say("reject", asked[1], "who are you?", "--by", group))[0] == 0
            _, output = await say("list")
            approved, rejected = sorted(output.splitlines(), key=lambda line: "rejected" in line)
            assert "approved 2" in approved, "with the time"
            assert approved.endswith("by alice@bank-a.example, stated by root")
            assert rejected.endswith(f"by {group}, stated by root")
            assert await vm.authority.answer("bank-b", asked[0])
            assert (await say("revoke", f"OU=node-1, {BANK_B}", "--by", "carol@bank-a.example"))[0] == 0
            recorded = {each["decision"]: each["by"] for each in await decisions(made) if "by" in each}
            assert recorded == {
                "approved": "alice@bank-a.example, stated by root",
                "issued": "alice@bank-a.example, stated by root",
                "rejected": f"{group}, stated by root",
                "revoked": "carol@bank-a.example, stated by root",
            }, "each decision is recorded permanently, with the name"
            store = made.store()
            for name in await store.names("decisions/"):
                assert await store.write(name, b"{}", None) is None, "a record is not overwritten"
            monkeypatch.setenv("SUDO_USER", "dave@bank-a.example")
            again = await vm.authority.request("bank-b", new_request(f"OU=node-2, {BANK_B}"))
            assert (await say("approve", again))[0] == 0
            by = {each.id: each.by for each in await vm.authority.requests()}
            assert by[again] == "dave@bank-a.example", "a user who signed in with Entra is recorded"

    play(history)


def test_a_replaced_identity_ca_is_revoked_by_one_command(play, command, tmp_path):
    async def history(made: Network) -> None:
        say = command(made, tmp_path)
        async with made.vm():
            pass
        status, output = await say("revoke-ca", "identity-ca")
        assert (status, "certifies names; wanted ledger.network.caGeneration raised first" in output) == (1, True)
        async with made.vm(ca_generation=2) as vm:
            old = (await vm.authority.open()).certificates["identity-ca"]
            status, output = await say("revoke-ca", "identity-ca-3")
            assert (status, "wanted one of identity-ca, identity-ca-2" in output) == (1, True)
            status, output = await say("revoke-ca", "identity-ca")
            assert (status, output) == (0, "revoked: identity-ca; the root's list says so once the root is open\n")
            await vm.authority.run_due_tasks()
            assert {each.serial_number for each in (await fetch_lists(vm.lists_url))["root"]} == {old.serial_number}
            recorded = [each for each in await decisions(made) if each["decision"] == "revoked"]
            assert [(each["key"], each["by"]) for each in recorded] == [("identity-ca", "alice")]

    play(history)


def test_a_rejected_request_may_be_approved_later(play, command, tmp_path):
    async def history(made: Network) -> None:
        made.options["approval"] = Approval.MANUAL
        say = command(made, tmp_path)
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            with pytest.raises(WaitingError):
                await member.certificates()
            _, output = await say("pending")
            ids = [line.split()[0] for line in output.splitlines()]
            for each in ids:
                await say("reject", each, "who are you?")
            with pytest.raises(
                WaitingError, match=r"rejected: who are you\?; wanted: corrected at the network's authority"
            ):
                await member.certificates()
            for each in ids:
                await say("approve", each)
            assert await member.certificates()
            recorded = [each["decision"] for each in await decisions(made)]
            assert recorded == ["approved"] * 3 + ["issued"] * 3 + ["rejected"] * 3, "earlier decisions stay recorded"

    play(history)


def test_a_revoked_name_is_certified_again_only_with_a_new_key(play, command, tmp_path):
    async def history(made: Network) -> None:
        say = command(made, tmp_path)
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            before = await member.certificates()
            status, output = await say("revoke", f"OU=node-1, {BANK_B}")
            assert status == 0
            assert output.count("revoked:") == 3, "node CA, identity and TLS"
            lists = await fetch_lists(vm.lists_url)
            revoked = {each.serial_number for each in lists["identity-ca"]}
            assert revoked == {each[0].serial_number for each in (before.node_ca, before.identity, before.tls)}
            ca_key = before.node_ca[1].public_key()
            assert isinstance(ca_key, EllipticCurvePublicKey)
            assert lists["identity-ca"].is_signature_valid(ca_key), "signed by the identity CA"
            with pytest.raises(WaitingError, match="was revoked; wanted a new key"):
                await replace_documents(member).certificates()
            member.keys["node-1"] = make_keys()
            with pytest.raises(WaitingError, match="approved by an operator of the network's authority"):
                await member.certificates()
            await vm.authority.run_due_tasks()
            assert vm.authority.waiting == 3, "the revocation is recorded"
            for line in (await say("pending"))[1].splitlines():
                assert (await say("approve", line.split()[0]))[0] == 0
            after = await member.certificates()
            assert after.identity[0].serial_number not in revoked
            assert after.trust_root == before.trust_root
            assert {each.serial_number for each in (await fetch_lists(vm.lists_url))["identity-ca"]} == revoked
            status, output = await say("revoke", f"OU=node-9, {BANK_B}")
            assert (status, "nothing is certified under it" in output) == (1, True)

    play(history)


def test_a_name_has_one_approved_key(play, command, tmp_path):
    async def history(made: Network) -> None:
        made.options["approval"] = Approval.MANUAL
        say, name = command(made, tmp_path), f"OU=node-1, {BANK_B}"
        async with made.vm() as vm:
            authority = vm.authority
            first, second, third = [await authority.request("bank-b", new_request(name)) for _ in range(3)]
            assert (await say("approve", first))[0] == 0
            status, output = await say("approve", second)
            assert (status, f"request {first} of that name is approved; wanted it rejected first" in output) == (
                1,
                True,
            )
            assert await authority.answer("bank-b", first)
            status, output = await say("approve", second)
            assert (status, "is certified with another key" in output) == (1, True)
            # The state of an older release: approved although another key was approved.
            await authority._decide(third, RequestState.APPROVED, "bob", None)
            assert (await say("revoke", name))[0] == 0
            assert await authority.answer("bank-b", third) is None, "a revocation covers earlier approvals"
            assert {each.id for each in await authority.pending()} == {second, third}
            status, output = await say("approve", first)
            assert (status, "was revoked; wanted a new key" in output) == (1, True)
            assert (await say("approve", third))[0] == 0
            assert await authority.answer("bank-b", third), "it was approved after the revocation"
            assert [each["decision"] for each in await decisions(made)].count("pending") == 1

    play(history)


def test_an_approval_that_is_withdrawn_meanwhile_has_no_effect(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            authority, name = vm.authority, f"OU=node-1, {BANK_B}"
            ids = [await authority.request("bank-b", new_request(name)) for _ in range(2)]
            assert await authority.answer("bank-b", ids[0])
            read = await made.store().read(f"requests/{ids[1]}")
            assert read
            await authority._decide(ids[1], RequestState.APPROVED, "bob", None)
            approved = await made.store().read(f"requests/{ids[1]}")
            assert approved
            await authority.revoke(name, "alice")
            record = RequestRecord.read(approved, "what another VM read before")
            assert await authority._issued(record, await authority.members.entitlement("bank-b")) is None
            assert await authority.answer("bank-b", ids[1]) is None, "nor later, although the card would suffice"
            await authority._decide(ids[1], RequestState.APPROVED, "the card of bank-b", None)
            assert await authority.answer("bank-b", ids[1]) is None, "for a VM that had not read the revocation yet"
            assert [each.id for each in await authority.pending()] == [ids[1]]

    play(history)


def test_a_revocation_includes_certificates_issued_at_the_same_moment(play):
    async def history(made: Network) -> None:
        made.lifetimes = Lifetimes(issued=timedelta(days=30))
        async with made.vm() as one, made.vm() as other:
            member = made.member("bank-b", one.url, BANK_B)
            await member.certificates()
            # From here on each answer renews.
            made.clock.ahead = timedelta(days=25)
            asked = [request_id(each.split("/")[1]) for each in await made.store().names("requests/")]
            outcomes = await asyncio.gather(
                other.authority.revoke(f"OU=node-1, {BANK_B}", "alice"),
                *(one.authority.answer("bank-b", each) for each in asked * 3),
                return_exceptions=True,
            )
            assert not isinstance(outcomes[0], BaseException)
            given = {each[0].serial_number for each in outcomes[1:] if isinstance(each, tuple)}
            await other.authority.run_due_tasks()
            listed = {each.serial_number for each in (await fetch_lists(other.lists_url))["identity-ca"]}
            assert given <= listed, "every certificate that was issued before is revoked"
            with pytest.raises(SoftwareError):
                await replace_documents(member).certificates()

    play(history)


# --- Time ----------------------------------------------------------------------------------------------------------


async def fetch_lists(url: str) -> dict[str, x509.CertificateRevocationList]:
    async with aiohttp.ClientSession() as client:
        found = {}
        for issuer in ("root", "identity-ca"):
            async with client.get(f"{url}/{issuer}.crl") as answer:
                assert (answer.status, answer.content_type) == (200, "application/pkix-crl")
                found[issuer] = x509.load_der_x509_crl(await answer.read())
        return found


def number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_revocation_lists_exist_from_the_first_day_and_are_renewed_each_day(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            first = await fetch_lists(vm.lists_url)
            valid = Lifetimes()
            for issuer, days in (("root", valid.root_list), ("identity-ca", valid.revocation_list)):
                assert first[issuer].next_update_utc == first[issuer].last_update_utc + days
            await vm.authority.run_due_tasks()
            assert await fetch_lists(vm.lists_url) == first, "one list a day is enough"
            made.clock.ahead = timedelta(days=1, minutes=1)
            async with made.vm() as other:
                second = await fetch_lists(other.lists_url)
                assert [number(second[each]) - number(first[each]) for each in first] == [1, 1]
                assert await fetch_lists(vm.lists_url) == second, "both VMs serve the renewed lists"
            async with aiohttp.ClientSession() as client:
                async with client.head(f"{vm.lists_url}/root.crl") as answer:
                    assert answer.status == 200
                for path in ("/", "/other.crl", "/root", "/network-parameters.crl"):
                    async with client.get(vm.lists_url + path) as answer:
                        assert answer.status == 404
                async with client.post(f"{vm.lists_url}/root.crl") as answer:
                    assert answer.status == 405

    play(history)


def test_certificates_name_the_lists_by_the_configured_url(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            chains = await made.member("bank-b", vm.url, BANK_B).certificates()
            urls = [
                point.full_name[0].value
                for each in chains.node_ca[:2]
                for point in each.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
            ]
            assert urls == ["http://127.0.0.1:8445/identity-ca.crl", "http://127.0.0.1:8445/root.crl"]

    play(history)


def test_the_same_key_is_certified_again_when_a_third_of_the_validity_is_left(play):
    async def history(made: Network) -> None:
        made.lifetimes = Lifetimes(issued=timedelta(days=90))
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            first = await member.certificates()
            made.clock.ahead = timedelta(days=55)
            assert await member.certificates() == first, "it is not due yet"
            assert not member.enrolment.renewal_due(first)
            made.clock.ahead = timedelta(days=62)
            assert not member.enrolment.renewal_due(first), "it is requested first, and the node keeps running"
            for _ in range(100):
                if member.enrolment.renewal_due(first):
                    break
                await asyncio.sleep(0.05)
            assert member.enrolment.renewal_due(first), "the running node has to restart"
            second = await member.certificates()
            assert second.identity[0] != first.identity[0]
            assert second.identity[0].public_key() == first.identity[0].public_key(), "the party is unchanged"
            assert second.identity[0].not_valid_after_utc > first.identity[0].not_valid_after_utc
            assert not member.enrolment.renewal_due(second)
            made.clock.ahead = timedelta(days=140)
            assert (await member.certificates()).identity[0] != second.identity[0], "the next renewal works the same"
            await vm.authority.revoke(f"OU=node-1, {BANK_B}", "alice")
            listed = {each.serial_number for each in (await fetch_lists(vm.lists_url))["identity-ca"]}
            assert second.identity[0].serial_number in listed, "every certificate that is still valid"

    play(history)


# --- The network's parameters --------------------------------------------------------------------------------------


async def epoch(made: Network, vm: Any) -> int | None:
    await vm.authority.run_due_tasks()
    return (await vm.authority.network()).epoch


def test_each_change_of_settings_or_notaries_raises_the_epoch(play):
    async def history(made: Network) -> None:
        async with made.vm(configured=1.0) as vm:
            assert await epoch(made, vm) is None
            assert NOTARY in (await vm.authority.run_due_tasks() or ""), "the report says what is missing"
            member = made.member("bank-a", vm.url)
            await member.certificates(1)
            assert [await epoch(made, vm) for _ in range(3)] == [1, 1, 1], "without a change the parameters stay"
        larger = SETTINGS.model_copy(update={"max_message_bytes": 20_000_000})
        async with made.vm(configured=2.0, parameters=larger) as vm:
            assert await epoch(made, vm) == 2, "changed settings"
        async with made.vm(configured=3.0, parameters=larger, notaries=[NOTARY, NODE_2]) as vm:
            assert await epoch(made, vm) == 2, "the new notary has no certificate yet"
            await made.member("bank-a", vm.url).certificates(2)
            assert await epoch(made, vm) == 3, "changed notaries"
            await vm.authority.revoke(NODE_2, "alice")
            assert await epoch(made, vm) == 3, "the last parameters stay in use until newer ones can be signed"
            member = made.member("bank-a", vm.url)
            with pytest.raises(WaitingError):
                await member.certificates(2)
            for each in await vm.authority.pending():
                await vm.authority.approve(each.id, "alice")
            await member.certificates(2)
            assert await epoch(made, vm) == 4, "a notary with another key is another party"
        assert [each.epoch for each in made.serializer.written] == [1, 2, 3, 4]
        recorded = [each for each in await decisions(made) if each["decision"] == "parameters"]
        assert [each["epoch"] for each in recorded] == [1, 2, 3, 4], "each version is recorded"

    play(history)


def test_vms_of_an_older_configuration_do_not_change_the_parameters(play):
    async def history(made: Network) -> None:
        larger = SETTINGS.model_copy(update={"max_message_bytes": 20_000_000})
        async with made.vm(configured=1.0) as old, made.vm(configured=2.0, parameters=larger) as new:
            await made.member("bank-a", old.url).certificates(1)
            assert await epoch(made, old) == 1
            assert await epoch(made, new) == 2
            assert [await epoch(made, vm) for vm in (old, new, old, new)] == [2] * 4, (
                "while VMs are rolled, the parameters must not change back and forth"
            )

    play(history)


def test_a_vm_uses_parameters_that_another_one_has_signed(play):
    async def history(made: Network) -> None:
        async with made.vm(configured=1.0) as old, made.vm(configured=2.0) as new:
            waiting = f"the network's parameters wait for the certificate of {NOTARY}"
            assert await old.authority.run_due_tasks() == waiting
            await made.member("bank-a", old.url).certificates(1)
            assert await new.authority.run_due_tasks() is None
            assert await old.authority.run_due_tasks() is None, (
                "otherwise it stays impaired, and raises an alert in an hour"
            )

    play(history)


def test_a_notary_with_a_renewed_certificate_stays_the_same_party(play):
    async def history(made: Network) -> None:
        made.lifetimes = Lifetimes(issued=timedelta(days=90))
        async with made.vm() as vm:
            member = made.member("bank-a", vm.url)
            first = await member.certificates(1)
            assert await epoch(made, vm) == 1
            made.clock.ahead = timedelta(days=70)
            assert await member.certificates(1) != first
            assert await epoch(made, vm) == 1

    play(history)


@pytest.mark.skipif(bool(corda.missing()), reason=corda.missing() or "")
def test_cordas_own_code_accepts_the_parameters_that_the_vaults_key_signed(play):
    installed = corda.load()

    async def history(made: Network) -> None:
        made.serializer = JavaSerializer(Installation(corda.VERSION, installed.folder))  # type: ignore[assignment]
        async with made.vm() as vm:
            member = made.member("bank-a", vm.url)
            chains = await member.certificates(1)
            began = time.monotonic()
            await vm.authority.run_due_tasks()
            print(f"parameters written, signed and put together in {time.monotonic() - began:.1f} s")

            async def verify(document: bytes) -> int:
                given = {
                    "document": base64.b64encode(document).decode(),
                    "trustRoot": corda.encoded(chains.trust_root),
                }
                return int((await installed.tool("verify-parameters", given))["epoch"])

            document = await member.enrolment.network_parameters(verify)
            assert document
            given = {"document": base64.b64encode(document).decode(), "trustRoot": corda.encoded(chains.trust_root)}
            read = await installed.tool("verify-parameters", given)
            assert (read["epoch"], read["minimumPlatformVersion"]) == (1, 12)
            assert (read["maxMessageSize"], read["maxTransactionSize"], read["eventHorizonDays"]) == (
                10_485_760, 524_288_000, 30
            )  # fmt: skip
            (notary,) = read["notaries"]
            assert notary["legalName"] == NOTARY, "CordaX500Name reads the certificate's name as configured"
            assert not notary["validating"]
            key = chains.identity[0].public_key()
            assert base64.b64decode(notary["key"]) == key.public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            ), "the party is name and key"
            given["trustRoot"] = corda.encoded(make_network(made.clock()).root)
            with pytest.raises(ToolError):
                await installed.tool("verify-parameters", given)

    play(history)


# --- Outages and damage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["403", "429", "500", "garble", "cut"])
def test_the_authority_waits_for_a_vault_that_refuses(play, fault):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)

            async def judge(request: Any) -> str | None:
                return fault if "/sign" in request.path else None

            made.vault.judge = judge
            with pytest.raises(WaitingError, match="503"):
                await member.certificates()
            assert await made.store().names("decisions/"), "it is approved, but not issued"
            made.vault.judge = None
            assert await member.certificates(), "the next attempt succeeds"

    play(history)


def test_an_invalid_signature_is_not_used(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            ((version, key),) = made.vault.keys["identity-ca"].items()
            made.vault.make_key("outsider")
            made.vault.keys["identity-ca"][version] = next(iter(made.vault.keys["outsider"].values()))
            member = made.member("bank-b", vm.url, BANK_B)
            with pytest.raises(WaitingError, match="503"):
                await member.certificates()
            assert not [each for each in await decisions(made) if each["decision"] == "issued"]
            made.vault.keys["identity-ca"][version] = key
            assert await member.certificates()

    play(history)


def test_the_authority_waits_for_a_vault_that_refuses_everything(play):
    async def history(made: Network) -> None:
        async def refuse(_: Any) -> str:
            return "403"

        made.vault.judge = refuse
        async with made.vm(tended=False) as vm:
            with pytest.raises(UnavailableError, match="403"):
                await vm.authority.run_due_tasks()
            with pytest.raises(WaitingError, match="503"):
                await made.member("bank-b", vm.url, BANK_B).certificates()
            made.vault.judge = None
            await vm.authority.run_due_tasks()
            assert await made.member("bank-b", vm.url, BANK_B).certificates()

    play(history)


def test_keys_that_do_not_match_the_certificates_are_refused(play):
    async def history(made: Network) -> None:
        async with made.vm():
            pass
        keys = made.vault.keys
        made.vault.make_key("identity-ca")
        async with made.vm() as vm:
            assert await vm.authority.open(), "a newer version of a key is not used"
        before = dict(keys["identity-ca"])
        keys["identity-ca"].clear()
        async with made.vm(tended=False) as vm:
            with pytest.raises(UnavailableError, match="key identity-ca: 404"):
                await vm.authority.run_due_tasks()
        made.vault.make_key("identity-ca")
        (version,), (outsider,) = list(before)[:1], keys["identity-ca"].values()
        keys["identity-ca"] = {version: outsider}
        async with made.vm(tended=False) as vm:
            with pytest.raises(DamagedError, match=r"wanted .* which the authority's certificate has"):
                await vm.authority.run_due_tasks()
        keys["identity-ca"] = before
        (version,) = made.root_vault.keys["root"]
        made.root_vault.keys["root"] = {version: outsider}
        async with made.vm(tended=False) as vm:
            trouble = await vm.authority.run_due_tasks() or ""
            assert "key root" in trouble, "the fault is reported"
            assert "which the authority's certificate has" in trouble
            assert not vm.authority.root_open, "another key is not the root's"
            assert await made.member("bank-b", vm.url, BANK_B).certificates(), "other work needs no root"

    play(history)


def test_a_damaged_record_is_not_overwritten(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            store, before = made.store(), await fetch_lists(vm.lists_url)
            read = await store.read("authority")
            assert read
            assert await store.write("authority", b"{}", read.etag)
            async with made.vm(tended=False) as other:
                with pytest.raises(DamagedError, match="an earlier version of it restored"):
                    await other.authority.run_due_tasks()
            assert (await ask(vm.url, "/network"))[0] == 200, "a VM that has read it before continues"
            made.clock.ahead = timedelta(days=1, minutes=1)
            assert "an earlier version of it restored" in (await vm.authority.run_due_tasks() or ""), (
                "and reports the damage"
            )
            after = await fetch_lists(vm.lists_url)
            assert number(after["identity-ca"]) == number(before["identity-ca"]) + 1, "its lists are still signed"

    play(history)


def test_during_an_outage_of_storage_lists_are_still_served(tls):
    async def history() -> None:
        async with network(tls, None) as made, made.vm() as vm:
            lists = await fetch_lists(vm.lists_url)
            store = made.store()
            assert isinstance(store, MemoryStore)
            store.away = True
            made.clock.ahead = timedelta(minutes=1)
            with pytest.raises(WaitingError, match="503"):
                await made.member("bank-b", vm.url, BANK_B).certificates()
            assert await fetch_lists(vm.lists_url) == lists, "lists are signed, and valid for days"
            with pytest.raises(UnavailableError):
                await vm.authority.run_due_tasks()
            store.away = False
            assert await made.member("bank-b", vm.url, BANK_B).certificates()

    asyncio.run(history())


def test_nothing_secret_is_logged(play, caplog):
    async def history(made: Network) -> list[str]:
        made.options["approval"] = Approval.AUTO
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            await member.certificates()
            await ask(vm.url, "/network", key="d" * 64)
            with contextlib.suppress(SoftwareError):
                await made.member("bank-b", vm.url, BANK_B).certificates()
            await vm.authority.revoke(f"OU=node-1, {BANK_B}", "alice")
            await vm.authority.run_due_tasks()
            store = made.store()
            stored = [(await store.read(name)) for name in await store.names("")]
            secrets_of = [*made.enrolment_keys.values()]
            secrets_of += [blob.decode().splitlines()[1] for blobs in member.keys.values() for blob in blobs.values()]
            for each in (*stored, *member.documents.content.values()):
                assert each
                assert not any(secret.encode() in each.content for secret in secrets_of), "blobs have no secret"
                assert b"PRIVATE KEY" not in each.content
            return secrets_of

    with caplog.at_level(logging.DEBUG):
        secrets_of = play(history)
    assert caplog.records, "there are log lines"
    assert not [each for each in caplog.records if any(secret in each.getMessage() for secret in secrets_of)]


# --- Configuration and process -------------------------------------------------------------------------------------


def test_the_configuration_is_read_as_the_deployment_writes_it(tmp_path, tls):
    path = tmp_path / "authority.json"
    urls = "https://vault.example", "https://root.example"
    made = Network(None, None, *urls, tmp_path, MemoryStore)  # type: ignore[arg-type]
    path.write_text(made.configuration().to_json())
    read, configured = read_authority_configuration(path)
    assert read == made.configuration()
    assert configured == path.stat().st_mtime
    document = json.loads(path.read_text())
    assert {"legalNames", "clientId", "vaultUrl", "rootVaultUrl", "blobUrl", "crlUrl", "connectionString"} <= set(
        document
    )
    assert set(document["parameters"]) == {
        "minimumPlatformVersion", "maxMessageBytes", "maxTransactionBytes", "eventHorizonDays"
    }  # fmt: skip
    for key, value, match in (
        ("approval", "never", "approval: 'never'"),
        ("notaries", ["O=x"], "notaries.0"),
        ("subject", "OU=a, O=Bank A, L=London, C=GB", "subject"),
        ("crlUrl", "ftp://x", "crlUrl"),
        ("more", 1, "more"),
    ):
        path.write_text(json.dumps(document | {key: value}))
        with pytest.raises(ConfigurationError, match=match):
            read_authority_configuration(path)
    path.write_text(json.dumps({key: value for key, value in document.items() if key != "member"}))
    with pytest.raises(ConfigurationError, match="member is missing"):
        read_authority_configuration(path)
    assert commands.main(["pending", "--configuration", str(tmp_path / "none.json")]) == os.EX_CONFIG


def test_a_platforms_data_has_an_authoritys_requirements():
    assert CORDA.authority
    assert CORDA.authority.module == "ledger.corda.authority"
    assert CORDA.authority.keys_of(3)[-2:] == ("identity-ca-2", "identity-ca-3"), "the older key stays"
    assert [each.port for each in CORDA.authority.listeners] == [8444, 8445], "the first listener is its URL"


def test_a_vm_serves_and_is_healthy_from_its_first_seconds_and_stops_at_sigterm(play, tmp_path):
    async def history(made: Network) -> None:
        given = {
            "vault": made.vault_url,
            "root": made.root_vault_url,
            "certificate": str(made.vault_certificate),
            "register": made.container,
            "configuration": json.loads(made.configuration().to_json()),
        }
        refuse = True

        async def judge(_: Any) -> str | None:
            return "403" if refuse else None

        made.vault.judge = judge
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.processes.authority_vm",
            json.dumps(given),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stdout
            ports = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
            health = f"http://127.0.0.1:{ports['health']}/health"
            report = await until(health, lambda report: bool(report["reason"]))
            assert report["ApplicationHealthState"] == "Healthy", "a replacement would not help"
            assert "403" in report["reason"]
            with pytest.raises(WaitingError):
                await made.member("bank-b", f"https://127.0.0.1:{ports['requests']}", BANK_B).certificates()
            refuse = False
            await until(health, lambda report: report["state"] == "holding")
            await until(health, lambda report: NOTARY in (report["reason"] or ""))
            url = f"https://127.0.0.1:{ports['requests']}"
            assert await made.member("bank-a", url).certificates(1)
            await until(health, lambda report: report["reason"] is None)
            assert await made.member("bank-b", url, BANK_B).enrolment.network_parameters(epoch_of), "it stops at once"
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, errors = await asyncio.wait_for(process.communicate(), 20)
            print(f"stopped in {time.monotonic() - began:.2f} s")
            assert process.returncode == 0, errors.decode()
            assert b"Traceback" not in errors, errors.decode()
            for secret in made.enrolment_keys.values():
                assert secret.encode() not in errors, "no secret in its log"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    play(history)


async def until(url: str, fits: Callable[[dict[str, Any]], bool], seconds: float = 25) -> dict[str, Any]:
    report: dict[str, Any] = {}
    async with AsyncExitStack() as around:
        client = await around.enter_async_context(aiohttp.ClientSession())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(url) as answer:
                    report = await answer.json()
                    if fits(report):
                        return report
            await asyncio.sleep(0.1)
    raise AssertionError(f"the condition was never met; last {report}")
