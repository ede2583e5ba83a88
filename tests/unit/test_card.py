"""The contract between banks: nobody can forge a card, and no third party can derive a key."""

import base64
import hmac
import json
import re
from collections.abc import Collection, Iterator
from copy import deepcopy
from ipaddress import IPv4Network
from itertools import product
from random import Random
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from contract.card import (
    CARD_SCHEMA,
    IpsecPolicy,
    LinkKind,
    MembershipCard,
    MembershipError,
    SeenCard,
    card_schema,
    check_asn,
    last_card,
    next_card,
    read_card,
    sign,
    signing_public_key,
    with_nulls,
)
from contract.consortium import MemberProfile, check_consortium
from contract.fingerprint import fingerprint
from contract.key_agreement import Party, Purpose, agree, enrolment_key, link_public_key
from lab import ROOT
from lab.cards import TENANT, link_secret, make_card, resigned, signing_seed

SOURCE = "stack bank-b/decentralized-trust/prod"
SCHEMA_FILE = ROOT / "schemas" / "membership-card.schema.json"


# --- Cards to read -------------------------------------------------------------------------------------------------

Steps = tuple[str | int, ...]


def leaves(value: object, path: Steps = ()) -> Iterator[Steps]:
    """The paths to all plain values of a card."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield path
    else:
        for key, each in pairs:
            yield from leaves(each, (*path, key))


def at(card: dict[str, Any], path: Steps) -> Any:
    value: Any = card
    for step in path:
        value = value[step]
    return value


def replaced(card: dict[str, Any], path: Steps, value: object) -> dict[str, Any]:
    """A copy of the card with one value changed, and its signature left as it was."""
    copy = deepcopy(card)
    at(copy, path[:-1])[path[-1]] = value
    return copy


def restated(path: Steps, value: object) -> dict[str, Any]:
    """Bank B's card with one value changed and signed by bank B: wrong, but not forged."""
    return resigned(replaced(make_card(), path, value), signing_seed("bank-b"))


def dotted(path: Steps) -> str:
    return ".".join(str(step) for step in path)


def read(document: object, name: str = "bank-b", pinned: str | None = None) -> MembershipCard:
    return read_card(document, name=name, pinned=pinned, source=SOURCE)


def refusal(document: object, name: str = "bank-b", pinned: str | None = None) -> str:
    with pytest.raises(MembershipError) as refused:
        read(document, name, pinned)
    message = str(refused.value)
    assert message.startswith(f"peer {name}: {SOURCE}: "), "an operator must learn which peer and which source"
    assert "; wanted " in message, "an operator must learn what would be right"
    return message


LATER = {"authority", "counter"}
"""What a later minor version than 1.0 added: a card may lack it."""
CARD = make_card()
LEAVES = list(leaves(CARD))
SIGNED_STRINGS = [path for path in LEAVES if path != ("signature",) and isinstance(at(CARD, path), str)]


# --- Known answers -------------------------------------------------------------------------------------------------

# RFC 7748, section 6.1.
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
ALICE_AND_BOB = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
# RFC 8032, section 7.1, test 1.
SEED_1 = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC_1 = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def encoded(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def hkdf_sha256(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with an absent salt, for one block of output."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


@pytest.mark.parametrize(("secret", "public"), [(ALICE, ALICE_PUBLIC), (BOB, BOB_PUBLIC)], ids=["alice", "bob"])
def test_link_public_key_is_x25519(secret: bytes, public: str) -> None:
    assert link_public_key(secret) == encoded(public), "the public half must be the one of RFC 7748"


def test_signing_public_key_is_ed25519() -> None:
    assert signing_public_key(SEED_1) == encoded(PUBLIC_1), "the public half must be the one of RFC 8032"


def test_fingerprint_is_sha256_of_the_raw_key() -> None:
    expected = "sha256:21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9"
    assert fingerprint(encoded(PUBLIC_1)) == expected, "a bank that pins a key computes this with sha256sum"


def test_agreed_key_is_hkdf_over_x25519() -> None:
    alice = Party(name="bank-a", public_key=encoded(ALICE_PUBLIC), generation=1)
    bob = Party(name="bank-b", public_key=encoded(BOB_PUBLIC), generation=2)
    info = (
        '["decentralized-trust/v1","link","ipsec",'
        '[["bank-a","hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",1],'
        '["bank-b","3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",2]]]'
    )
    key = agree(ALICE, alice, bob, Purpose.LINK, LinkKind.IPSEC)
    assert key == hkdf_sha256(ALICE_AND_BOB, info.encode()).hex(), "the derivation is part of the contract"
    assert key == "824a9dfe5f1c68f3395ac3f51e3d4647a50287dbd3947d4d9da572a0b6ef01a6", (
        "a changed derivation breaks every link of a running consortium: it needs a new context and major version"
    )
    assert key == agree(BOB, bob, alice, Purpose.LINK, LinkKind.IPSEC), "the other side must derive the same"


def test_signature_covers_sorted_compact_json() -> None:
    signed = sign({"b": [1, 2.0], "a": "Zürich", "c": None}, SEED_1)
    text = '{"a":"Zürich","b":[1,2],"c":null,"signingKey":"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}'
    expected = Ed25519PrivateKey.from_private_bytes(SEED_1).sign(text.encode())
    assert base64.b64decode(signed["signature"]) == expected, "any other program must be able to check a card"


# --- Key agreement -------------------------------------------------------------------------------------------------


def party(name: str, *, secret: bytes | None = None, generation: int = 1) -> Party:
    return Party(name=name, public_key=link_public_key(secret or link_secret(name)), generation=generation)


def agreed(
    mine: str = "bank-a",
    theirs: str = "bank-b",
    *,
    generations: tuple[int, int] = (1, 1),
    purpose: Purpose = Purpose.LINK,
    detail: str = LinkKind.IPSEC,
) -> str:
    """The key of two members with the secrets of banks A and B and any names."""
    one = party(mine, secret=link_secret("bank-a"), generation=generations[0])
    other = party(theirs, secret=link_secret("bank-b"), generation=generations[1])
    return agree(link_secret("bank-a"), one, other, purpose, detail)


secrets = st.binary(min_size=32, max_size=32)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
generations = st.integers(min_value=1, max_value=1000)


@given(
    one=st.tuples(secrets, names, generations),
    other=st.tuples(secrets, names, generations),
    purpose=st.sampled_from(Purpose),
    detail=st.sampled_from(LinkKind),
)
def test_both_sides_agree(
    one: tuple[bytes, str, int], other: tuple[bytes, str, int], purpose: Purpose, detail: LinkKind
) -> None:
    (our_secret, our_name, our_generation), (their_secret, their_name, their_generation) = one, other
    us = party(our_name, secret=our_secret, generation=our_generation)
    them = party(their_name, secret=their_secret, generation=their_generation)
    assume(us.public_key != them.public_key)
    key = agree(our_secret, us, them, purpose, detail)
    assert key == agree(their_secret, them, us, purpose, detail), "with different keys there is no link"
    assert re.fullmatch("[0-9a-f]{64}", key), "256 bits, in characters that Azure accepts in a pre-shared key"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"purpose": Purpose.ENROL}, id="purpose"),
        pytest.param({"detail": LinkKind.VNET_TO_VNET}, id="link-kind"),
        pytest.param({"mine": "bank-c"}, id="our-name"),
        pytest.param({"theirs": "bank-c"}, id="their-name"),
        pytest.param({"generations": (2, 1)}, id="our-generation"),
        pytest.param({"generations": (1, 2)}, id="their-generation"),
    ],
)
def test_every_bound_value_changes_the_key(changed: dict[str, Any]) -> None:
    assert agreed(**changed) != agreed(), "a key must reveal nothing about a key of another use"


