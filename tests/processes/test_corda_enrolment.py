"""How nodes get certificates: from an authority that may be forged, and from a zone, which has no proofs."""

import asyncio
import base64
import json
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agent.keys import KeyVaultKeys
from contract.authority_configuration import Approval
from contract.vm_configuration import Zone
from host.bank_documents import NETWORK_DOCUMENT
from host.errors import DamagedError, UnavailableError
from host.http import serving_requests
from host.tls import server_context
from lab.banks.key_vault import Vault, client_of, serving
from ledger.corda import IDENTITY_KEY, NODE_CA_KEY, TLS_KEY, proof
from ledger.corda.authority.server import Requests, zipped
from ledger.corda.authority.signing import read_request
from ledger.corda.certificates import (
    LIFETIME,
    CertificateRole,
    Chains,
    certificate,
    fingerprint,
    issue_rpc,
    key_hash,
    make_keys,
    read_key,
    role_of,
    to_pem,
    x500_name,
)
from ledger.corda.enrolment import MAX_ENROLMENT_BYTES, TRUST_ROOT
from ledger.software import SoftwareError, WaitingError
from tests.authority import BANK_A, BANK_B, Member, Network, caught, epoch_of, network
from tests.certificates import NOW, make_network

Respond = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def plain(error: BaseException) -> bool:
    """Whether it is an error that waiting does not resolve."""
    return isinstance(error, SoftwareError) and not isinstance(error, WaitingError)


@asynccontextmanager
async def lying(made: Network, lie: Callable[[Respond, web.BaseRequest], Any]) -> AsyncIterator[str]:
    """A server in place of the authority, which may forward requests to it; yields its URL."""
    async with made.authority() as authority:
        await authority.run_due_tasks()
        honest = Requests(authority).respond

        async def respond(request: web.BaseRequest) -> web.StreamResponse:
            answer = lie(honest, request)
            return await answer if hasattr(answer, "__await__") else answer

        async with serving_requests(respond, server_context(), "127.0.0.1", 0) as port:
            yield f"https://127.0.0.1:{port}"


def proven(made: Network, request: web.BaseRequest, status: int, body: bytes, **headers: str) -> web.Response:
    """An authenticated answer: of an authority that is faulty or hostile."""
    code = proof.answer_proof(
        bytes.fromhex(made.enrolment_keys["bank-b"]),
        member="bank-b",
        nonce=request.headers[proof.NONCE],
        status=status,
        body=body,
    )
    return web.Response(status=status, body=body, headers={proof.ANSWER_PROOF: code, **headers})


# --- A forged authority --------------------------------------------------------------------------------------------


