"""The secrets of a bank's VMs in its vault: cached, used during outages, quoted in no message."""

import asyncio
import json
import logging
import traceback
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError

from contract.secrets import VaultSecret
from contract.timing import SECRET_POLL_SECONDS
from host import vault
from host.errors import UnavailableError
from host.vault import BankVault, Card, SecretDamagedError, parse_enrolment_key
from lab.banks import key_vault
from lab.cards import make_card
from tests.vaults import Clock, Secrets, not_found

KEY = "0f" * 32


def test_a_404_of_another_server_removes_nothing() -> None:
    secrets = Secrets()
    secrets.fault = not_found("ResourceNotFound")
    with pytest.raises(UnavailableError, match="404 Not Found"):
        run(of(secrets).rpc_users())


def of(secrets: Any, clock: Clock | None = None) -> BankVault:
    return BankVault(secrets, now=clock or Clock())


def run(asked: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await asked

    return asyncio.run(wait())


def test_peers_are_read_from_their_signed_cards() -> None:
    signed = json.dumps(make_card("bank-b") | {"authority": None})
    known = run(of(Secrets(peers='{"bank-b": "keys-peer-bank-b1a2"}', keys_peer_bank_b1a2=signed)).peers())
    assert known.names == {"bank-b"}
    assert known.cards["bank-b"] == Card(
        name="bank-b",
        addresses={
            "OU=node-1, O=Bank B, L=London, C=GB": "10.98.0.254:10000",
            "OU=node-2, O=Bank B, L=London, C=GB": "10.98.0.254:10001",
        },
        network_info_url="https://10.98.0.254:8443/networkinfo",
        address_space=IPv4Network("10.98.0.0/16"),
        document=signed.encode(),
    ), "a later minor version of the card is accepted"


def test_an_unreadable_card_affects_only_its_peer() -> None:
    secrets = Secrets(
        peers='{"bank-b": "b", "bank-c": "c", "bank-d": "d", "bank-e": "e"}',
        b=json.dumps(make_card("bank-b")),
        c=json.dumps(make_card("bank-b")),
        d="{",
    )
    known = run(of(secrets).peers())
    assert known.names == {"bank-b", "bank-c", "bank-d", "bank-e"}, "no member is removed for it"
    assert set(known.cards) == {"bank-b"}


def test_a_missing_list_of_peers_is_not_an_empty_list() -> None:
    with pytest.raises(UnavailableError, match=r"^https://vault.example: secret peers is not there yet$"):
        run(of(Secrets()).peers())


def test_optional_secrets_may_be_missing() -> None:
    empty = of(Secrets())
    assert run(empty.card()) is None, "the infrastructure writes it last"
    assert run(of(Secrets()).rpc_users()) == ()
    with pytest.raises(UnavailableError, match="secret enrolment-key is not there yet"):
        run(of(Secrets()).enrolment_key())


def test_every_kind_of_secret_is_read() -> None:
    users = json.dumps([{"name": "ops", "password": "s3cret", "permissions": ["ALL"]}])
    bank = of(Secrets(card="{}", enrolment_key=KEY, rpc_users=users))

    async def story() -> None:
        assert await bank.card() == b"{}"
        assert await bank.enrolment_key() == bytes.fromhex(KEY)
        (user,) = await bank.rpc_users()
        assert (user.name, user.password, user.permissions) == ("ops", "s3cret", ("ALL",))
        assert "s3cret" not in repr(user)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("secrets", "ask"),
    [
        ({"enrolment_key": "s3cret"}, BankVault.enrolment_key),
        ({"enrolment_key": "s3cret" * 11}, BankVault.enrolment_key),
        ({"rpc_users": '[{"name": "ops", "password": ["s3cret"]}]'}, BankVault.rpc_users),
        ({"rpc_users": '{"s3cret'}, BankVault.rpc_users),
        ({"rpc_users": '[{"name": "ops", "password": "s3cret", "permissions": "s3cret"}]'}, BankVault.rpc_users),
        ({"peers": '["s3cret"]'}, BankVault.peers),
        ({"card": "s3cret\ud800"}, BankVault.card),
        ({"peers": '{"s3cret\ud800": "card"}'}, BankVault.peers),
    ],
)
def test_a_damaged_secret_is_reported_without_its_content(
    secrets: dict[str, str], ask: Callable[[BankVault], Awaitable[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SecretDamagedError, match="; wanted ") as damaged:
        run(ask(of(Secrets(**secrets))))
    shown = "".join(traceback.format_exception(damaged.value, limit=0)) + caplog.text
    assert "s3cret" not in shown, "pydantic's message quotes it"


def test_a_value_is_asked_for_once_a_minute() -> None:
    clock, secrets = Clock(), Secrets(card="1")
    bank = of(secrets, clock)

    async def story() -> None:
        assert [await bank.card(), await bank.card()] == [b"1", b"1"]
        assert secrets.asked == ["card"]
        secrets.values["card"] = "2"
        clock.now = SECRET_POLL_SECONDS - 1
        assert await bank.card() == b"1"
        clock.now = SECRET_POLL_SECONDS
        assert list(await asyncio.gather(bank.card(), bank.card())) == [b"2", b"2"]
        assert secrets.asked == ["card", "card"], "concurrent callers wait for one answer"

    asyncio.run(story())


@pytest.mark.parametrize(
    "fault",
    [HttpResponseError("s3cret"), ServiceRequestError("s3cret"), OSError("s3cret"), ValueError("s3cret")],
)
def test_an_outage_changes_nothing(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    secrets = Secrets(peers='{"bank-b": "b"}', b=json.dumps(make_card("bank-b")), card="1")
    bank = of(secrets, clock)

    async def story() -> None:
        before = await bank.peers(), await bank.card()
        clock.now += SECRET_POLL_SECONDS
        secrets.fault = fault
        asked = len(secrets.asked)
        assert (await bank.peers(), await bank.card()) == before
        assert len(secrets.asked) == asked + 1, "after one failure the other secrets are not requested"
        clock.now += vault.SECRET_RETRY_SECONDS
        assert await bank.card() == b"1"
        assert len(secrets.asked) == asked + 2, "but they are requested soon"
        with pytest.raises(UnavailableError, match="secret enrolment-key") as unknown:
            await bank.enrolment_key()
        assert "s3cret" not in str(unknown.value)
        assert unknown.value.__cause__ is None
        secrets.fault = None
        secrets.values["card"] = "2"
        clock.now += vault.SECRET_RETRY_SECONDS
        assert await bank.card() == b"2"

    with caplog.at_level(logging.DEBUG):
        asyncio.run(story())
    assert "s3cret" not in caplog.text


def test_the_last_value_of_a_deleted_secret_stays_in_use() -> None:
    clock, secrets = Clock(), Secrets(peers="{}")
    bank = of(secrets, clock)

    async def story() -> None:
        await bank.peers()
        del secrets.values["peers"]
        clock.now += SECRET_POLL_SECONDS
        assert (await bank.peers()).names == frozenset(), (
            "an operator can restore a secret that was deleted by mistake"
        )

    asyncio.run(story())


def test_the_secret_names_are_those_of_the_deployment(tmp_path: Path) -> None:
    """They are read by the SDK's client over HTTPS."""
    served = key_vault.Vault()

    async def story() -> None:
        async with key_vault.serving(served, key_vault.write_certificate(tmp_path)) as url:
            client = key_vault.client_of(url, tmp_path / "certificate.pem")
            async with client:
                for name, value in (
                    (VaultSecret.PEERS, "{}"),
                    (VaultSecret.CARD, "{}"),
                    (VaultSecret.ENROLMENT_KEY, KEY),
                ):
                    await client.set_secret(name, value)
                bank = BankVault(client)
                assert (await bank.peers()).names == frozenset()
                assert await bank.card() == b"{}"
                assert await bank.enrolment_key() == bytes.fromhex(KEY)
                assert await bank.rpc_users() == ()

    asyncio.run(story())


def test_an_enrolment_key_has_32_bytes() -> None:
    assert parse_enrolment_key(KEY, "x") == bytes.fromhex(KEY)
    for wrong in ("", "zz" * 32, "0f" * 31):
        with pytest.raises(SecretDamagedError, match=rf"^x: {len(wrong)} characters; wanted 64 hex digits$"):
            parse_enrolment_key(wrong, "x")