def test_each_members_generation_is_bound() -> None:
    assert agreed(generations=(2, 1)) != agreed(generations=(1, 2)), "it must matter which member's key was replaced"


def test_a_third_bank_cannot_derive_the_key() -> None:
    honest = agreed()
    a, b, c = (party(name) for name in ("bank-a", "bank-b", "bank-c"))
    attempts = {
        agree(link_secret("bank-c"), mine, theirs, purpose, detail)
        for mine, theirs in product((a, b, c), repeat=2)
        if theirs not in (mine, c)
        for purpose in Purpose
        for detail in LinkKind
    }
    assert len(attempts) > 6, "bank C must have tried as itself and in both other banks' names"
    assert honest not in attempts, "a reader of both cards without either secret must learn nothing"


LOW_ORDER_POINTS = {
    "zero": "0000000000000000000000000000000000000000000000000000000000000000",
    "one": "0100000000000000000000000000000000000000000000000000000000000000",
    "order-8": "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "order-8-too": "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "p-minus-1": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "p": "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "p-plus-1": "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}


@pytest.mark.parametrize("top_bit", [0x00, 0x80], ids=["top-bit-clear", "top-bit-set"])
@pytest.mark.parametrize("point", LOW_ORDER_POINTS.values(), ids=LOW_ORDER_POINTS)
def test_low_order_points_are_refused(point: str, top_bit: int) -> None:
    raw = bytearray.fromhex(point)
    raw[31] |= top_bit  # X25519 ignores this bit, so each point has two spellings
    theirs = Party(name="bank-b", public_key=base64.b64encode(raw).decode(), generation=1)
    with pytest.raises(MembershipError, match=r"peer bank-b: linkPublicKey .* is a low-order point; wanted"):
        agree(link_secret("bank-a"), party("bank-a"), theirs, Purpose.LINK, LinkKind.IPSEC)


def enrolled(mine: str, theirs: str | None, authority: str, generation: int = 1) -> str:
    """The enrolment key as a member derives it."""
    return enrolment_key(
        link_secret(mine), party(mine, generation=generation), party(theirs) if theirs else None, authority
    )


def test_a_member_and_its_authority_have_one_enrolment_key() -> None:
    key = enrolled("bank-a", "bank-b", "bank-b")
    assert key == enrolled("bank-b", "bank-a", "bank-b"), "otherwise no request would be authenticated"
    assert re.fullmatch("[0-9a-f]{64}", key), "256 bits"
    assert key == agreed(purpose=Purpose.ENROL, detail="bank-b"), "it is derived like every key of two members"
    others = {
        enrolled("bank-a", "bank-b", "bank-a"),
        enrolled("bank-a", "bank-b", "bank-b", generation=2),
        enrolled("bank-a", "bank-c", "bank-b"),
        agreed(),
    }
    assert key not in others, "authority, keys and purpose are all bound"


def test_an_authority_has_an_enrolment_key_with_itself() -> None:
    key = enrolled("bank-a", None, "bank-a")
    assert re.fullmatch("[0-9a-f]{64}", key), "256 bits"
    assert (
        key
        == hkdf_sha256(
            link_secret("bank-a"),
            f'["decentralized-trust/v1","enrol","bank-a",[["bank-a","{link_public_key(link_secret("bank-a"))}",1]]]'.encode(),
        ).hex()
    ), "its own nodes send authenticated requests too"
    assert key != enrolled("bank-a", None, "bank-a", generation=2), "it can be replaced"
    assert key != enrolled("bank-a", "bank-b", "bank-a"), "no peer can derive it"


def test_our_own_key_is_refused() -> None:
    mirror = party("bank-b", secret=link_secret("bank-a"))
    with pytest.raises(MembershipError, match="peer bank-b: linkPublicKey is our own; wanted"):
        agree(link_secret("bank-a"), party("bank-a"), mirror, Purpose.LINK, LinkKind.IPSEC)


# --- Reading a card ------------------------------------------------------------------------------------------------


def test_a_card_is_read_back_as_published() -> None:
    card = read(make_card(address_space="10.20.0.0/16", asn=64700))
    assert (card.name, str(card.address_space), str(card.tenant_id)) == ("bank-b", "10.20.0.0/16", TENANT), (
        "a reader must get the published values"
    )
    assert card.gateway is not None, "this member publishes a VPN gateway"
    assert card.gateway.asn == 64700, "BGP is configured with this ASN"
    assert [str(each.bgp_peering_ip) for each in card.gateway.instances] == ["10.20.1.228", "10.20.1.229"], (
        "both instances are there, in their order"
    )
    assert [node.p2p_address for node in card.nodes] == ["10.20.0.254:10000", "10.20.0.254:10001"], (
        "each ledger node has another port"
    )


def test_a_card_is_written_as_it_is_read() -> None:
    assert read(CARD).model_dump(mode="json", by_alias=True) == CARD, "no property is renamed or dropped"


def test_a_member_without_vpn_gateway_is_read() -> None:
    assert read(make_card(gateway=None)).gateway is None, "a member on ExpressRoute alone has no VPN gateway"


def test_pinned_key_is_accepted() -> None:
    key = signing_public_key(signing_seed("bank-b"))
    assert read(make_card(), pinned=fingerprint(key)).signing_key == key, "the pin matches the member's key"


def test_another_key_is_refused_when_pinned() -> None:
    forged = resigned(make_card(), signing_seed("mallory"))
    assert read(forged).name == "bank-b", "the forgery is consistent: only the pin reveals it"
    pin = fingerprint(signing_public_key(signing_seed("bank-b")))
    message = refusal(forged, pinned=pin)
    assert fingerprint(forged["signingKey"]) in message, "the message has the fingerprint that was found"
    assert pin in message, "the message has the pinned fingerprint"