def test_an_answer_without_the_authoritys_proof_is_refused(play):
    async def history(made: Network) -> None:
        other = make_network(made.clock())
        network_of_another = json.dumps(
            {"schema": "1.0", "trustRoot": to_pem(other.root), "epoch": None, "networkParameters": None}
        ).encode()
        last: list[web.Response] = []

        async def replayed(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
            answer = await honest(request)
            assert isinstance(answer, web.Response)
            last.append(answer)
            first = last[0]
            return web.Response(status=first.status, body=first.body, headers=first.headers.copy())

        async def swapped(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
            answer = await honest(request)
            assert isinstance(answer, web.Response)
            headers = {proof.ANSWER_PROOF: answer.headers[proof.ANSWER_PROOF]}
            return web.Response(status=answer.status, body=network_of_another, headers=headers)

        async def other_status(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
            answer = await honest(request)
            assert isinstance(answer, web.Response)
            headers = {proof.ANSWER_PROOF: answer.headers[proof.ANSWER_PROOF]}
            return web.Response(status=401, body=answer.body, headers=headers)

        lies = {
            "without a proof": lambda _, request: web.Response(body=network_of_another),
            "with a wrong proof": lambda _, request: web.Response(
                body=network_of_another, headers={proof.ANSWER_PROOF: "0" * 64}
            ),
            "another body": swapped,
            "another status": other_status,
            "to elsewhere": lambda _, request: web.Response(status=302, headers={"Location": "https://127.0.0.1:1/"}),
        }
        for what, lie in lies.items():
            async with lying(made, lie) as url:
                member = made.member("bank-b", url, BANK_B)
                error = await caught(member.certificates())
                assert plain(error), f"{what}: {error!r}"
                assert "is not proven by our enrolment key" in str(error), what
                assert not member.documents.content, f"{what}: nothing of it is stored"
        async with lying(made, replayed) as url:
            member = made.member("bank-b", url, BANK_B)
            assert await member.enrolment.trust_root()
            error = await caught(member.certificates())
            assert "is not proven" in str(error), "an older answer is no answer to a newer request"

    play(history)


def test_a_node_waits_for_an_authority_that_does_not_accept_its_key_yet(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B, key="d" * 64)
            with pytest.raises(WaitingError, match="does not take our enrolment key; wanted: bank-b known to it"):
                await member.certificates()
            member.key = made.enrolment_keys["bank-b"]
            assert await member.certificates(), "both now have this generation of keys"
            with pytest.raises(WaitingError, match="bank-c known to it"):
                await made.member("bank-c", vm.url, BANK_B).certificates()

    play(history)


def test_answers_that_are_too_large_or_too_late_fail(play):
    async def history(made: Network) -> None:
        async def huge(respond: Respond, request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(40):
                await response.write(b"x" * 65_536)
            return response

        async def slow(respond: Respond, request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(100):
                await response.write(b"x")
                await asyncio.sleep(0.1)
            return response

        async with lying(made, huge) as url:
            error = await caught(made.member("bank-b", url, BANK_B).certificates())
            assert plain(error)
            assert f"more than {MAX_ENROLMENT_BYTES} bytes" in str(error)
        async with lying(made, slow) as url:
            member = made.member("bank-b", url, BANK_B)
            member.enrolment._answer_seconds = 1.0
            began = time.monotonic()
            assert isinstance(await caught(member.certificates()), WaitingError), "an answer may come later"
            assert time.monotonic() - began < 2
        url = "https://127.0.0.1:1"
        error = await caught(made.member("bank-b", url, BANK_B).certificates())
        assert isinstance(error, WaitingError)
        assert url in str(error), "the message says who must act"

    play(history)


def zip_of(content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        archive.writestr("0.cer", content)
    return packed.getvalue()


def long() -> bytes:
    """A whole certificate in DER, longer than any that is read."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "long")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    filling = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9999.1"), bytes(70_000))
    return builder.add_extension(filling, critical=False).sign(key, SHA256()).public_bytes(Encoding.DER)


def many() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for index in range(20):
            archive.writestr(f"{index}.cer", b"")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"", "wanted a zip"),
        (b"PK\x05\x06" + b"\0" * 18, "0 entries"),
        (many(), "20 entries"),
        (zip_of(bytes(50_000_000)), "wanted a zip of certificates in DER"),
        # Other methods unpack a whole entry, however little is read.
        (zip_of(bytes(1000), zipfile.ZIP_BZIP2), "compression 12"),
        (zip_of(long()), "wanted a zip of certificates in DER"),
        (b"not a zip", "wanted a zip"),
    ],
    ids=["nothing", "empty", "many", "bomb", "other-compression", "long-certificate", "other"],
)
def test_an_answer_that_is_no_zip_of_certificates_is_refused(play, answer, match):
    async def history(made: Network) -> None:
        async def lie(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
            if request.path.startswith("/certificate/"):
                return proven(made, request, 200, answer)
            return await honest(request)

        async with lying(made, lie) as url:
            with pytest.raises(SoftwareError, match=match):
                await made.member("bank-b", url, BANK_B).certificates()

    play(history)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"", "wanted schema 1.x"),
        (b"[]", "wanted schema 1.x"),
        (b'{"schema": "2.0", "trustRoot": "x", "epoch": 1, "networkParameters": null}', "schema"),
        (
            b'{"schema": "1.0", "trustRoot": "x", "epoch": 1, "networkParameters": null}',
            "self-signed certificate in PEM",
        ),
        (b'{"schema": "1.0", "trustRoot": "x", "epoch": "many", "networkParameters": null}', "epoch"),
    ],
)
def test_a_malformed_network_answer_is_refused(play, answer, match):
    async def history(made: Network) -> None:
        async with lying(made, lambda _, request: proven(made, request, 200, answer)) as url:
            member = made.member("bank-b", url, BANK_B)
            with pytest.raises(SoftwareError, match=match):
                await member.certificates()
            assert not member.documents.content

    play(history)


def newer(made: Network, changes: dict[str, Any]) -> Callable[[Respond, web.BaseRequest], Any]:
    """An authority whose answer on its network has these properties too; for `lying`."""

    async def respond(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
        answer = await honest(request)
        assert isinstance(answer, web.Response)
        if request.path != "/network":
            return answer
        network = json.loads(bytes(answer.body or b"")) | changes  # type: ignore[arg-type]
        return proven(made, request, 200, json.dumps(network).encode())

    return respond


def test_additional_fields_of_a_newer_authority_are_ignored(play):
    async def history(made: Network) -> None:
        async with lying(made, newer(made, {"schema": "1.7", "more": [1]})) as url:
            assert await made.member("bank-b", url, BANK_B).certificates()

    play(history)


def test_another_major_version_of_an_authority_is_refused(play):
    async def history(made: Network) -> None:
        async with lying(made, newer(made, {"schema": "2.0"})) as url:
            member = made.member("bank-b", url, BANK_B)
            with pytest.raises(SoftwareError, match=r"/network: schema: .*; wanted schema 1.x"):
                await member.certificates()
            assert not member.documents.content, "and nothing of it is stored"

    play(history)


def test_unverifiable_certificates_are_not_stored(play):
    async def history(made: Network) -> None:
        other = make_network(made.clock())
        async with made.vm() as vm:
            own = await vm.authority.open()
            member = made.member("bank-b", vm.url, BANK_B)
            name, keys = member.identity(1).legal_name, member.keys["node-1"]

            def issue(role: CertificateRole, key: str, subject: str = name) -> tuple[x509.Certificate, ...]:
                return other.certify(role, read_key(keys, key), subject, now=made.clock())

            answers = {
                "of another network": issue(CertificateRole.NODE_CA, NODE_CA_KEY),
                "with our root put on top": (
                    *issue(CertificateRole.NODE_CA, NODE_CA_KEY)[:2],
                    own.certificates["root"],
                ),
                "the identity CA's own": (own.certificates["identity-ca"], own.certificates["root"]),
            }
            for what, chain in answers.items():

                async def lie(
                    honest: Respond, request: web.BaseRequest, chain: tuple[x509.Certificate, ...] = chain
                ) -> web.StreamResponse:
                    if request.path.startswith("/certificate/"):
                        return proven(made, request, 200, zipped(chain))
                    return await honest(request)

                async with lying(made, lie) as url:
                    liars = Member("bank-b", BANK_B, made, url)
                    liars.keys = member.keys
                    assert plain(await caught(liars.certificates())), what
                    assert set(liars.documents.content) == {TRUST_ROOT}, f"{what}: not stored"

    play(history)


@pytest.mark.parametrize(("status", "waits"), [(401, True), (403, True), (404, True), (400, False), (418, False)])
def test_a_refusal_of_the_authority_is_no_fault_of_the_vm(play, status, waits):
    async def history(made: Network) -> None:
        async def lie(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/network":
                return await honest(request)
            return proven(made, request, status, b"no such name here")

        async with lying(made, lie) as url:
            error = await caught(made.member("bank-b", url, BANK_B).certificates())
            assert isinstance(error, WaitingError) is waits, "another VM would get the same answer"
            assert f"{url}: certificate" in str(error), "the message says who refused"
            assert "refused: no such name here" in str(error)
            assert ("wanted: corrected at the network's authority" in str(error)) is waits

    play(history)


# --- The trust root ------------------------------------------------------------------------------------------------


def test_the_first_proven_root_is_stored_and_no_other_accepted(play, tls):
    async def history(made: Network) -> None:
        async with made.vm() as vm, network(tls, None) as another, another.vm() as other:
            member = made.member("bank-b", vm.url, BANK_B)
            first = await member.certificates()
            assert member.documents.content[TRUST_ROOT].content == to_pem(first.trust_root).encode()
            # The bank's authority is set up again with other keys: its operator must inform every member.
            moved = Member("bank-b", BANK_B, another, other.url)
            moved.documents, moved.keys = member.documents, member.keys
            moved.context = replace(moved.context, documents=member.documents)
            moved.enrolment = moved.vm()
            assert await moved.certificates(1) == first, "stored certificates need no authority"
            error = await caught(moved.certificates(2))
            assert plain(error)
            assert "does not end with the network's root" in str(error)
            error = await caught(moved.enrolment.network_parameters(epoch_of))
            assert plain(error)
            assert "wanted the root that this bank first took" in str(error)
            assert await moved.enrolment.trust_root() == first.trust_root

    play(history)


def test_no_root_but_the_pinned_one_is_accepted(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            root = (await vm.authority.open()).certificates["root"]
            member = made.member("bank-b", vm.url, BANK_B, trust_root=fingerprint(root))
            assert (await member.certificates()).trust_root == root
            outsider = made.member("bank-b", vm.url, BANK_B, trust_root=f"sha256:{'0' * 64}")
            error = await caught(outsider.certificates())
            assert plain(error)
            assert f"wanted the pinned sha256:{'0' * 64}" in str(error)
            assert not outsider.documents.content
            # A pin that is set after the root was stored.
            member.context = replace(member.context, trust_root=f"sha256:{'0' * 64}")
            assert "document trust-root" in str(await caught(member.vm().trust_root()))

    play(history)


def test_vms_that_ask_at_the_same_time_store_one_root(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            roots = await asyncio.gather(*(member.vm().trust_root() for _ in range(4)))
            assert len(set(roots)) == 1

    play(history)


# --- What is stored ------------------------------------------------------------------------------------------------


def test_unusable_stored_certificates_are_requested_again(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            whole = await member.certificates()
            document = member.documents.content["certificates/node-1"]
            for damage in (b"", b"{}", document.content[:-40], Chains.to_json(await member.certificates(2))):
                stored = member.documents.content["certificates/node-1"]
                await member.documents.write("certificates/node-1", damage, stored.etag)
                again = await member.certificates()
                assert (again.node_ca, again.identity) == (whole.node_ca, whole.identity)
                assert member.documents.content["certificates/node-1"].content == again.to_json()

    play(history)


def test_another_frontend_requires_another_rpc_certificate(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            before = await member.certificates()
            member.context = replace(member.context, frontend="10.1.255.5")
            after = await member.vm().certificates(member.identity(1), member.keys["node-1"])
            assert after.rpc != before.rpc
            assert after.identity == before.identity, "the legal identity stays"

    play(history)


def test_an_rpc_certificate_outlives_the_other_certificates_but_not_its_key(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            before = await member.certificates()
            made.clock.ahead = LIFETIME + timedelta(days=1)
            after = await member.vm().certificates(member.identity(1), member.keys["node-1"])
            assert after.tls != before.tls, "those of the network have ended"
            assert after.rpc == before.rpc, "the bank's applications pin it"
            await vm.authority.revoke(f"OU=node-1, {BANK_B}", "alice")
            member.keys["node-1"] = make_keys()
            with pytest.raises(WaitingError, match="approved by an operator"):
                await member.certificates()
            for each in await vm.authority.pending():
                await vm.authority.approve(each.id, "alice")
            assert (await member.certificates()).rpc != before.rpc, "the node has another key"

    play(history)


def test_a_stored_rpc_certificate_of_another_key_is_replaced_alone(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            before = await member.certificates()
            stored = await member.documents.read("certificates/node-1")
            assert stored
            legal_name, at = member.identity(1).legal_name, member.context.frontend
            other = issue_rpc(make_keys(), legal_name, at, now=made.clock())
            content = before.model_copy(update={"rpc": other}).to_json()
            assert await member.documents.write("certificates/node-1", content, stored.etag)
            after = await member.vm().certificates(member.identity(1), member.keys["node-1"])
            assert after.rpc not in {before.rpc, other}, (
                "the node's key would not fit, and no application could call it"
            )
            assert after.model_copy(update={"rpc": before.rpc}) == before, "the network's certificates stay"

    play(history)


def test_an_outage_of_the_documents_is_reported_as_such(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            member.documents.away = True
            with pytest.raises(UnavailableError):
                await member.certificates()
            member.documents.away = False
            chains = await member.certificates()
            member.documents.away = True
            with pytest.raises(UnavailableError):
                await member.certificates()
            assert not member.enrolment.renewal_due(chains), "a running node keeps running"

    play(history)


def test_a_failed_renewal_leaves_the_node_its_certificates(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            chains = await member.certificates()
        made.clock.ahead = timedelta(days=250)
        assert await member.certificates() == chains, (
            "the authority is unavailable, and the certificates are valid for months"
        )
        assert not member.enrolment.renewal_due(chains), "there is no further attempt within the hour"
        made.clock.ahead = timedelta(days=366)
        assert isinstance(await caught(member.certificates()), WaitingError), "now they have expired"

    play(history)


def test_stored_parameters_are_used_while_the_authority_is_unavailable(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            bank_a, bank_b = made.member("bank-a", vm.url, BANK_A), made.member("bank-b", vm.url, BANK_B)
            await bank_a.certificates(1)
            await vm.authority.run_due_tasks()
            parameters = await bank_b.enrolment.network_parameters(epoch_of)
            assert parameters
            assert bank_b.documents.content[NETWORK_DOCUMENT].content == parameters, "as nodes read them"
        assert await bank_b.enrolment.network_parameters(epoch_of) == parameters
        assert isinstance(await caught(bank_a.vm().network_parameters(epoch_of)), WaitingError), (
            "they were never stored here"
        )

    play(history)


def with_parameters(document: bytes, made: Network) -> Callable[[Respond, web.BaseRequest], Any]:
    """An authority that answers with these network parameters, and else correctly."""

    async def lie(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
        answer = await honest(request)
        assert isinstance(answer, web.Response)
        if request.path != "/network":
            return answer
        changed = json.loads(bytes(answer.body or b""))  # type: ignore[arg-type]
        changed["networkParameters"] = base64.b64encode(document).decode()
        return proven(made, request, 200, json.dumps(changed).encode())

    return lie


def test_a_wrong_answer_does_not_replace_stored_parameters_and_certificates(play):
    async def history(made: Network) -> None:
        other = make_network(made.clock())
        another_root = json.dumps(
            {"schema": "1.0", "trustRoot": to_pem(other.root), "epoch": 1, "networkParameters": None}
        ).encode()

        async def no_base64(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
            answer = await honest(request)
            assert isinstance(answer, web.Response)
            changed = json.loads(bytes(answer.body or b"")) | {"networkParameters": "?"}  # type: ignore[arg-type]
            return proven(made, request, 200, json.dumps(changed).encode())

        lies: dict[str, Callable[[Respond, web.BaseRequest], Any]] = {
            "no network": lambda _, request: proven(made, request, 200, b"{}"),
            "our clock is wrong": lambda _, request: proven(made, request, 400, b"the clocks are 400 s apart"),
            "not proven": lambda _, request: web.Response(status=404),
            "of another network": lambda _, request: proven(made, request, 200, another_root),
            "no base64": no_base64,
            "not signed by the network": with_parameters(b"nobody signed this", made),
            "an older epoch": with_parameters(b'{"epoch": 0}', made),
            # No later one could follow: Corda's epoch has 32 bits.
            "the last epoch": with_parameters(b'{"epoch": 2147483647}', made),
        }
        async with made.vm() as vm:
            bank_a, bank_b = made.member("bank-a", vm.url, BANK_A), made.member("bank-b", vm.url, BANK_B)
            await bank_a.certificates(1)
            await vm.authority.run_due_tasks()
            chains, parameters = await bank_b.certificates(), await bank_b.enrolment.network_parameters(epoch_of)
        for what, lie in lies.items():
            async with lying(made, lie) as url:
                bank_b.context = replace(
                    bank_b.context, network=replace(bank_b.context.network, url=url)  # type: ignore[type-var]
                )  # fmt: skip
                read = await bank_b.vm().network_parameters(epoch_of)
                assert read == parameters, f"{what}: the stored parameters stay in use"
                assert bank_b.documents.content[NETWORK_DOCUMENT].content == parameters, (
                    f"{what}: the stored document is unchanged"
                )
                if what not in {"of another network", "an older epoch", "the last epoch"}:
                    outsider = made.member("bank-b", url, BANK_B)
                    assert plain(await caught(outsider.enrolment.network_parameters(epoch_of))), what
                    assert NETWORK_DOCUMENT not in outsider.documents.content, f"{what}: not stored"
        async with lying(made, with_parameters(b'{"epoch": 7}', made)) as url:
            bank_b.context = replace(
                bank_b.context, network=replace(bank_b.context.network, url=url)  # type: ignore[type-var]
            )  # fmt: skip
            assert await bank_b.vm().network_parameters(epoch_of) == b'{"epoch": 7}', "a later epoch is accepted"

        async def damaged() -> bytes:
            raise DamagedError("secret enrolment-key is none")

        bank_b.context = replace(
            bank_b.context, network=replace(bank_b.context.network, key=damaged)  # type: ignore[type-var]
        )  # fmt: skip
        vm_b = bank_b.vm()
        assert await vm_b.network_parameters(epoch_of) == b'{"epoch": 7}', (
            "a damaged enrolment key does not replace them either"
        )
        made.clock.ahead = timedelta(days=250)
        stored = await vm_b.certificates(bank_b.identity(1), bank_b.keys["node-1"])
        assert stored == chains, "they are due for renewal, and valid for months"
        await vm_b._renew(bank_b.identity(1), bank_b.keys["node-1"])

    play(history)


def test_a_clock_that_was_set_back_delays_no_renewal(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            chains, enrolment = await member.certificates(1), member.enrolment
            made.clock.ahead = timedelta(days=3650)
            enrolment._not_renewed(member.identity(1), WaitingError("no answer"))
            enrolment._looked = enrolment._now()
            made.clock.ahead = timedelta(days=300)
            due = enrolment._due(chains, member.identity(1), member.keys["node-1"])
            assert due, "until the certificates expire, or the agent restarts"
            enrolment._check_issuer()
            assert enrolment._checking, "nor the news of another CA"
            await enrolment._checking

    play(history)


def test_damaged_stored_parameters_are_fetched_again(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            bank_a = made.member("bank-a", vm.url, BANK_A)
            await bank_a.certificates(1)
            await vm.authority.run_due_tasks()
            parameters = await bank_a.enrolment.network_parameters(epoch_of)
            stored = bank_a.documents.content[NETWORK_DOCUMENT]
            await bank_a.documents.write(NETWORK_DOCUMENT, b"torn", stored.etag)
            assert await bank_a.vm().network_parameters(epoch_of) == parameters
            assert bank_a.documents.content[NETWORK_DOCUMENT].content == parameters

    play(history)


def test_parameters_that_are_not_base64_are_refused(play):
    async def history(made: Network) -> None:
        async def lie(honest: Respond, request: web.BaseRequest) -> web.StreamResponse:
            answer = await honest(request)
            assert isinstance(answer, web.Response)
            changed = json.loads(bytes(answer.body or b"")) | {"networkParameters": "?", "epoch": 1}  # type: ignore[arg-type]
            return proven(made, request, 200, json.dumps(changed).encode())

        async with lying(made, lie) as url:
            error = await caught(made.member("bank-b", url, BANK_B).enrolment.network_parameters(epoch_of))
            assert plain(error)
            assert "not base64" in str(error)

    play(history)


def test_without_an_authority_or_zone_a_node_waits(play):
    async def history(made: Network) -> None:
        member = made.member("bank-b", "https://127.0.0.1:1", BANK_B)
        member.context = replace(member.context, network=None)
        with pytest.raises(WaitingError, match=r"wanted ledger\.network"):
            await member.vm().certificates(member.identity(1), member.keys["node-1"])
        assert await member.vm().network_parameters(epoch_of) is None

    play(history)


# --- A zone --------------------------------------------------------------------------------------------------------


class Doorman:
    """A zone's registration service: Corda's protocol without this project's proofs."""

    def __init__(self, now: Any) -> None:
        self.network = make_network(now)
        self.requests: dict[str, bytes] = {}
        self.posted: list[dict[str, str]] = []
        self.pending, self.rejected, self.now = 0, "", now

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        if (request.method, request.path) == ("POST", "/zone/certificate"):
            self.posted.append(dict(request.headers))
            identifier = f"C1.F0-{len(self.posted)}"
            self.requests[identifier] = await request.read()
            return web.Response(text=identifier)
        identifier = request.path.removeprefix("/zone/certificate/")
        if request.method != "GET" or identifier not in self.requests:
            return web.Response(status=404)
        if self.rejected:
            return web.Response(status=401, text=self.rejected)
        if self.pending:
            self.pending -= 1
            return web.Response(status=204, headers={"Cache-Control": "max-age=1"})
        asked = read_request(self.requests[identifier])
        builder = certificate(
            asked.role, x500_name(asked.legal_name), asked.public_key, self.network.ca, now=self.now
        )
        leaf = builder.sign(self.network.ca_key, SHA256())
        return web.Response(body=zipped((leaf, self.network.ca, self.network.root)), content_type="application/zip")


def zoned(
    made: Network, doorman: Doorman, port: int, root: x509.Certificate | None = None, scheme: str = "http"
) -> Member:
    url = f"{scheme}://127.0.0.1:{port}/zone/"
    trusted = to_pem(root or doorman.network.root)
    zone = Zone(registration_url=url, network_map_url=url, trust_root=trusted)
    return Member("bank-b", BANK_B, made, url, zone=zone)


def test_a_zone_certifies_the_node_ca_which_certifies_the_identity(play):
    async def history(made: Network) -> None:
        doorman = Doorman(made.clock())
        doorman.pending = 2
        async with serving_requests(doorman.respond, None, "127.0.0.1", 0) as port:
            member = zoned(made, doorman, port)
            with pytest.raises(WaitingError, match=r"request C1\.F0-1 waits"):
                await member.certificates()
            member.enrolment = member.vm()
            with pytest.raises(WaitingError):
                await member.certificates()
            chains = await member.certificates()
            assert len(doorman.posted) == 1, "requested once, whichever VM polls"
            asked = read_request(doorman.requests["C1.F0-1"])
            assert (asked.legal_name, asked.role) == (f"OU=node-1, {BANK_B}", CertificateRole.NODE_CA)
            headers = doorman.posted[0]
            assert (headers["Platform-Version"], headers["Client-Version"]) == ("12", "4.10"), "as a node sends it"
            assert not {proof.MEMBER, proof.NONCE, proof.REQUEST_PROOF} & set(headers), (
                "a zone shares no key with members"
            )
            assert [role_of(each) for each in chains.identity] == [
                CertificateRole.LEGAL_IDENTITY,
                CertificateRole.NODE_CA,
                CertificateRole.DOORMAN_CA,
                None,
            ], "the node CA certifies the identity"
            assert chains.identity[1:] == chains.node_ca == chains.tls[1:]
            key = read_key(member.keys["node-1"], IDENTITY_KEY).public_key()
            assert key_hash(chains.identity[0].public_key()) == key_hash(key)
            assert await member.certificates() == chains
            assert await member.enrolment.network_parameters(epoch_of) is None, (
                "nodes get them from the zone's network map"
            )

    play(history)


def test_a_zone_without_a_public_certificate_is_not_asked(play):
    async def history(made: Network) -> None:
        doorman = Doorman(made.clock())
        async with serving_requests(doorman.respond, server_context(), "127.0.0.1", 0) as port:
            error = await caught(zoned(made, doorman, port, scheme="https").certificates())
            assert isinstance(error, WaitingError), "its operator or the way to it is at fault"
            assert not doorman.posted, "its answers have no other proof of who sends them"

    play(history)


def test_a_request_that_a_zone_rejected_is_sent_again_at_the_next_start(play):
    async def history(made: Network) -> None:
        doorman = Doorman(made.clock())
        doorman.rejected = "the name is\r\nforbidden\x1b[31m"
        async with serving_requests(doorman.respond, None, "127.0.0.1", 0) as port:
            member = zoned(made, doorman, port)
            error = await caught(member.certificates())
            assert plain(error)
            assert "refused: the name isforbidden[31m" in str(error), "no control characters in a log"
            doorman.rejected = ""
            assert await member.certificates()
            assert len(doorman.posted) == 2

    play(history)


def test_a_request_that_a_zone_lost_is_sent_again(play):
    async def history(made: Network) -> None:
        doorman = Doorman(made.clock())
        doorman.pending = 1
        async with serving_requests(doorman.respond, None, "127.0.0.1", 0) as port:
            member = zoned(made, doorman, port)
            assert isinstance(await caught(member.certificates()), WaitingError)
            doorman.requests.clear()
            assert plain(await caught(member.certificates()))
            assert await member.certificates()
            # Another key is another request.
            member.keys["node-1"] = make_keys()
            assert await member.certificates()
            assert len(doorman.posted) == 3

    play(history)


def test_a_zone_with_another_root_than_configured_is_refused(play):
    async def history(made: Network) -> None:
        doorman, other = Doorman(made.clock()), make_network(made.clock())
        async with serving_requests(doorman.respond, None, "127.0.0.1", 0) as port:
            member = zoned(made, doorman, port, other.root)
            error = await caught(member.certificates())
            assert plain(error)
            assert "does not end with the network's root" in str(error)
            # The configuration names another zone than the one whose root is stored.
            moved = zoned(made, doorman, port)
            moved.context = replace(moved.context, documents=member.documents)
            assert "wanted the root that this bank first took" in str(await caught(moved.vm().trust_root()))

    play(history)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_node_waits_for_a_zone_that_fails(play, status):
    async def history(made: Network) -> None:
        async def respond(_: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=status)

        async with serving_requests(respond, None, "127.0.0.1", 0) as port:
            error = await caught(zoned(made, Doorman(made.clock()), port).certificates())
            assert isinstance(error, WaitingError)
            assert str(status) in str(error)

    play(history)


@pytest.mark.parametrize("identifier", ["", ".", "..", "../admin", "a b", "x" * 200, "ü"])
def test_an_invalid_request_id_of_a_zone_is_refused(play, identifier):
    async def history(made: Network) -> None:
        async def respond(request: web.BaseRequest) -> web.StreamResponse:
            assert request.method == "POST", "nothing else is requested"
            return web.Response(text=identifier)

        async with serving_requests(respond, None, "127.0.0.1", 0) as port:
            error = await caught(zoned(made, Doorman(made.clock()), port).certificates())
            assert plain(error)
            assert "is not a request id" in str(error)

    play(history)


# --- Proofs --------------------------------------------------------------------------------------------------------


def test_no_text_can_move_from_one_part_of_an_authenticated_message_to_the_next():
    parts: dict[str, Any] = {
        "member": "bank-b",
        "method": "GET",
        "path": "/a",
        "nonce": "00",
        "time": "1",
        "body": b"x",
    }
    proofs = {proof.request_proof(b"k" * 32, **parts)}
    for changes in (
        {"member": "bank-bGET", "method": ""},
        {"path": "/a00", "nonce": ""},
        {"nonce": "001", "time": ""},
        {"body": b"y"},
        {"path": '/a","00'},
    ):
        proofs.add(proof.request_proof(b"k" * 32, **parts | changes))
    proofs.add(proof.request_proof(b"l" * 32, **parts))
    proofs.add(proof.answer_proof(b"k" * 32, member="bank-b", nonce="00", status=200, body=b"x"))
    assert len(proofs) == 8, "each message has another proof"


def test_the_form_of_a_requests_proof_is_stable_over_releases():
    code = proof.request_proof(
        bytes(32), member="bank-b", method="GET", path="/network", nonce="00" * 16, time="1", body=b""
    )
    assert code == "a1138a43d1502f29285282fa29184a7e32ebddcff817fc5fb3df2fd5c33fbe8e", (
        "both sides may run different releases"
    )


def test_a_trust_root_document_with_other_content_is_refused(play):
    async def history(made: Network) -> None:
        async with made.vm() as vm:
            member = made.member("bank-b", vm.url, BANK_B)
            await member.documents.write(TRUST_ROOT, b"nothing", None)
            error = await caught(member.certificates())
            assert plain(error)
            assert "wanted a self-signed certificate in PEM" in str(error)

    play(history)


# --- A new key for a name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approval", [Approval.AUTO, Approval.MANUAL])
def test_a_revoked_name_is_certified_again_with_new_keys(play, tls, approval):
    async def history(made: Network) -> None:
        made.options["approval"] = approval
        context, certificate = tls
        async with (
            made.vm() as vm,
            serving(Vault(), context) as url,
            client_of(url, certificate) as vault,
        ):
            bank = made.member("bank-b", vm.url, BANK_B)

            async def started(known: str | None) -> tuple[str, Chains]:
                """What a holder's agent does at each start: read the keys, then get their certificates."""
                keys = await KeyVaultKeys(vault, settle_seconds=0).obtain(bank.identity(), make_keys, known)
                enrolment = bank.vm()
                try:
                    return keys.fingerprint, await enrolment.certificates(bank.identity(), keys.blobs)
                except WaitingError:
                    names = (NODE_CA_KEY, IDENTITY_KEY, TLS_KEY)
                    mine = {key_hash(read_key(keys.blobs, name).public_key()) for name in names}
                    waiting = [each for each in await vm.authority.pending() if each.key_hash in mine]
                    assert len(waiting) == 3, "the waiting request is for the keys in use"
                    for each in waiting:
                        await vm.authority.approve(each.id, "alice")
                    return keys.fingerprint, await enrolment.certificates(bank.identity(), keys.blobs)

            old, before = await started(None)
            assert await started(old) == (old, before), "a restart keeps the keys"
            await vm.authority.revoke(bank.identity().legal_name, "alice")
            assert await started(old) == (old, before), "a revocation alone does not replace the keys"
            await vault.update_secret_properties("node-1-keys", tags={"abandoned": "yes"})
            new, after = await started(old)
            assert new != old, "the record has the new fingerprint"
            for one, other in ((before.node_ca, after.node_ca), (before.identity, after.identity)):
                assert key_hash(one[0].public_key()) != key_hash(other[0].public_key()), "another key"
                assert one[0].subject == other[0].subject, "under the same name"
            assert after.trust_root == before.trust_root, "in the same network"
            assert await started(new) == (new, after), "and it stays the same"

    play(history)