def test_swapped_cards_are_refused() -> None:
    message = refusal(make_card("bank-b"), name="bank-c")
    assert "the card is that of 'bank-b'; wanted that of 'bank-c'" in message, (
        "B's valid card under C's name would give B the flows meant for C"
    )


@pytest.mark.parametrize(
    ("document", "held"),
    [(None, "nothing"), ([make_card()], "a list"), (json.dumps(make_card()), "a str"), (1, "a int")],
    ids=["missing", "list", "string", "number"],
)
def test_a_value_that_is_no_card_is_refused(document: object, held: str) -> None:
    message = refusal(document)
    assert f"holds {held}; wanted a membership card" in message, "the operator must see the value"


def tampered(value: Any) -> Any:
    if value is None:
        return {"url": "https://10.98.1.126:8444"}
    if not isinstance(value, str):
        return value + 1
    middle = len(value) // 2
    return f"{value[:middle]}{'1' if value[middle] != '1' else '2'}{value[middle + 1 :]}"


@pytest.mark.parametrize("path", LEAVES, ids=dotted)
def test_a_change_of_any_value_of_a_card_is_refused(path: Steps) -> None:
    message = refusal(replaced(CARD, path, tampered(at(CARD, path))))
    assert "the signature does not fit the card" in message or path == ("schema",), (
        "the signature must cover every value, and is checked first"
    )


@pytest.mark.parametrize("key", CARD)
def test_a_card_without_any_one_of_its_properties_is_refused(key: str) -> None:
    shortened = {each: value for each, value in CARD.items() if each != key}
    assert re.search("signature does not fit|schema is None", refusal(shortened)), (
        "the signature covers the missing property"
    )
    if key not in {"signature", "signingKey", *LATER}:
        message = refusal(resigned(shortened, signing_seed("bank-b")))
        assert key in message or "the card is that of None" in message, "even the owner may not omit it"


def test_nothing_can_be_added_to_a_card() -> None:
    assert "signature does not fit" in refusal({**CARD, "note": "added on the way"}), "unknown properties are signed"


def test_a_card_with_its_gateway_set_to_null_is_refused() -> None:
    assert "signature does not fit" in refusal({**CARD, "gateway": None}), "the signature covers null too"


@given(data=st.data())
def test_any_change_of_a_signed_character_is_refused(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(SIGNED_STRINGS))
    text = at(CARD, path)
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(exclude_characters=text[place]))
    message = refusal(replaced(CARD, path, text[:place] + character + text[place + 1 :]))
    assert "signature does not fit" in message or path == ("schema",), "one character is enough"


def shuffled(value: Any, random: Random) -> Any:
    if isinstance(value, list):
        return [shuffled(each, random) for each in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    random.shuffle(keys)
    return {key: shuffled(value[key], random) for key in keys}


@given(random=st.randoms(use_true_random=False))
def test_order_of_keys_does_not_matter(random: Random) -> None:
    assert read(shuffled(CARD, random)) == read(CARD), "JSON objects have no order, and a backend may change it"


def floating(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: floating(each) for key, each in value.items()}
    if isinstance(value, list):
        return [floating(each) for each in value]
    return float(value) if isinstance(value, int) else value


def test_numbers_of_the_engine_still_verify() -> None:
    wired = floating(CARD)
    assert isinstance(wired["gateway"]["asn"], float), "the engine knows one kind of number"
    assert read(wired) == read(CARD), "64512.0 and 64512 are one number"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("2.0", "wanted 1.2: upgrade this program"),
        ("10.3", "wanted 1.2: upgrade this program"),
        ("0.9", "wanted 1.2: upgrade that member's program"),
    ],
)
def test_another_major_version_is_refused(version: str, wanted: str) -> None:
    assert wanted in refusal(make_card(schema=version)), "the message says which side must update"


@pytest.mark.parametrize("version", [None, 1, 1.0, "", "1", "one", "1.x", "1.0.0", "-1.0"])
def test_a_malformed_version_is_refused(version: object) -> None:
    assert f"schema is {version!r}; wanted 1.2" in refusal(make_card(schema=version)), "it can't be compared"


def as_of_1_0(**changes: Any) -> dict[str, Any]:
    """Bank B's card as a program of schema 1.0 signs it."""
    card = {key: value for key, value in make_card().items() if key not in LATER} | {"schema": "1.0", **changes}
    card["nodes"] = [{key: value for key, value in node.items() if key != "role"} for node in card["nodes"]]
    return resigned(card, signing_seed("bank-b"))


def test_an_older_minor_version_is_read() -> None:
    card = read(as_of_1_0())
    assert card.authority is None, "a member that knows nothing of authorities is none"
    assert {node.role for node in card.nodes} == {None}, "nor does it say what its nodes are"
    validator = jsonschema.Draft202012Validator(card_schema())
    assert list(validator.iter_errors(as_of_1_0())) == [], "the schema of 1.2 is one of 1.0 too"


@pytest.mark.parametrize("card", [make_card(), make_card(gateway=None), as_of_1_0(), as_of_1_0(gateway=None)])
def test_what_the_wire_drops_is_put_back(card: dict[str, Any]) -> None:
    wired = {key: value for key, value in card.items() if value is not None}
    assert with_nulls(wired) == card, "the signature covers what is null, and only what the card's version has"
    assert read(with_nulls(wired)) == read(card), "so it is read as it was signed"


@pytest.mark.parametrize("version", [None, 7, "2.0", "1.x", f"1.{'9' * 5000}"])
def test_restoring_nulls_leaves_a_card_of_an_unknown_version_unchanged(version: object) -> None:
    assert with_nulls({"schema": version}) == {"schema": version, "gateway": None}, (
        "no exception before the card is refused"
    )


def test_an_authority_has_the_address_on_its_card() -> None:
    card = read(make_card(authority={"url": "https://10.98.1.126:8444"}))
    assert card.authority is not None, "the card has an authority"
    assert card.authority.url == "https://10.98.1.126:8444", "peers connect to that URL"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://10.97.1.126:8444", "an address inside its addressSpace"),
        ("http://10.98.1.126:8444", "authority.url"),
        ("https://authority.bank-b.example:8444", "authority.url"),
        ("https://10.98.1.126:8444/certificate", "authority.url"),
        ("https://10.98.1.126", "authority.url"),
        ("https://10.98.1.126:99999", "authority.url"),
    ],
)
def test_an_authority_elsewhere_is_refused(url: str, reason: str) -> None:
    assert reason in refusal(make_card(authority={"url": url})), "requests for certificates must not leave the link"


def test_a_newer_minor_version_is_read() -> None:
    newer = make_card(schema="1.12", notary={"legalName": "O=Notary"})
    newer = resigned(replaced(newer, ("gateway", "speed"), "fast"), signing_seed("bank-b"))
    card = read(newer)
    assert card.schema_version == "1.12", "a newer minor version is accepted"
    assert card.gateway == read(CARD).gateway, "known properties are read as before"
    assert "signature does not fit" in refusal(replaced(newer, ("notary", "legalName"), "O=Mallory")), (
        "the signature covers unknown properties too"
    )


# Invalid values with a valid signature: path, value, part of the message, and whether the JSON Schema detects it.
MISSTATED = [
    pytest.param(("gateway", "instances", 0, "bgpPeeringIp"), "10.99.1.228", "an address inside", False, id="bgp-1"),
    pytest.param(("gateway", "instances", 1, "bgpPeeringIp"), "10.97.9.9", "an address inside", False, id="bgp-2"),
    pytest.param(
        ("nodes", 0, "p2pAddress"), "10.99.0.254:10000", "an address inside", False, id="first-node-outside"
    ),
    pytest.param(("nodes", 1, "p2pAddress"), "8.8.8.8:10001", "an address inside", False, id="second-node-outside"),
    pytest.param(
        ("networkInfoUrl",), "https://10.99.0.254:8443/networkinfo", "an address inside", False, id="url-outside"
    ),
    pytest.param(("nodes", 0, "p2pAddress"), "999.1.1.1:10000", "nodes.0", False, id="node-no-address"),
    pytest.param(("nodes", 0, "p2pAddress"), "bank-b.example:10000", "nodes.0", True, id="node-by-name"),
    pytest.param(("nodes", 0, "p2pAddress"), "10.98.0.254", "nodes.0", True, id="node-without-port"),
    pytest.param(("nodes", 0, "legalName"), "", "nodes.0.legalName", True, id="node-without-name"),
    pytest.param(("nodes",), [], "nodes is", True, id="no-nodes"),
    pytest.param(
        ("networkInfoUrl",), "http://10.98.0.254:8443/networkinfo", "networkInfoUrl", True, id="url-in-clear"
    ),
    pytest.param(
        ("networkInfoUrl",), "https://10.98.0.254@evil.example:8443/x", "networkInfoUrl", True, id="url-with-user"
    ),
    pytest.param(
        ("gateway", "instances", 1, "publicIp"),
        "198.51.100.98",
        "two of its gateway.instances have one publicIp",
        False,
        id="one-public-address",
    ),
    pytest.param(
        ("gateway", "instances", 1, "bgpPeeringIp"),
        "10.98.1.228",
        "two of its gateway.instances have one bgpPeeringIp",
        False,
        id="one-bgp-address",
    ),
    pytest.param(("gateway", "instances"), [], "gateway.instances", True, id="no-instances"),
    pytest.param(
        ("gateway", "instances"), CARD["gateway"]["instances"][:1], "gateway.instances", True, id="one-instance"
    ),
    pytest.param(
        ("gateway", "instances"),
        [*CARD["gateway"]["instances"], {"publicIp": "192.0.2.9", "bgpPeeringIp": "10.98.1.230"}],
        "gateway.instances",
        True,
        id="three-instances",
    ),
    pytest.param(("gateway", "instances", 0, "publicIp"), "10.98.1.4", "public address", False, id="private-ip"),
    pytest.param(("gateway", "instances", 0, "publicIp"), "224.0.0.5", "public address", False, id="multicast-ip"),
    pytest.param(("gateway", "instances", 0, "publicIp"), "127.0.0.1", "public address", False, id="loopback-ip"),
    pytest.param(("gateway", "id"), "gateway-of-bank-b", "gateway.id", True, id="gateway-by-name"),
    pytest.param(
        ("gateway", "id"), f"{CARD['gateway']['id']}/../../../x", "gateway.id", True, id="gateway-by-a-path-upwards"
    ),
    pytest.param(
        ("gateway", "id"),
        re.sub("resourceGroups/[^/]+", "resourceGroups/..", CARD["gateway"]["id"]),
        "gateway.id",
        True,
        id="gateway-in-no-group",
    ),
    *(
        pytest.param(
            ("gateway", "id"),
            re.sub(f"{kind}/[^/]+", f"{kind}/{wrong}", CARD["gateway"]["id"]),
            "gateway.id",
            True,
            id=f"gateway-{case}",
        )
        for case, kind, wrong in (
            ("of-no-subscription", "subscriptions", "-" * 36),
            ("in-a-long-group", "resourceGroups", "x" * 91),
            ("with-a-long-name", "virtualNetworkGateways", "x" * 81),
            ("with-an-accent", "virtualNetworkGateways", "caf\u00e9"),
            ("that-is-hidden", "virtualNetworkGateways", ".gateway"),
        )
    ),
    *(
        pytest.param(
            ("gateway", "instances", 0, "publicIp"), address, "wanted a public address", False, id=f"public-{address}"
        )
        for address in ("0.0.0.1", "192.0.0.8", "198.18.0.1", "168.63.129.16", "100.64.0.1", "169.254.169.254")
    ),
    *(
        pytest.param(path, value, ".".join(map(str, path)), True, id=f"{path[-1]}-with-a-port-of-two-spellings")
        for path, value in (
            (("nodes", 0, "p2pAddress"), "10.98.0.254:01000"),
            (("networkInfoUrl",), "https://10.98.0.254:08443/networkinfo"),
            (("authority",), {"url": "https://10.98.1.126:08444"}),
        )
    ),
    *(
        pytest.param(("keyGenerations", kind), generation, f"keyGenerations.{kind}", True, id=f"{kind}-{case}")
        for kind in ("link", "signing")
        for case, generation in (("generation-1000", 1000), ("generation-beyond-the-wire", 10**400))
    ),
    pytest.param(("linkPublicKey",), f"{'A' * 43}=", "low-order", False, id="link-key-of-no-secret"),
    pytest.param(
        ("linkPublicKey",),
        base64.b64encode(bytes([1, *bytes(31)])).decode(),
        "low-order",
        False,
        id="link-key-of-order-one",
    ),
    pytest.param(("gateway", "asn"), 65517, "reserved by Azure", False, id="asn-of-azure"),
    pytest.param(("gateway", "asn"), 3320, "is not a private ASN", False, id="asn-of-a-carrier"),
    pytest.param(("gateway", "asn"), 64512.5, "gateway.asn", True, id="asn-with-fraction"),
    pytest.param(("gateway", "ipsecPolicy", "ikeEncryption"), "DES3", "ikeEncryption", True, id="weak-encryption"),
    pytest.param(("gateway", "ipsecPolicy", "ipsecIntegrity"), "SHA256", "GCM suite", False, id="half-gcm"),
    pytest.param(("gateway", "ipsecPolicy", "saLifeTimeSeconds"), 299, "saLifeTimeSeconds", True, id="short-life"),
    pytest.param(("addressSpace",), "20.0.0.0/16", "is not private", False, id="public-space"),
    pytest.param(("addressSpace",), "10.98.0.0/15", "is a /15", False, id="large-space"),
    pytest.param(("addressSpace",), "10.98.0.0/24", "is a /24", False, id="small-space"),
    pytest.param(("addressSpace",), "10.98.0.1/16", "addressSpace", False, id="host-bits"),
    pytest.param(("linkPublicKey",), "not base64!", "wanted 32 bytes in base64", False, id="link-key-no-base64"),
    pytest.param(
        ("linkPublicKey",), f"{CARD['linkPublicKey']}\n", "wanted 32 bytes in base64", False, id="link-key-line-end"
    ),
    pytest.param(("linkPublicKey",), "AAAA", "wanted 32 bytes in base64, got 3", False, id="link-key-short"),
    pytest.param(("linkPublicKey",), encoded("00" * 33), "got 33", False, id="link-key-long"),
    pytest.param(("keyGenerations", "link"), 0, "keyGenerations.link", True, id="generation-zero"),
    pytest.param(("tenantId",), "contoso", "tenantId", False, id="tenant-by-name"),
]


@pytest.mark.parametrize(("path", "value", "reason", "schema_tells"), MISSTATED)
def test_an_invalid_value_is_refused_although_its_signature_is_valid(
    path: Steps, value: object, reason: str, schema_tells: bool
) -> None:
    card = restated(path, value)
    assert reason in refusal(card), "a signature proves the author, not that the values are valid"
    if schema_tells:
        assert not jsonschema.Draft202012Validator(card_schema()).is_valid(card), (
            "the published schema and this program must agree on valid cards"
        )


def test_all_invalid_values_of_a_card_are_in_one_message() -> None:
    card = replaced(CARD, ("gateway", "asn"), 3320)
    card = replaced(card, ("nodes", 0, "p2pAddress"), "elsewhere\n; wanted nothing")
    del card["location"]
    lines = refusal(resigned(card, signing_seed("bank-b"))).splitlines()
    assert [re.sub(r"^peer bank-b: .*?: ", "", line).split(" is ")[0] for line in lines] == [
        "location",
        "gateway.asn",
        "nodes.0.p2pAddress",
    ], "one line for each mistake"
    assert "location is not set; wanted" in lines[0], "the message does not quote the whole card"
    assert "3320 is not a private ASN; wanted" in lines[1]
    outside = replaced(
        replaced(CARD, ("networkInfoUrl",), "https://10.9.0.1:8443/x"), ("nodes", 1, "p2pAddress"), "10.9.0.1:10001"
    )
    assert len(refusal(resigned(outside, signing_seed("bank-b"))).splitlines()) == 2


def test_a_peers_text_cannot_hide_lines_of_a_message() -> None:
    assert str(MembershipError("bank-b\r\n: \u202ewanted", "\x1b[2K")) == "bank-b\\r\\n: \\u202ewanted\n\\x1b[2K"


@pytest.mark.parametrize("key", ["", "no base64!", "AAAA", encoded("00" * 33), None, 7, ["11qYAYKx"]])
def test_a_malformed_signing_key_is_refused(key: object) -> None:
    assert "signature does not fit" in refusal({**CARD, "signingKey": key}), "without a key nothing can be verified"


def test_a_signing_key_that_is_not_quite_base64_is_refused() -> None:
    seed = signing_seed("bank-b")
    unsigned = {**CARD, "signingKey": f"{CARD['signingKey'][:20]}\n{CARD['signingKey'][20:]}"}
    del unsigned["signature"]
    text = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    message = refusal({**unsigned, "signature": base64.b64encode(signature).decode()})
    assert "signature does not fit" in message, "even its owner may spell a key in one way only"


@pytest.mark.parametrize(
    "signature", ["", "no base64!", encoded("00" * 64), CARD["signature"][:-4], f"{CARD['signature']}!", None, 7]
)
def test_a_malformed_signature_is_refused(signature: object) -> None:
    assert "signature does not fit" in refusal({**CARD, "signature": signature}), (
        "without a signature nothing is verified"
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=4,
)


@given(path=st.sampled_from([path for path in LEAVES if path != ("signature",)]), value=json_values)
def test_no_card_ends_in_a_traceback(path: Steps, value: object) -> None:
    try:
        card = read(restated(path, value) if path != ("signingKey",) else replaced(CARD, path, value))
    except MembershipError:
        return
    assert card.name == "bank-b", "an accepted card belongs to the expected member"


PRIVATE_ASNS = [64512, 65514, 65521, 65534, 4_200_000_000, 4_294_967_294]
NO_MEMBERS_ASNS = [0, 1, 64511, 65535, 131_072, 4_199_999_999, 4_294_967_295]


@pytest.mark.parametrize("asn", PRIVATE_ASNS)
def test_private_asns_are_accepted(asn: int) -> None:
    check_asn(asn)
    card = read(make_card(asn=asn))
    assert card.gateway is not None, "this member publishes a VPN gateway"
    assert card.gateway.asn == asn, "the bounds of the private ranges belong to them"


@pytest.mark.parametrize("asn", range(65515, 65521))
def test_asns_of_azure_are_refused(asn: int) -> None:
    with pytest.raises(ValueError, match=f"^{asn} is reserved by Azure; wanted 64512 to 65514"):
        check_asn(asn)


@pytest.mark.parametrize("asn", NO_MEMBERS_ASNS)
def test_asns_outside_of_the_private_ranges_are_refused(asn: int) -> None:
    with pytest.raises(ValueError, match=f"^{asn} is not a private ASN; wanted 64512 to 65514"):
        check_asn(asn)


# --- All cards together --------------------------------------------------------------------------------------------

BANK_A = MemberProfile(
    name="bank-a",
    tenant_id=TENANT,
    address_space=IPv4Network("10.1.0.0/16"),
    asn=64512,
    legal_names=frozenset({"OU=node-1, O=Bank A, L=London, C=GB"}),
)
SUITE_B = IpsecPolicy(ike_encryption="AES256", ipsec_encryption="AES256", ipsec_integrity="SHA256")
OTHER_TENANT = "9d4f7a42-2c8e-4a55-8a64-d1a6f2f4b7e3"


def with_gateway_of(card: dict[str, Any], other: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A card that has these properties of its gateway from another one."""
    gateway = {**card["gateway"], **{key: other["gateway"][key] for key in keys}}
    return resigned({**card, "gateway": gateway}, signing_seed(card["name"]))


def with_public_address_of(card: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    public = other["gateway"]["instances"][1]["publicIp"]
    return resigned(replaced(card, ("gateway", "instances", 0, "publicIp"), public), signing_seed(card["name"]))


def quarrels(
    *cards: dict[str, Any],
    own: MemberProfile = BANK_A,
    link: LinkKind = LinkKind.IPSEC,
    own_policy: IpsecPolicy | None = None,
    authority: str | None = None,
    own_card: dict[str, Any] | None = None,
    recorded: Collection[str] = (),
) -> list[str]:
    """What the check has against these members, one line a mistake."""
    peers = [read(card, name=card["name"]) for card in cards]
    try:
        links = {peer.name: link for peer in peers}
        check_consortium(
            own,
            peers,
            links,
            own_policy or IpsecPolicy(),
            authority,
            own_card=last_card(own_card),
            recorded=recorded,
        )
    except MembershipError as error:
        return str(error).split("\n")
    return []


@pytest.mark.parametrize("link", LinkKind)
def test_members_with_different_settings_are_compatible(link: LinkKind) -> None:
    found = quarrels(make_card("bank-b"), make_card("bank-c"), make_card("bank-d"), link=link)
    assert found == [], "a consortium without mistakes must be accepted"


def test_a_member_without_peers_is_valid() -> None:
    assert quarrels() == [], "the first member has no peers"


@pytest.mark.parametrize(
    ("cards", "mistake"),
    [
        pytest.param(
            [make_card("bank-b", address_space="10.1.0.0/18")],
            "bank-a and bank-b: addressSpace 10.1.0.0/16 overlaps 10.1.0.0/18; wanted a different range",
            id="ours-overlaps",
        ),
        pytest.param(
            [make_card("bank-b", address_space="10.8.0.0/17"), make_card("bank-c", address_space="10.8.64.0/18")],
            "bank-b and bank-c: addressSpace 10.8.0.0/17 overlaps 10.8.64.0/18; wanted a different range",
            id="peers-overlap",
        ),
        pytest.param(
            [make_card("bank-b", asn=64512)],
            "bank-a and bank-b: both have gateway.asn 64512; wanted a different ASN",
            id="our-asn",
        ),
        pytest.param(
            [make_card("bank-b", asn=64999), make_card("bank-c", asn=64999)],
            "bank-b and bank-c: both have gateway.asn 64999; wanted a different ASN",
            id="one-asn",
        ),
        pytest.param(
            [
                make_card(
                    "bank-b",
                    nodes=[{"legalName": "OU=node-1, O=Bank A, L=London, C=GB", "p2pAddress": "10.98.0.254:10000"}],
                )
            ],
            "bank-a and bank-b: both have the legalName OU=node-1, O=Bank A, L=London, C=GB; wanted a different name",
            id="our-legal-name",
        ),
        pytest.param(
            [make_card("bank-b"), make_card("bank-c", seed=signing_seed("bank-b"))],
            "bank-b and bank-c: both cards have the signingKey ",
            id="one-signing-key",
        ),
        pytest.param(
            [make_card("bank-b"), make_card("bank-c", link_secret=link_secret("bank-b"))],
            "bank-b and bank-c: both cards have the linkPublicKey ",
            id="one-link-key",
        ),
        pytest.param(
            [make_card("bank-b"), with_gateway_of(make_card("bank-c"), make_card("bank-b"), "id")],
            "bank-b and bank-c: both cards have the gateway.id /subscriptions/",
            id="one-gateway",
        ),
        pytest.param(
            [make_card("bank-b"), with_public_address_of(make_card("bank-c"), make_card("bank-b"))],
            "bank-b and bank-c: both cards have the publicIp 203.0.113.98; wanted another for each member",
            id="one-public-address",
        ),
    ],
)
def test_values_that_must_differ_between_members(cards: list[dict[str, Any]], mistake: str) -> None:
    found = quarrels(*cards)
    assert len(found) == 1, "one mistake, one line"
    assert found[0].startswith(mistake), "it names both members, the shared value and the wanted one"


def test_values_that_must_differ_from_the_own_card() -> None:
    ours, theirs = make_card("bank-a"), make_card("bank-b")
    shouting = {**ours, "gateway": {**ours["gateway"], "id": ours["gateway"]["id"].replace("/bank-a", "/BANK-A")}}
    copies = {
        "the linkPublicKey": make_card(linkPublicKey=ours["linkPublicKey"]),
        "the gateway.id": with_gateway_of(theirs, shouting, "id"),
        "the publicIp": with_public_address_of(theirs, ours),
    }
    for what, copy in copies.items():
        assert quarrels(copy) == [], "before the first card there is nothing to compare"
        (line,) = quarrels(copy, own_card=ours)
        assert line.startswith(f"bank-a and bank-b: both cards have {what}"), (
            "otherwise the update would fail half way"
        )
        assert "; wanted" in line
    wired = {key: value for key, value in floating(ours).items() if value is not None}
    assert quarrels(theirs, own_card=wired) == [], "this member's card as the engine returns it"
    assert quarrels(copies["the linkPublicKey"], own_card=wired) != []
    assert quarrels(theirs, own_card={"schema": "0.1"}) == [], "a card of its own of another schema is not compared"


@pytest.mark.parametrize("link", [LinkKind.IPSEC, LinkKind.VNET_TO_VNET])
def test_a_vpn_link_requires_a_gateway(link: LinkKind) -> None:
    found = quarrels(make_card(gateway=None), link=link)
    assert found == [f"bank-b: link is {link}, but its card has no VPN gateway; wanted express-route"], (
        "the tunnel has no remote endpoint"
    )


def test_the_authority_must_have_a_url_on_its_card() -> None:
    plain, found = make_card("bank-b"), make_card("bank-c", authority={"url": "https://10.99.1.126:8444"})
    assert quarrels(plain, found, authority="bank-c") == [], "its card has the URL"
    assert quarrels(plain, found, authority="bank-a") == [], "this member certifies names"
    [line] = quarrels(plain, found, authority="bank-b")
    named, wanted = line.split("; ")
    assert named == "bank-b: ledger.network.authority names it, but its card has no authority", (
        "the nodes would have no authority to ask"
    )
    assert wanted == "wanted that member to run pulumi up with itself as ledger.network.authority first", (
        "the other member must act, not this one"
    )


def test_vnet_to_vnet_requires_one_tenant() -> None:
    found = quarrels(make_card(tenant_id=OTHER_TENANT), link=LinkKind.VNET_TO_VNET)
    tenants = f"its tenant is {OTHER_TENANT} and ours {TENANT}"
    assert found == [f"bank-b: link is vnet-to-vnet, but {tenants}; wanted ipsec across tenants"], (
        "Azure can't authorise a connection by resource id across tenants"
    )


@pytest.mark.parametrize("link", [LinkKind.IPSEC, LinkKind.EXPRESS_ROUTE])
def test_other_links_cross_tenants(link: LinkKind) -> None:
    assert quarrels(make_card(tenant_id=OTHER_TENANT), link=link) == [], (
        "such a link needs no authorisation across tenants"
    )


def test_azures_own_number_of_a_gateway_beside_a_circuit() -> None:
    own, circuit = BANK_A.model_copy(update={"asn": 65515}), LinkKind.EXPRESS_ROUTE
    both = make_card("bank-b", asn=65515), make_card("bank-c", asn=65515)
    for link in (LinkKind.VNET_TO_VNET, circuit):
        assert quarrels(*both, own=own, link=link) == [], "such a link speaks no BGP, so numbers may be the same"
    reason = "is 65515, with which Azure makes no local network gateway; wanted vnet-to-vnet, express-route, or a"
    assert quarrels(both[0]) == [f"bank-b: link is ipsec, but the ASN of bank-b {reason} private ASN"]
    assert quarrels(make_card("bank-b"), own=own) == [
        f"bank-b: link is ipsec, but the ASN of bank-a {reason} private ASN"
    ], "the peer would have to configure our gateway by its addresses"


@pytest.mark.parametrize("link", [LinkKind.IPSEC, LinkKind.VNET_TO_VNET])
def test_both_sides_of_a_tunnel_must_have_one_policy(link: LinkKind) -> None:
    (mistake,) = quarrels(make_card(ipsec_policy=SUITE_B), link=link)
    assert mistake.startswith("bank-b: its gateway.ipsecPolicy is "), "the peer and the property are named"
    assert mistake.endswith("; wanted the same on both sides"), "the message offers a change on either side"
    assert '"ikeEncryption": "AES256"' in mistake, "the message has the peer's value"
    assert '"ikeEncryption": "GCMAES256"' in mistake, "the message has our value"
    assert quarrels(make_card(ipsec_policy=SUITE_B), link=link, own_policy=SUITE_B) == [], (
        "after our change the policies agree"
    )


def test_a_policy_changes_on_one_side_first() -> None:
    card = make_card(ipsec_policy=SUITE_B)
    assert quarrels(card, recorded={"bank-b"}) == [], (
        "otherwise neither of two linked members could ever change the policy"
    )
    assert len(quarrels(card, recorded={"bank-c"})) == 1, "a new link requires agreement"


def test_express_route_needs_neither_gateway_nor_policy() -> None:
    without_gateway = BANK_A.model_copy(update={"asn": None})
    gateless = [make_card("bank-b", gateway=None), make_card("bank-c", gateway=None)]
    found = quarrels(*gateless, own=without_gateway, link=LinkKind.EXPRESS_ROUTE)
    assert found == [], "a circuit is no VPN, and members without an ASN can't share one"
    found = quarrels(make_card(ipsec_policy=SUITE_B), link=LinkKind.EXPRESS_ROUTE)
    assert found == [], "a policy that no tunnel uses need not be the same"


def test_all_mistakes_are_in_one_message() -> None:
    found = quarrels(
        make_card("bank-b", address_space="10.1.64.0/18", asn=64512, ipsec_policy=SUITE_B),
        make_card("bank-c", seed=signing_seed("bank-b"), link_secret=link_secret("bank-b"), gateway=None),
    )
    reasons = ["overlaps", "asn 64512", "the signingKey", "the linkPublicKey", "ipsecPolicy", "no VPN gateway"]
    assert len(found) == len(reasons), "an operator can correct all at once"
    assert all(sum(reason in line for line in found) == 1 for reason in reasons), "each mistake is there once"


@pytest.mark.parametrize(
    ("encryption", "integrity"), [("GCMAES256", "GCMAES128"), ("GCMAES256", "SHA256"), ("AES256", "GCMAES256")]
)
def test_a_gcm_suite_is_encryption_and_integrity(encryption: Any, integrity: Any) -> None:
    with pytest.raises(ValueError, match="wanted the same for both"):
        IpsecPolicy(ipsec_encryption=encryption, ipsec_integrity=integrity)


@pytest.mark.parametrize(("encryption", "integrity"), [("AES256", "GCMAES256"), ("GCMAES256", "GCMAES128")])
def test_ike_has_no_proposal_with_another_cipher_as_its_integrity(encryption: Any, integrity: Any) -> None:
    with pytest.raises(ValueError, match="IKEv2 has no such proposal; wanted SHA384 or SHA256"):
        IpsecPolicy(ike_encryption=encryption, ike_integrity=integrity)


# --- Newer cards and older ones ------------------------------------------------------------------------------------


def content(**changes: Any) -> dict[str, Any]:
    """The content of bank B's card."""
    card = make_card(**changes)
    return {key: value for key, value in card.items() if key not in {"counter", "signingKey", "signature"}}


def issued(previous: object, *, least: int = 1, seed: str = "bank-b", **changes: Any) -> dict[str, Any]:
    """Bank B's next card."""
    return next_card(content(**changes), signing_seed(seed), previous, least)


def on_the_wire(card: dict[str, Any]) -> dict[str, Any]:
    """The card as Pulumi returns it: without nulls, and with all numbers as floats."""
    numbers = json.loads(json.dumps(card), parse_int=float)
    return {key: value for key, value in numbers.items() if value is not None}


def test_the_counter_rises_with_each_change_and_only_then() -> None:
    first = issued(None)
    assert first["counter"] == 1, "a first card"
    assert issued(on_the_wire(first)) == first, "an update without changes leaves the card's bytes unchanged"
    second = issued(on_the_wire(first), location="northeurope")
    assert second["counter"] == 2, "a peer must be able to see which of two cards is newer"
    assert issued(second, location="northeurope") == second
    assert issued(second)["counter"] == 3, "a change back to an earlier content counts too"
    assert issued(first, seed="another key of bank-b")["counter"] == 2, "a new signing key counts as a change"
    older = {key: value for key, value in first.items() if key != "counter"}
    assert issued({**older, "schema": "1.1"})["counter"] == 1, "a card of an older program has none"
    assert read(second).counter == 2


def test_a_restored_state_counts_on_from_a_floor() -> None:
    last = issued(issued(None), location="northeurope")
    floored = issued(last, least=9, location="northeurope")
    assert floored["counter"] == 9, "peers may have seen counter 8 with other content"
    assert issued(floored, least=9, location="northeurope") == floored, "the counter stays there"
    assert issued(floored, least=9)["counter"] == 10
    assert issued(floored, least=3, location="northeurope") == floored, "a floor never lowers the counter"
    assert issued(None, least=9)["counter"] == 9


def seen(card: dict[str, Any]) -> SeenCard:
    return SeenCard.of(read(card), card)


ANOTHER = signing_seed("bank-b again")
RAISED: dict[str, Any] = {"keyGenerations": {"link": 2, "signing": 1}}
STALE = {
    "a lower counter": (
        make_card(counter=3),
        make_card(counter=2),
        "its counter is 2; wanted 3, which was seen before, or higher",
    ),
    "no counter": (make_card(counter=3), as_of_1_0(), "its counter is 0; wanted 3"),
    "one counter for two cards": (
        make_card(counter=3),
        make_card(counter=3, location="northeurope"),
        "another card has the counter 3 too; wanted a higher one",
    ),
    "a link key that was replaced": (
        make_card(counter=3, **RAISED),
        make_card(counter=4),
        "its keyGenerations.link is 1; wanted 2, which was seen before, or higher",
    ),
    "a signing key that was replaced": (
        make_card(counter=7, seed=ANOTHER),
        make_card(counter=5),
        "its counter is 5; wanted 7",
    ),
}
FRESH = {
    "the same card": (make_card(counter=3), make_card(counter=3)),
    "cards of before counters": (as_of_1_0(), as_of_1_0(location="northeurope")),
    "a higher counter": (make_card(counter=3), make_card(counter=7, location="northeurope", **RAISED)),
    "another key": (make_card(counter=3), make_card(counter=4, seed=ANOTHER)),
}


@pytest.mark.parametrize(("before", "after", "reason"), STALE.values(), ids=STALE)
def test_an_older_card_is_refused(before: dict[str, Any], after: dict[str, Any], reason: str) -> None:
    found = seen(before).staleness(seen(after))
    assert found is not None
    assert found.startswith(reason), "an old card has the member's own signature, and a key that may have leaked"


@pytest.mark.parametrize(("before", "after"), FRESH.values(), ids=FRESH)
def test_a_newer_card_is_accepted(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert seen(before).staleness(seen(after)) is None


def test_a_newly_agreed_key_starts_a_new_count() -> None:
    before, after = make_card(counter=3, **RAISED), make_card(counter=1, seed=ANOTHER)
    assert seen(before).staleness(seen(after), pinned=True) is None, "the member was set up anew, and said so"
    assert seen(before).staleness(seen(make_card(counter=1)), pinned=True) is not None, "a pin does not age a card"


def many(count: int) -> list[dict[str, Any]]:
    return [
        {"legalName": f"OU=node-{number}, O=Bank B, L=London, C=GB", "p2pAddress": f"10.98.0.254:{10000 + number}"}
        for number in range(count)
    ]


def test_a_card_that_is_too_large_is_refused() -> None:
    assert len(read(make_card(nodes=many(100))).nodes) == 100
    assert "it has 101 nodes; wanted 100 at most" in refusal({**CARD, "nodes": many(101)})
    large = {**CARD, "location": "x" * 16_384}
    assert "bytes; wanted 16384 at most" in refusal(large), "a secret of Key Vault holds 25 kB"
    for changes in ({"nodes": many(101)}, {"location": "x" * 16_384}):
        with pytest.raises(MembershipError, match=r"^this member's card: it has .* at most$"):
            make_card(**changes)


def test_values_without_a_canonical_form_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for value in ("\ud800", deep):
        assert "it can't be written in canonical JSON; wanted" in refusal({**CARD, "location": value})


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({"legalName": "C=GB, L=London, O=BANK B, OU=node-1", "p2pAddress": "10.98.0.254:10001"}, "legalName"),
        ({"legalName": "OU=node-2, O=Bank B, L=London, C=GB", "p2pAddress": "10.98.0.254:10000"}, "p2pAddress"),
    ],
)
def test_two_nodes_with_one_name_or_address_are_refused(second: dict[str, Any], what: str) -> None:
    first = {"legalName": "OU=node-1, O=Bank B, L=London, C=GB", "p2pAddress": "10.98.0.254:10000"}
    assert f"two of its nodes have one {what}, " in refusal(make_card(nodes=[first, second]))


# --- The published schema ------------------------------------------------------------------------------------------


def test_the_schema_is_sound_and_accepts_cards() -> None:
    schema = card_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for card in (CARD, make_card(gateway=None), make_card(schema="1.7", added="later")):
        assert list(validator.iter_errors(card)) == [], "the schema must accept each card that this program accepts"


@pytest.mark.parametrize("key", sorted(CARD.keys() - LATER))
def test_the_schema_requires_every_property(key: str) -> None:
    shortened = {each: value for each, value in CARD.items() if each != key}
    assert not jsonschema.Draft202012Validator(card_schema()).is_valid(shortened), "a peer relies on each of them"


def test_the_schema_refuses_another_major_version() -> None:
    card = make_card(schema="2.0")
    assert not jsonschema.Draft202012Validator(card_schema()).is_valid(card), "it describes major version 1 alone"


def test_the_published_schema_is_the_programs() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == json.dumps(card_schema(), indent=2) + "\n", (
        f"{SCHEMA_FILE.name} is out of date: run `make docs` and commit it"
    )


def test_the_schema_version_is_the_one_that_is_written() -> None:
    assert card_schema()["$id"].endswith(f":{CARD_SCHEMA}"), "a reader finds the schema by its version"


# --- Regressions of found bugs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["last-character", "top-bit"])
def test_a_key_in_another_encoding_is_refused(spelling: str) -> None:
    key = make_card()["linkPublicKey"]
    raw = bytearray(base64.b64decode(key))
    raw[31] |= 0x80
    other = f"{key[:-2]}{chr(ord(key[-2]) + 1)}=" if spelling == "last-character" else base64.b64encode(raw).decode()
    assert "linkPublicKey" in refusal(make_card(linkPublicKey=other)), (
        "otherwise two members could use one key unnoticed"
    )


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_a_port_is_one_of_tcp(port: int) -> None:
    refusal(restated(("nodes", 0, "p2pAddress"), f"10.98.0.254:{port}"))


def test_a_version_with_endless_digits_is_refused() -> None:
    refusal(make_card(schema=f"{'9' * 5000}.0"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("gateway", "asn"), "64610"),
        (("gateway", "instances", 0, "publicIp"), 3325256802),
        (("keyGenerations", "link"), True),
    ],
    ids=["number-as-text", "address-as-number", "number-as-truth"],
)
def test_a_card_that_the_schema_refuses_is_refused(path: Steps, value: object) -> None:
    card = restated(path, value)
    assert not jsonschema.Draft202012Validator(card_schema()).is_valid(card), "the schema requires another type"
    refusal(card)


def test_properties_have_one_name() -> None:
    card = make_card()
    card["address_space"] = card.pop("addressSpace")
    refusal(resigned(card, signing_seed("bank-b")))


def test_spellings_of_a_legal_name_in_another_order_are_equal() -> None:
    node = {"legalName": "C=GB,L=London,O=Bank A,OU=node-1", "p2pAddress": "10.98.0.254:10000"}
    assert quarrels(make_card(nodes=[node])) != [], "a peer may not use our node's name in another order"
