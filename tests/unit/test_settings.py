"""The configuration of one member: accepted values, their consequences, and each mistake."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_origin
from uuid import UUID

import pulumi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from pulumi.runtime import set_all_config
from pulumi.runtime.settings import Settings as RuntimeSettings
from pulumi.runtime.settings import configure
from pydantic import BaseModel, ValidationError

from contract.authority_configuration import Approval
from contract.card import IpsecPolicy, LinkKind
from lab import ROOT
from lab.cards import legal_name
from ledger import PLATFORMS
from ledger.corda import CORDA
from stack.member import own_identities
from stack.mistakes import Steps, form_of, key_text, section_of
from stack.previous import MadeWith, PreviousUpdate
from stack.regions import REGIONS
from stack.settings import (
    CONNECTIONS_OF_LINK,
    EXPRESS_ROUTE_KEY,
    LOCATION_KEY,
    SIZES,
    TUNNELS_OF_CONNECTION,
    TUNNELS_OF_LINK,
    GatewaySku,
    HighAvailability,
    Settings,
    SettingsError,
    Size,
    load_settings,
    parse_settings,
    too_many_connections,
)
from stack.warnings import SAMPLE_SSH_KEY, warnings_of
from tests.configuration import PROJECT, SSH_PUBLIC_KEY, configuration

CARD_FILE = __file__
"""A peer's card is looked at only later: any file that exists will do here."""
FINGERPRINT = f"sha256:{'5a' * 32}"
GROUP = "0f3b9c57-8f0e-4f5a-9a55-2f4d1f5f7b61"
SUBSCRIPTION = "/subscriptions/0b1f6c5e-3d54-4f0e-8a4c-5b7e0c9d2f11"
GALLERIES = f"{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Compute/galleries"
IMAGE = f"{GALLERIES}/bank/images/ledger/versions/1.0.0"
CIRCUIT = f"{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Network/expressRouteCircuits/c"
AUTHORIZATION = "b3c1f6a4-authorization-of-the-circuit"
CIRCUIT_ALONE = {"connectivity": {"expressRoute": {"circuitId": CIRCUIT}}, EXPRESS_ROUTE_KEY: AUTHORIZATION}
ENCRYPTED = frozenset({f"{PROJECT}:{EXPRESS_ROUTE_KEY}"})


def parsed(secret_keys: frozenset[str] = frozenset(), **changes: Any) -> Settings:
    return parse_settings(PROJECT, configuration(**changes), secret_keys)


def mistakes(secret_keys: frozenset[str] = frozenset(), **changes: Any) -> list[str]:
    """The lines of the one message that refuses this configuration."""
    with pytest.raises(SettingsError) as refused:
        parsed(secret_keys, **changes)
    return str(refused.value).splitlines()


def bank(**changes: Any) -> dict[str, Any]:
    return {"bank": {"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB", "asn": 64512, **changes}}


def nodes(**changes: Any) -> dict[str, Any]:
    return {"nodes": {"sshPublicKey": SSH_PUBLIC_KEY, **changes}}


def policy(**changes: Any) -> dict[str, Any]:
    return {"connectivity": {"vpn": {"ipsecPolicy": changes}}}


def stack_peer(name: str = "bank-b", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "legalName": legal_name(name),
        "stack": f"{name}/decentralized-trust/prod",
        **changes,
    }


def card_peer(name: str = "bank-b", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "legalName": legal_name(name),
        "card": CARD_FILE,
        "fingerprint": FINGERPRINT,
        **changes,
    }


def peer(**changes: Any) -> dict[str, Any]:
    return {"peers": [stack_peer(**changes)]}


def ledger(**changes: Any) -> dict[str, Any]:
    return {"ledger": changes}


def network(authority: str = "bank-a", **changes: Any) -> dict[str, Any]:
    """Bank A's configuration with the authority of that name, node-1 its notary."""
    return ledger(roles={"node-1": "notary"}, network={"authority": authority, **changes})


def peers_network(**changes: Any) -> dict[str, Any]:
    """Bank A in the network of bank B."""
    return {**ledger(network={"authority": "bank-b", **changes}), **peer()}


ZONE = {
    "registrationUrl": "https://doorman.example/",
    "networkMapUrl": "https://map.example/",
    "trustRoot": CARD_FILE,
}
ARTIFACT = {"coordinates": "com.bank:credit:1.0", "sha256": "5a" * 32}
OWN_BUILD = {**ARTIFACT, "coordinates": "com.bank:corda:4.12-bank.1"}
RPC_USER = {"name": "reports", "permissions": ["InvokeRpc.nodeInfo"]}


def rsa_key(bits: int) -> str:
    # No such key pair exists: only the length of the modulus is looked at.
    key = RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def ecdsa_key() -> str:
    key = generate_private_key(SECP256R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


PYDANTICS = re.compile(
    r"(?i)should be|should match|input |valid |value error|greater than|less than or|Path\(|SecretStr"
)

# --- Each rejection: the changes, the key and the value in the message, and what is wanted -------------------------

REJECTIONS = {
    # location
    "location-absent": (
        {"location": None},
        LOCATION_KEY,
        "not set",
        "not set; wanted the name of an Azure region such as swedencentral",
    ),
    "location-display-name": (
        {"location": "Sweden Central"},
        LOCATION_KEY,
        "Sweden Central",
        "such as swedencentral",
    ),
    "location-unlike-any": ({"location": "atlantis"}, LOCATION_KEY, "atlantis", "swedencentral"),
    "location-under-our-namespace": (
        {"Location": "swedencentral"},
        "Location",
        "unknown key",
        f"wanted one of addressSpace, alerts, applicationNetworks, {LOCATION_KEY}",
    ),
    # ledger
    "platform-unknown": ({"ledger": {"platform": "abacus"}}, "ledger.platform", "abacus", "wanted one of corda"),
    "version-unknown": (
        {"ledger": {"version": "3.3"}},
        "ledger.version",
        "3.3",
        "wanted one of 4.8, 4.9, 4.10, 4.11, 4.12, 4.13, 4.14",
    ),
    "version-a-number": (
        {"ledger": {"version": 4.1}},
        "ledger.version",
        "4.1",
        'not text; wanted text such as "4.12"',
    ),
    "ledger-unknown-key": ({"ledger": {"edition": "x"}}, "ledger.edition", "unknown key", "platform, repository"),
    "ledger-no-object": (
        {"ledger": "corda"},
        "ledger",
        "corda",
        "not an object; wanted {platform, version, artifact, repository, applications, roles, names, rpcUsers, ",
    ),
    "artifact-by-path": (
        ledger(artifact={**ARTIFACT, "coordinates": "corda.jar"}),
        "ledger.artifact.coordinates",
        "corda.jar",
        "wanted GROUP:NAME:VERSION in a Maven repository",
    ),
    "artifact-unhashed": (
        ledger(artifact={"coordinates": "net.corda:corda:4.10"}),
        "ledger.artifact.sha256",
        "not set",
        "wanted SHA-256 of the file, 64 hex digits; a VM takes no other",
    ),
    "artifact-hash-of-another-kind": (
        ledger(applications=[{**ARTIFACT, "sha256": "5a" * 20}]),
        "ledger.applications[0].sha256",
        "5a5a",
        "wanted SHA-256 of the file, 64 hex digits",
    ),
    "application-twice": (
        ledger(applications=[ARTIFACT, ARTIFACT]),
        "ledger.applications[1].coordinates",
        "com.bank:credit:1.0",
        "the same as [0].coordinates; wanted each once",
    ),
    "applications-without-end": (
        ledger(applications=[{**ARTIFACT, "coordinates": f"com.bank:credit{number}:1.0"} for number in range(101)]),
        "ledger.applications",
        "com.bank:credit0:1.0",
        "101 of them; wanted 100 at most",
    ),
    "application-in-two-versions": (
        ledger(applications=[ARTIFACT, {**ARTIFACT, "coordinates": "com.bank:credit:1.1"}]),
        "ledger.applications[1].coordinates",
        "com.bank:credit:1.1",
        "the same as [0].coordinates; wanted each once",
    ),
    "artifact-of-another-version": (
        ledger(version="4.10", artifact=OWN_BUILD),
        "ledger.artifact.coordinates",
        "com.bank:corda:4.12-bank.1",
        "wanted one of version 4.10, or its own as ledger.version",
    ),
    "repository-within": (
        ledger(repository="https://10.9.0.4/maven"),
        "ledger.repository",
        "10.9.0.4",
        "wanted a public one",
    ),
    "repository-of-the-metadata-service": (
        ledger(repository="https://169.254.169.254/metadata"),
        "ledger.repository",
        "169.254.169.254",
        "wanted a public one",
    ),
    **{
        f"repository-at-{host:.20}": (
            ledger(repository=f"https://{host}/maven"),
            "ledger.repository",
            host[:20],
            "wanted a public one",
        )
        for host in ("168.63.129.16", "224.0.0.1", "maven.lan", "maven.home.arpa", f"{'m' * 64}.example")
    },
    **{
        f"repository-with-{path!a:.20}": (
            ledger(repository=f"https://maven.example/{path}"),
            "ledger.repository",
            "https://maven.example/",
            "wanted an https:// URL, port 443, without a user",
        )
        for path in ("\u202e", '"', "\\", "%0", "\0", "x" * 2000)
    },
    "application-in-two-groups": (
        ledger(applications=[{"coordinates": f"{group}:flows:1.0", "sha256": "0" * 64} for group in ("a", "b")]),
        "ledger.applications[1].coordinates",
        "b:flows:1.0",
        "the same as [0].coordinates; wanted each once",
    ),
    **{
        f"application-{coordinates!a:.20}": (
            ledger(applications=[{"coordinates": coordinates, "sha256": "0" * 64}]),
            "ledger.applications[0].coordinates",
            coordinates[:20],
            "wanted GROUP:NAME:VERSION in a Maven repository",
        )
        for coordinates in ("..:..:..", "g\u0435:name:1.0", f"g:{'n' * 129}:1.0")
    },
    "card-counter-after-which-no-change-fits": (
        bank(cardCounter=10**9),
        "bank.cardCounter",
        "1000000000",
        "wanted a whole number, 1 to 500000000",
    ),
    **{
        f"many-{key}": (
            {key: [f"{number:08x}-8a0b-4c9e-9f7e-2d5b7a1c4e90" for number in range(101)]},
            key,
            "101 of them",
            "wanted 100 at most",
        )
        for key in ("operators", "gatewayReaders")
    },
    "many-peers": (
        {"peers": [stack_peer(f"bank-{number}") for number in range(251)]},
        "peers",
        "251 of them",
        "wanted 250 at most",
    ),
    "peers-with-long-names": (
        ledger(roles={"node-1": "notary"}, network={"authority": "bank-a"})
        | {"connectivity": {"vpn": {"sku": "VpnGw4AZ"}}}
        | {
            "peers": [
                stack_peer(f"bank-{number}", legalName=f"O={'B' * 120}{number}, L={'L' * 63}, ST={'S' * 63}, C=GB")
                for number in range(100)
            ]
        },
        "peers",
        "bank-0",
        "their names take 27980 bytes; wanted 25000 at most, as one secret holds",
    ),
    "applications-in-each-other": (
        {"applicationNetworks": ["10.50.0.0/16", "10.60.0.0/24", "10.50.7.0/24"]},
        "applicationNetworks[2]",
        "10.50.7.0/24",
        "overlaps 10.50.0.0/16; wanted networks that do not overlap",
    ),
    "many-emails": (
        {"alerts": {"emails": [f"ops{number}@bank-a.example" for number in range(51)]}},
        "alerts.emails",
        "51 of them",
        "wanted 50 at most",
    ),
    "one-email-twice": (
        {"alerts": {"emails": ["ops@bank-a.example", "Ops@Bank-A.example"]}},
        "alerts.emails[1]",
        "Ops@Bank-A.example",
        "the same as [0]; wanted each once",
    ),
    **{
        f"email-{email!a:.20}": (
            {"alerts": {"emails": [email]}},
            "alerts.emails[0]",
            "a",
            "wanted an e-mail address such as operations@bank.example",
        )
        for email in (
            "\u00e9@b.example",
            "a\0@b.example",
            "a..b@b.example",
            "a@-.-",
            "a@b.c\u200b",
            f"{'a' * 251}@b.c",
        )
    },
    **{
        f"tag-{name!a:.20}": (
            {"tags": {name: "x"}},
            f"tags[{shown}]",
            "x",
            "wanted a name of 1 to 128 printable ASCII characters",
        )
        for name, shown in {
            " ": '" "',
            "a ": '"a "',
            "a\u202eb": '"a\\u202eb"',
            "Gr\u00f6\u00dfe": '"Gr\u00f6\u00dfe"',
        }.items()
    },
    **{
        f"tag-with-{value!a:.20}": ({"tags": {"owner": value}}, "tags.owner", "", wanted)
        for value, wanted in {
            "\0": "wanted printable ASCII characters",
            "x ": "wanted printable ASCII characters",
            "Z\u00fcrich": "wanted printable ASCII characters",
        }.items()
    },
    "repository-without-a-domain": (
        ledger(repository="https://localhost/maven"),
        "ledger.repository",
        "localhost",
        "wanted a public one",
    ),
    "number-that-is-a-truth-value": (
        nodes(count=True),
        "nodes.count",
        "true",
        "not a whole number; wanted a whole number, 2 to 15",
    ),
    "number-in-text": (
        bank(asn="64512"),
        "bank.asn",
        "64512",
        "text, not a whole number; wanted a private BGP autonomous system number such as 64512",
    ),
    "days-that-are-a-truth-value": (
        ledger(network={"authority": "bank-a", "eventHorizonDays": True}),
        "ledger.network.eventHorizonDays",
        "true",
        "not a whole number; wanted a whole number, 1 to 3650",
    ),
    "platform-version-that-no-node-has": (
        ledger(network={"authority": "bank-a", "minimumPlatformVersion": 999}),
        "ledger.network.minimumPlatformVersion",
        "999",
        "wanted a whole number, 1 to 200",
    ),
    "truth-value-in-text": (
        {"keyVault": {"purgeProtection": "no"}},
        "keyVault.purgeProtection",
        "no",
        "text; wanted true or false",
    ),
    "truth-value-of-old-yaml": ({"deletionProtection": "no"}, "deletionProtection", "no", "wanted true or false"),
    "generation-misspelt": (
        {"keyGenerations": {"lnk": 2}},
        "keyGenerations.lnk",
        "unknown key",
        "wanted link",
    ),
    "generation-that-is-a-truth-value": (
        {"keyGenerations": {"link": True}},
        "keyGenerations.link",
        "true",
        "not a whole number; wanted a whole number, 1 to 999",
    ),
    "applications-as-a-number": (
        {"applicationNetworks": [7]},
        "applicationNetworks[0]",
        "7",
        "wanted an IPv4 network such as 10.20.0.0/16",
    ),
    **{
        f"applications-in-{block}": (
            {"applicationNetworks": [block]},
            "applicationNetworks[0]",
            block,
            "wanted a block of 10.0.0.0/8",
        )
        for block in (
            "127.0.0.0/8",
            "224.0.0.0/8",
            "169.254.169.254/32",
            "168.63.129.16/32",
            "8.8.8.0/24",
            "0.0.0.7/32",
        )
    },
    "applications-within": (
        {"applicationNetworks": ["10.1.4.0/24"]},
        "applicationNetworks[0]",
        "10.1.4.0/24",
        "overlaps the member's own 10.1.0.0/16; wanted a network outside of it",
    ),
    "application-networks-without-end": (
        {"applicationNetworks": [f"10.200.{place}.0/24" for place in range(101)]},
        "applicationNetworks",
        "10.200.0.0/24",
        "101 of them; wanted 100 at most",
    ),
    **{
        f"vm-size-{size}": (nodes(vmSize=size), "nodes.vmSize", size, "wanted a size of the series")
        for size in (
            "Standard_D4ps_v5",
            "Standard_D3s_v5",
            "Standard_D4_v5",
            "Standard_B1s",
            "Standard_F2s_v2",
            "Standard_D4ads_v4",
            "Standard_Nope",
        )
    },
    "image-with-more-behind-it": (
        nodes(image={"id": f"{IMAGE}/../../x"}),
        "nodes.image.id",
        "/subscriptions/",
        "wanted /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Compute/galleries/GALLERY/images/NAME",
    ),
    "circuit-of-no-subscription": (
        {"connectivity": {"expressRoute": {"circuitId": CIRCUIT.replace("0b1f6c5e", "0b1f")}}},
        "connectivity.expressRoute.circuitId",
        "/subscriptions/",
        "wanted /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Network/expressRouteCircuits/NAME",
    ),
    "ssh-keys-two": (
        nodes(sshPublicKey=f"{SSH_PUBLIC_KEY}\n{SSH_PUBLIC_KEY}"),
        "nodes.sshPublicKey",
        "ssh-ed25519",
        "wanted one OpenSSH public key",
    ),
    "ssh-key-of-a-device": (
        nodes(sshPublicKey=f"sk-{SSH_PUBLIC_KEY}"),
        "nodes.sshPublicKey",
        "sk-ssh-ed25519",
        "wanted one OpenSSH public key",
    ),
    "tags-too-many": (
        {"tags": {f"tag-{place}": "x" for place in range(13)}},
        "tags",
        "tag-0",
        "13 tags; wanted 12 at most",
    ),
    "tag-with-a-slash": (
        {"tags": {"a/b": "x"}},
        'tags["a/b"]',
        "x",
        "wanted a name of 1 to 128 printable ASCII characters, none of <>%&\\?/",
    ),
    "tag-reserved": (
        {"tags": {"Microsoft.x": "x"}},
        'tags["Microsoft.x"]',
        "x",
        "wanted a name that does not begin with microsoft, azure or windows",
    ),
    "tag-of-the-program": (
        {"tags": {"NODEMODEL": "x"}},
        "tags.NODEMODEL",
        "x",
        "wanted another name: the program sets that one",
    ),
    "tag-of-all": ({"tags": {"Bank": "x"}}, "tags.Bank", "x", "wanted another name: the program sets that one"),
    "tag-in-two-cases": (
        {"tags": {"Cost": "x", "cost": "y"}},
        "tags.cost",
        "y",
        "wanted each name once: Azure's have no upper and lower case",
    ),
    "tag-too-long": (
        {"tags": {"cost": "x" * 257}},
        "tags.cost",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...",
        "257 characters; wanted 256 at most",
    ),
    "repository-in-clear": (
        ledger(repository="http://repository.example"),
        "ledger.repository",
        "http://repository.example",
        "wanted an https:// URL, port 443, without a user",
    ),
    "repository-with-a-user": (
        ledger(repository="https://reader:secret@repository.example"),
        "ledger.repository",
        "https://",
        "wanted an https:// URL, port 443, without a user",
    ),
    "repository-on-another-port": (
        ledger(repository="https://repository.example:8443/maven"),
        "ledger.repository",
        "https://repository.example:8443/maven",
        "wanted an https:// URL, port 443, without a user",
    ),
    "repository-with-a-query": (
        ledger(repository="https://repository.example/maven?token=secret"),
        "ledger.repository",
        "https://repository.example/maven",
        "wanted an https:// URL, port 443, without a user",
    ),
    "version-without-its-artifact": (
        ledger(version="4.12"),
        "ledger.version",
        "4.12",
        "set without ledger.artifact; wanted its coordinates and SHA-256, or nodes.image",
    ),
    "role-unknown": (
        ledger(roles={"node-1": "oracle"}),
        "ledger.roles.node-1",
        "oracle",
        "wanted one of node, notary",
    ),
    "role-of-nobody": (
        ledger(roles={"node-6": "notary", "node-7": "notary"}),
        "ledger.roles.node-7",
        "notary",
        "there is no such identity; wanted node-1 to node-6",
    ),
    "role-no-text": (ledger(roles={"node-1": 1}), "ledger.roles.node-1", "1", "not text; wanted the name of a role"),
    "rpc-user-malformed": (
        ledger(rpcUsers=[{**RPC_USER, "name": "credit reports"}]),
        "ledger.rpcUsers[0].name",
        "credit reports",
        "wanted letters, digits and _, a letter first, 32 at most; unique",
    ),
    "rpc-user-with-a-hyphen": (
        ledger(rpcUsers=[{**RPC_USER, "name": "credit-reports"}]),
        "ledger.rpcUsers[0].name",
        "credit-reports",
        "wanted letters, digits and _, a letter first, 32 at most; unique",
    ),
    "rpc-user-of-the-agent": (
        ledger(rpcUsers=[{**RPC_USER, "name": "ledger_agent"}]),
        "ledger.rpcUsers[0].name",
        "ledger_agent",
        "the agent's own; wanted another name",
    ),
    "rpc-user-twice": (
        ledger(rpcUsers=[RPC_USER, {**RPC_USER, "permissions": ["ALL"]}]),
        "ledger.rpcUsers[1].name",
        "reports",
        "the same as [0].name; wanted each once",
    ),
    "rpc-user-for-nothing": (
        ledger(rpcUsers=[{**RPC_USER, "permissions": []}]),
        "ledger.rpcUsers[0].permissions",
        "[]",
        "wanted 1 or more",
    ),
    "rpc-permission-unknown": (
        ledger(rpcUsers=[{**RPC_USER, "permissions": ["StartFlow"]}]),
        "ledger.rpcUsers[0].permissions[0]",
        "StartFlow",
        "wanted ALL, StartFlow.CLASS, InvokeRpc.METHOD or InvokeRpc:INTERFACE#METHOD",
    ),
    "rpc-permission-twice": (
        ledger(rpcUsers=[{**RPC_USER, "permissions": ["ALL", "ALL"]}]),
        "ledger.rpcUsers[0].permissions",
        "ALL",
        "wanted each once; more than once: ALL",
    ),
    "network-of-nobody": (ledger(network={}), "ledger.network", "{}", "wanted either authority or zone"),
    "network-of-two": (
        ledger(network={"authority": "bank-a", "zone": {**ZONE, "trustRoot": CARD_FILE}}),
        "ledger.network.zone.trustRoot",
        CARD_FILE[:40],
        "0 certificates in it; wanted a PEM file with the network's root certificate alone",
    ),
    "zone-without-a-root": (
        ledger(network={"zone": {**ZONE, "trustRoot": "missing.pem"}}),
        "ledger.network.zone.trustRoot",
        "missing.pem",
        "no such file; wanted the path of a PEM file with its root certificate",
    ),
    "authority-nobody": (
        network("bank-b"),
        "ledger.network.authority",
        "bank-b",
        "not in peers; wanted it listed there, or bank-a itself",
    ),
    "authority-not-listed": (
        {**network("bank-c"), **peer()},
        "ledger.network.authority",
        "bank-c",
        "not in peers; wanted it listed there, or bank-a itself",
    ),
    "authority-without-a-notary": (
        ledger(network={"authority": "bank-a"}),
        "ledger.roles",
        "{}",
        "this network has no notary; wanted role notary for one identity, or ledger.network.notaries",
    ),
    "root-open-as-text": (
        network(rootOpenUntil="tomorrow"),
        "ledger.network.rootOpenUntil",
        "tomorrow",
        "wanted a UTC time such as 2",
    ),
    "root-open-without-its-zone": (
        network(rootOpenUntil="2026-01-01T10:00:00"),
        "ledger.network.rootOpenUntil",
        "2026-01-01T10:00:00",
        "with the Z",
    ),
    "root-open-in-another-zone": (
        network(rootOpenUntil="2026-01-01T10:00:00+01:00"),
        "ledger.network.rootOpenUntil",
        "+01:00",
        "with the Z",
    ),
    "root-open-by-a-short-month": (
        network(rootOpenUntil="2026-1-1T10:00:00Z"),
        "ledger.network.rootOpenUntil",
        "2026-1-1",
        "wanted a UTC time such as 2",
    ),
    "root-open-by-hours": (network(rootOpenUntil=8), "ledger.network.rootOpenUntil", "8", "wanted a UTC time"),
    "root-open-for-ever": (
        network(rootOpenUntil="2999-01-01T00:00:00Z"),
        "ledger.network.rootOpenUntil",
        "2999",
        "hours ahead; wanted 24 at most, from now",
    ),
    "ca-generation-zero": (
        network(caGeneration=0),
        "ledger.network.caGeneration",
        "0",
        "wanted a whole number, 1 to 99",
    ),
    "approval-unknown": (
        network(approval="always"),
        "ledger.network.approval",
        "always",
        "wanted one of manual, auto",
    ),
    "trust-root-by-file": (
        network(trustRoot="root.pem"),
        "ledger.network.trustRoot",
        "root.pem",
        "wanted sha256: and 64 hex digits",
    ),
    "document-by-another-hash": (
        network(document=f"sha512:{'5a' * 64}"),
        "ledger.network.document",
        "sha512",
        "wanted sha256: and 64 hex digits",
    ),
    "notary-twice": (
        network(notaries=["O=N, L=London, C=GB", "O=N, L=London, C=GB"]),
        "ledger.network.notaries[1]",
        "O=N, L=London, C=GB",
        "the same as [0]; wanted each once",
    ),
    "notaries-without-end": (
        network(notaries=[f"OU=n{number}, O=N, L=London, C=GB" for number in range(21)]),
        "ledger.network.notaries",
        "OU=n0, O=N, L=London, C=GB",
        "21 of them; wanted 20 at most",
    ),
    "platform-version-zero": (
        network(minimumPlatformVersion=0),
        "ledger.network.minimumPlatformVersion",
        "0",
        "wanted a whole number, 1 to 200",
    ),
    "message-small": (network(maxMessageBytes=1), "ledger.network.maxMessageBytes", "1", "65536 to 104857600"),
    "message-larger-than-a-transaction": (
        network(maxMessageBytes=200_000, maxTransactionBytes=100_000),
        "ledger.network.maxMessageBytes",
        "200000",
        "more than maxTransactionBytes, 100000; wanted it no larger",
    ),
    "transaction-small": (
        network(maxTransactionBytes=1),
        "ledger.network.maxTransactionBytes",
        "1",
        "wanted a whole number, 65536 to 2147483647",
    ),
    "horizon-zero": (network(eventHorizonDays=0), "ledger.network.eventHorizonDays", "0", "1 to 3650"),
    # bank
    "bank-absent": (
        {"bank": None},
        "bank",
        "not set",
        "not set; wanted {name, legalName, asn, cardCounter}",
    ),
    "bank-no-object": (
        {"bank": "bank-a"},
        "bank",
        "bank-a",
        "not an object; wanted {name, legalName, asn, cardCounter}",
    ),
    "bank-broken-json": (
        {"bank": '{"name": '},
        "bank",
        '{"name":',
        "not an object; wanted {name, legalName, asn, cardCounter}",
    ),
    "bank-unknown-key": (
        bank(bic="XXXX"),
        "bank.bic",
        "unknown key",
        "wanted one of asn, cardCounter, legalName, name",
    ),
    "bank-name-absent": (
        {"bank": {"legalName": "O=Bank A, L=London, C=GB", "asn": 64512}},
        "bank.name",
        "not set",
        "not set; wanted lower-case letters, digits and single hyphens, a letter first, 24 characters at most",
    ),
    "bank-name-upper-case": (
        bank(name="Bank-A"),
        "bank.name",
        "Bank-A",
        "wanted lower-case letters, digits and single hyphens, a letter first, 24 characters at most",
    ),
    "bank-name-digit-first": (
        bank(name="1bank"),
        "bank.name",
        "1bank",
        "wanted lower-case letters, digits and single hyphens, a letter first, 24 characters at most",
    ),
    "bank-name-double-hyphen": (bank(name="bank--a"), "bank.name", "bank--a", "lower-case letters"),
    "bank-name-hyphen-last": (bank(name="bank-"), "bank.name", "bank-", "lower-case letters"),
    "bank-name-of-a-node": (bank(name="node-1"), "bank.name", "node-1", "nodes have those from node-1 to node-100"),
    "peer-name-of-a-node": (
        {"peers": [stack_peer("node-100")]},
        "peers[0].name",
        "node-100",
        "wanted another name: nodes have those from node-1",
    ),
    "bank-name-long": (
        bank(name="b" * 25),
        "bank.name",
        "b" * 25,
        "wanted lower-case letters, digits and single hyphens, a letter first, 24 characters at most",
    ),
    "legal-name-incomplete": (
        bank(legalName="O=Bank A, L=London"),
        "bank.legalName",
        "O=Bank A, L=London",
        "no C; wanted at least O, L and C",
    ),
    "legal-name-with-unit": (
        bank(legalName="OU=IT, O=Bank A, L=London, C=GB"),
        "bank.legalName",
        "OU=IT, O=Bank A, L=London, C=GB",
        "OU is set; wanted none, since each node gets its own OU",
    ),
    "legal-name-absent": (
        {"bank": {"name": "bank-a", "asn": 64512}},
        "bank.legalName",
        "not set",
        "not set; wanted an X.500 name with O, L and C, such as O=Bank A, L=London, C=GB",
    ),
    "asn-absent": (
        {"bank": {"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB"}},
        "bank.asn",
        "not set",
        "not set; wanted a private BGP autonomous system number such as 64512",
    ),
    "asn-of-azure": (
        bank(asn=65517),
        "bank.asn",
        "65517",
        "reserved by Azure; wanted 64512 to 65514, 65521 to 65534",
    ),
    "asn-beside-no-circuit": (
        bank(asn=65515),
        "bank.asn",
        "65515",
        "for a VPN gateway beside an ExpressRoute gateway; wanted connectivity.vpn and connectivity.expressRoute, or",
    ),
    "asn-public": (bank(asn=3320), "bank.asn", "3320", "not a private ASN; wanted 64512 to 65514, 65521 to 65534"),
    "asn-a-word": (
        bank(asn="first"),
        "bank.asn",
        "first",
        "text, not a whole number; wanted a private BGP autonomous system number such as 64512",
    ),
    # addressSpace
    "space-absent": (
        {"addressSpace": None},
        "addressSpace",
        "not set",
        "not set; wanted a private IPv4 network of /16 to /22 such as 10.20.0.0/16, without host bits",
    ),
    "space-public": ({"addressSpace": "20.0.0.0/16"}, "addressSpace", "20.0.0.0/16", "wanted a part of 10.0.0.0/8"),
    "space-too-large": ({"addressSpace": "10.0.0.0/15"}, "addressSpace", "10.0.0.0/15", "wanted /16 to /22"),
    "space-too-small": ({"addressSpace": "10.0.0.0/23"}, "addressSpace", "10.0.0.0/23", "wanted /16 to /22"),
    "space-with-host-bits": ({"addressSpace": "10.1.0.1/16"}, "addressSpace", "10.1.0.1/16", "without host bits"),
    "space-of-ipv6": (
        {"addressSpace": "fd00::/64"},
        "addressSpace",
        "fd00::/64",
        "wanted a private IPv4 network of /16 to /22 such as 10.20.0.0/16, without host bits",
    ),
    "space-a-list": (
        {"addressSpace": ["10.1.0.0/16"]},
        "addressSpace",
        '["10.1.0.0/16"]',
        "wanted a private IPv4 network of /16 to /22 such as 10.20.0.0/16, without host bits",
    ),
    # size
    "size-absent": ({"size": None}, "size", "not set", "not set; wanted one of small, medium, large"),
    "size-unknown": ({"size": "huge"}, "size", "huge", "wanted one of small, medium, large"),
    "size-wants-zones": (
        {"size": "medium", "location": "westus"},
        "size",
        "medium",
        "needs availability zones, which westus does not have; wanted small, or a region with zones",
    ),
    "large-wants-zones": ({"size": "large", "location": "ukwest"}, "size", "large", "which ukwest does not have"),
    # nodes
    "nodes-absent": (
        {"nodes": None},
        "nodes",
        "not set",
        "not set; wanted {count, standby, vmSize, image, sshPublicKey, encryptionAtHost}",
    ),
    "nodes-unknown-key": (
        nodes(replicas=3),
        "nodes.replicas",
        "unknown key",
        "wanted one of count, encryptionAtHost",
    ),
    "count-too-few": (nodes(count=1), "nodes.count", "1", "wanted a whole number, 2 to 15"),
    "count-too-many": (nodes(count=16), "nodes.count", "16", "wanted a whole number, 2 to 15"),
    "count-a-word": (
        nodes(count="many"),
        "nodes.count",
        "many",
        "text, not a whole number; wanted a whole number, 2 to 15",
    ),
    "standby-negative": (nodes(standby=-1), "nodes.standby", "-1", "wanted a whole number, 0 to 14"),
    "standby-all-of-size": (
        {"size": "small", **nodes(standby=2)},
        "nodes.standby",
        "2",
        "all of 2 VMs; wanted at least one that runs a node",
    ),
    "standby-all-of-count": (
        nodes(standby=3, count=3),
        "nodes.standby",
        "3",
        "all of 3 VMs; wanted at least one that runs a node",
    ),
    "vm-size-malformed": (nodes(vmSize="D4s v5"), "nodes.vmSize", "D4s v5", "wanted a size of the series"),
    "minimum-above-the-own-nodes": (
        network(minimumPlatformVersion=13),
        "ledger.network.minimumPlatformVersion",
        "13",
        "above 12, that of 4.10, which this member's nodes run; wanted it no higher",
    ),
    "image-managed": (
        nodes(image={"id": f"{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Compute/images/ledger"}),
        "nodes.image.id",
        "/subscriptions/",
        "galleries/GALLERY/images/NAME/versions/1.0.0",
    ),
    "image-malformed": (
        nodes(image={"id": "ubuntu"}),
        "nodes.image.id",
        "ubuntu",
        "wanted /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Compute/galleries/GALLERY/images/NAME",
    ),
    **{
        f"image-{what}": (
            nodes(image={"id": IMAGE.partition("/versions/")[0] + end}),
            "nodes.image.id",
            "/subscriptions/",
            "galleries/GALLERY/images/NAME/versions/1.0.0",
        )
        for what, end in (("without-version", ""), ("latest", "/versions/latest"))
    },
    "image-without-id": (
        nodes(image={}),
        "nodes.image.id",
        "not set",
        "not set; wanted the resource id of an image's version",
    ),
    "image-unknown-key": (
        nodes(image={"id": IMAGE, "sku": "22"}),
        "nodes.image.sku",
        "unknown key",
        "wanted one of id",
    ),
    "ssh-key-absent": (
        {"nodes": {}},
        "nodes.sshPublicKey",
        "not set",
        "not set; wanted one OpenSSH public key, ssh-ed25519 or ssh-rsa",
    ),
    "ssh-key-garbage": (nodes(sshPublicKey="hello"), "nodes.sshPublicKey", "hello", "wanted one OpenSSH public key"),
    "ssh-key-unknown-type": (
        nodes(sshPublicKey="ssh-abc AAAA"),
        "nodes.sshPublicKey",
        "ssh-abc AAAA",
        "wanted one OpenSSH public key",
    ),
    "ssh-key-short-rsa": (
        nodes(sshPublicKey=rsa_key(3071)),
        "nodes.sshPublicKey",
        "ssh-rsa AAAA",
        "ssh-ed25519, or ssh-rsa of 3072 bits or more",
    ),
    "ssh-key-ecdsa": (
        nodes(sshPublicKey=ecdsa_key()),
        "nodes.sshPublicKey",
        "ecdsa-sha2-nistp256",
        "ssh-ed25519, or ssh-rsa of 3072 bits or more",
    ),
    "encryption-at-host-a-word": (
        nodes(encryptionAtHost="maybe"),
        "nodes.encryptionAtHost",
        "maybe",
        "text; wanted true or false",
    ),
    # connectivity
    "connectivity-empty": ({"connectivity": {}}, "connectivity", "{}", "wanted vpn, expressRoute or both"),
    "connectivity-unknown-key": (
        {"connectivity": {"vpn": {}, "wan": {}}},
        "connectivity.wan",
        "unknown key",
        "wanted one of expressRoute, vpn",
    ),
    "sku-retired": (
        {"connectivity": {"vpn": {"sku": "VpnGw1"}}},
        "connectivity.vpn.sku",
        "VpnGw1",
        "wanted one of VpnGw1AZ, VpnGw2AZ, VpnGw3AZ, VpnGw4AZ, VpnGw5AZ",
    ),
    "vpn-unknown-key": ({"connectivity": {"vpn": {"size": 1}}}, "connectivity.vpn.size", "unknown key", "sku"),
    "ike-encryption": (
        policy(ikeEncryption="DES3"),
        "connectivity.vpn.ipsecPolicy.ikeEncryption",
        "DES3",
        "wanted one of GCMAES256, GCMAES128, AES256, AES192, AES128",
    ),
    "ike-integrity": (
        policy(ikeIntegrity="MD5"),
        "connectivity.vpn.ipsecPolicy.ikeIntegrity",
        "MD5",
        "wanted one of SHA384, SHA256, GCMAES256, GCMAES128",
    ),
    "dh-group": (
        policy(dhGroup="DHGroup2"),
        "connectivity.vpn.ipsecPolicy.dhGroup",
        "DHGroup2",
        "wanted one of ECP384, ECP256, DHGroup24, DHGroup14",
    ),
    "ipsec-encryption": (
        policy(ipsecEncryption="None"),
        "connectivity.vpn.ipsecPolicy.ipsecEncryption",
        "None",
        "wanted one of GCMAES256, GCMAES128, AES256, AES192, AES128",
    ),
    "ipsec-integrity": (
        policy(ipsecIntegrity="SHA1"),
        "connectivity.vpn.ipsecPolicy.ipsecIntegrity",
        "SHA1",
        "wanted one of GCMAES256, GCMAES128, SHA256",
    ),
    "pfs-group": (
        policy(pfsGroup="None"),
        "connectivity.vpn.ipsecPolicy.pfsGroup",
        "None",
        "wanted one of ECP384, ECP256, PFS24, PFS14",
    ),
    "half-gcm": (
        policy(ipsecEncryption="AES256"),
        "connectivity.vpn.ipsecPolicy",
        '{"ipsecEncryption": "AES256"}',
        "encryption and integrity in one; wanted the same for both",
    ),
    "life-time-short": (
        policy(saLifeTimeSeconds=299),
        "connectivity.vpn.ipsecPolicy.saLifeTimeSeconds",
        "299",
        "wanted a whole number, 300 to 172799",
    ),
    "life-time-long": (
        policy(saLifeTimeSeconds=172_800),
        "connectivity.vpn.ipsecPolicy.saLifeTimeSeconds",
        "172800",
        "wanted a whole number, 300 to 172799",
    ),
    "data-size-small": (
        policy(saDataSizeKilobytes=1023),
        "connectivity.vpn.ipsecPolicy.saDataSizeKilobytes",
        "1023",
        "wanted a whole number, 1024 to 2147483647",
    ),
    "data-size-large": (
        policy(saDataSizeKilobytes=2_147_483_648),
        "connectivity.vpn.ipsecPolicy.saDataSizeKilobytes",
        "2147483648",
        "wanted a whole number, 1024 to 2147483647",
    ),
    "policy-unknown-key": (
        policy(ikeVersion="v1"),
        "connectivity.vpn.ipsecPolicy.ikeVersion",
        "unknown key",
        "wanted one of dhGroup, ikeEncryption, ikeIntegrity",
    ),
    "circuit-absent": (
        {"connectivity": {"expressRoute": {}}},
        "connectivity.expressRoute.circuitId",
        "not set",
        "not set; wanted the resource id of a circuit",
    ),
    "circuit-by-name": (
        {"connectivity": {"expressRoute": {"circuitId": "our-circuit"}}},
        "connectivity.expressRoute.circuitId",
        "our-circuit",
        "wanted /subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Network/expressRouteCircuits/NAME",
    ),
    "readers-of-no-gateway": (
        {**CIRCUIT_ALONE, "gatewayReaders": [GROUP]},
        "gatewayReaders",
        GROUP,
        "there is no VPN gateway to read; wanted `connectivity.vpn`, or no readers",
    ),
    # expressRouteAuthorizationKey
    "authorization-absent": (
        {"connectivity": {"expressRoute": {"circuitId": CIRCUIT}}},
        EXPRESS_ROUTE_KEY,
        "not set",
        "not set; wanted pulumi config set --secret expressRouteAuthorizationKey for the circuit",
    ),
    "authorization-without-circuit": (
        {EXPRESS_ROUTE_KEY: AUTHORIZATION},
        EXPRESS_ROUTE_KEY,
        "[secret]",
        "`connectivity.expressRoute` is not; wanted both or neither",
    ),
    "authorization-in-clear": (
        CIRCUIT_ALONE,
        EXPRESS_ROUTE_KEY,
        "[secret]",
        "is in plain text; wanted it encrypted: `pulumi config set --secret`",
    ),
    "authorization-no-text": (
        {EXPRESS_ROUTE_KEY: [AUTHORIZATION]},
        EXPRESS_ROUTE_KEY,
        "[secret]",
        "not text; wanted the circuit's authorization key",
    ),
    # peers
    "peers-no-list": (
        {"peers": "bank-b"},
        "peers",
        "bank-b",
        "not a list; wanted a list, each {name, legalName, stack, card, link, fingerprint}",
    ),
    "peer-no-object": (
        {"peers": ["bank-b"]},
        "peers[0]",
        "bank-b",
        "not an object; wanted {name, legalName, stack, card, link, fingerprint}",
    ),
    "peer-unknown-key": (
        peer(region="x"),
        "peers[0].region",
        "unknown key",
        "wanted one of card, fingerprint, legalName",
    ),
    "peer-name-absent": (
        {"peers": [{"stack": "o/p/s"}]},
        "peers[0].name",
        "not set",
        "not set; wanted lower-case letters, digits and single hyphens, a letter first, 24 characters at most",
    ),
    "peer-name-malformed": (
        peer(name="Bank_B"),
        "peers[0].name",
        "Bank_B",
        "wanted lower-case letters, digits and single hyphens, a letter first, 24 characters at most",
    ),
    "peer-from-nowhere": (
        {"peers": [{"name": "bank-b"}]},
        "peers[0].stack",
        "not set",
        "not set; wanted stack, or card with a file",
    ),
    "peer-from-both": (
        {"peers": [card_peer(stack="o/p/s", card=CARD_FILE)]},
        "peers[0].card",
        "test_settings.py",
        "set beside stack; wanted one of the two",
    ),
    "peer-stack-malformed": (
        peer(stack="bank-b"),
        "peers[0].stack",
        "bank-b",
        "wanted organization/project/stack",
    ),
    "peer-card-not-there": (
        {"peers": [card_peer(card="cards/missing.json")]},
        "peers[0].card",
        "cards/missing.json",
        "no such file; wanted the path of a JSON file with the peer's card",
    ),
    "peer-card-unpinned": (
        {"peers": [{"name": "bank-b", "card": CARD_FILE}]},
        "peers[0].fingerprint",
        "not set",
        "not set; wanted the peer's fingerprint, as agreed out of band, beside a card",
    ),
    "fingerprint-malformed": (
        peer(fingerprint="5A:5A"),
        "peers[0].fingerprint",
        "5A:5A",
        "wanted sha256: and 64 hex digits",
    ),
    "link-unknown": (
        peer(link="carrier-pigeon"),
        "peers[0].link",
        "carrier-pigeon",
        "wanted one of vnet-to-vnet, ipsec, express-route",
    ),
    "gateway-reader-by-name": (
        {"gatewayReaders": ["alice"]},
        "gatewayReaders[0]",
        "alice",
        "wanted a GUID such as 5f0c2d6e-1a7b-4c3d-9e8f-0a1b2c3d4e5f",
    ),
    "gateway-reader-twice": (
        {"gatewayReaders": [GROUP, GROUP]},
        "gatewayReaders[1]",
        GROUP,
        "the same as [0]; wanted each once",
    ),
    "standby-without-zones": (
        {"size": "small", "location": "westus", "database": {"highAvailability": "ZoneRedundant"}},
        "database.highAvailability",
        "ZoneRedundant",
        "westus has no availability zones; wanted SameZone or Disabled",
    ),
    "backup-without-a-pair": (
        {"location": "polandcentral", "database": {"geoRedundantBackup": True}},
        "database.geoRedundantBackup",
        "true",
        "polandcentral has no paired region; wanted false",
    ),
    "server-of-no-such-vms": (
        {"database": {"sku": "Standard_D3ds_v5"}},
        "database.sku",
        "Standard_D3ds_v5",
        "wanted such as Standard_D4s_v3",
    ),
    "server-with-amd-processors": (
        {"database": {"sku": "Standard_D4ads_v5"}},
        "database.sku",
        "Standard_D4ads_v5",
        "wanted such as Standard_D4s_v3",
    ),
    "server-too-small": (
        {"size": "large", "database": {"sku": "Standard_D2ds_v5"}},
        "database.sku",
        "Standard_D2ds_v5",
        "of 2 vCores; wanted 4 or more for 14 nodes",
    ),
    "peer-is-ourselves": (
        {"peers": [stack_peer("bank-a")]},
        "peers[0].name",
        "bank-a",
        "this member itself; wanted other members only",
    ),
    "peer-twice": (
        {"peers": [stack_peer("bank-c"), stack_peer("bank-b"), card_peer("bank-c")]},
        "peers[2].name",
        "bank-c",
        "the same as [0].name; wanted each once",
    ),
    "peer-without-a-legal-name": (
        {"peers": [{"name": "bank-b", "stack": "bank-b/decentralized-trust/prod"}]},
        "peers[0].legalName",
        "not set",
        "not set; wanted that of its bank, agreed out of band",
    ),
    "peer-legal-name-of-a-node": (
        peer(legalName="OU=node-1, O=Bank B, L=London, C=GB"),
        "peers[0].legalName",
        "OU=node-1, O=Bank B, L=London, C=GB",
        "OU is set; wanted none, since each node gets its own OU",
    ),
    "peer-legal-name-that-looks-alike": (
        peer(legalName="O=\u0412ank B, L=London, C=GB"),
        "peers[0].legalName",
        "O=\u0412ank B, L=London, C=GB",
        "has U+0412 (CYRILLIC CAPITAL LETTER VE); wanted printable basic Latin only",
    ),
    "peer-with-our-legal-name": (
        peer(legalName="O=BANK A, L=London, C=GB"),
        "peers[0].legalName",
        "O=BANK A, L=London, C=GB",
        "that of bank-a too; wanted a different legal name for each",
    ),
    "peer-whose-node-ca-could-certify-us": (
        {**bank(legalName="O=Bank A, L=London, ST=Kent, C=GB"), **peer(legalName="O=bank a, L=London, C=GB")},
        "peers[0].legalName",
        "O=bank a, L=London, C=GB",
        "that of bank-a but for ST, O=Bank A, L=London, ST=Kent, C=GB; wanted a difference in O, L or C",
    ),
    "peer-whom-our-node-ca-could-certify": (
        peer(legalName="O=Bank A, L=London, ST=Kent, C=GB"),
        "peers[0].legalName",
        "O=Bank A, L=London, ST=Kent, C=GB",
        "that of bank-a but for ST, O=Bank A, L=London, C=GB; wanted",
    ),
    "peers-with-one-legal-name": (
        {"peers": [stack_peer("bank-c"), stack_peer("bank-b", legalName=legal_name("bank-c").upper())]},
        "peers[1].legalName",
        "O=BANK C, L=LONDON, C=GB",
        "that of bank-c too; wanted a different legal name for each",
    ),
    "circuit-link-without-circuit": (
        peer(link="express-route"),
        "peers[0].link",
        "express-route",
        "there is no connectivity.expressRoute; wanted it for such a link",
    ),
    # applicationNetworks, operators, alerts, tags, keyVault, keyGenerations, deletionProtection
    "application-network-by-name": (
        {"applicationNetworks": ["lan"]},
        "applicationNetworks[0]",
        "lan",
        "wanted a network with its prefix, such as 10.50.0.0/16",
    ),
    "application-network-everyone": (
        {"applicationNetworks": ["10.9.0.0/16", "0.0.0.0/0"]},
        "applicationNetworks[1]",
        "0.0.0.0/0",
        "wanted a /8 or smaller: RPC is for the bank's own applications",
    ),
    "application-network-too-wide": (
        {"applicationNetworks": ["10.0.0.0/7"]},
        "applicationNetworks[0]",
        "10.0.0.0/7",
        "wanted a /8 or smaller",
    ),
    "application-network-twice": (
        {"applicationNetworks": ["10.9.0.0/16", "10.9.0.0/16"]},
        "applicationNetworks[1]",
        "10.9.0.0/16",
        "the same as [0]; wanted each once",
    ),
    "application-networks-no-list": (
        {"applicationNetworks": "10.9.0.0/16"},
        "applicationNetworks",
        "10.9.0.0/16",
        "not a list; wanted a list, each an IPv4 network such as 10.20.0.0/16, without host bits",
    ),
    "operator-by-name": (
        {"operators": ["ledger-operators"]},
        "operators[0]",
        "ledger-operators",
        "wanted a GUID such as 5f0c2d6e-1a7b-4c3d-9e8f-0a1b2c3d4e5f",
    ),
    "operator-twice": (
        {"operators": [GROUP, GROUP.upper()]},
        "operators[1]",
        GROUP.upper(),
        "the same as [0]; wanted each once",
    ),
    "email-malformed": (
        {"alerts": {"emails": ["ops@bank-a.example", "ops"]}},
        "alerts.emails[1]",
        "ops",
        "wanted an e-mail address such as operations@bank.example",
    ),
    "alerts-unknown-key": ({"alerts": {"phones": []}}, "alerts.phones", "unknown key", "wanted one of emails"),
    "budget-of-nothing": (
        {"alerts": {"emails": ["ops@bank-a.example"]}, "monitoring": {"budget": 0}},
        "monitoring.budget",
        "0",
        "wanted a whole number, 1 to 1000000000",
    ),
    "budget-of-400-digits": (
        {"alerts": {"emails": ["ops@bank-a.example"]}, "monitoring": {"budget": 10**400}},
        "monitoring.budget",
        "1000",
        "wanted a whole number, 1 to 1000000000",
    ),
    "budget-of-true": (
        {"alerts": {"emails": ["ops@bank-a.example"]}, "monitoring": {"budget": True}},
        "monitoring.budget",
        "true",
        "not a whole number; wanted a whole number, 1 to 1000000000",
    ),
    "budget-unwatched": (
        {"size": "small", "alerts": {"emails": ["ops@bank-a.example"]}, "monitoring": {"budget": 100}},
        "monitoring.budget",
        "100",
        "at size small, which is not watched; wanted size medium or large",
    ),
    "budget-unheard": (
        {"monitoring": {"budget": 100}},
        "monitoring.budget",
        "100",
        "set without alerts.emails; wanted an address for its mail",
    ),
    "tag-no-text": (
        {"tags": {"costCentre": 7}},
        "tags.costCentre",
        "7",
        "not text; wanted text in quotes",
    ),
    "tag-named-like-a-key": ({"tags": {"size": 7}}, "tags.size", "7", "not text; wanted text in quotes"),
    "tags-no-object": (
        {"tags": "blue"},
        "tags",
        "blue",
        "not an object; wanted an object, each value text in quotes",
    ),
    "soft-delete-short": (
        {"keyVault": {"softDeleteDays": 6}},
        "keyVault.softDeleteDays",
        "6",
        "wanted a whole number, 7 to 90",
    ),
    "share-small": ({"ledger": {"shareGib": 99}}, "ledger.shareGib", "99", "100 to 102400"),
    "share-large": ({"ledger": {"shareGib": 102_401}}, "ledger.shareGib", "102401", "100 to 102400"),
    "share-text": (
        {"ledger": {"shareGib": "lots"}},
        "ledger.shareGib",
        "lots",
        "text, not a whole number; wanted a whole number, 100 to 102400",
    ),
    "soft-delete-long": ({"keyVault": {"softDeleteDays": 91}}, "keyVault.softDeleteDays", "91", "7 to 90"),
    "purge-protection-a-word": (
        {"keyVault": {"purgeProtection": "yes please"}},
        "keyVault.purgeProtection",
        "yes please",
        "text; wanted true or false",
    ),
    "key-vault-unknown-key": ({"keyVault": {"sku": "x"}}, "keyVault.sku", "unknown key", "purgeProtection"),
    "link-generation-zero": (
        {"keyGenerations": {"link": 0}},
        "keyGenerations.link",
        "0",
        "wanted a whole number, 1 to 999",
    ),
    "signing-generation-zero": (
        {"keyGenerations": {"signing": 0}},
        "keyGenerations.signing",
        "0",
        "wanted a whole number, 1 to 999",
    ),
    "deletion-protection-a-word": (
        {"deletionProtection": "perhaps"},
        "deletionProtection",
        "perhaps",
        "wanted true or false",
    ),
    "peer-that-is-a-word": (
        {"peers": ["bank-b"]},
        "peers[0]",
        "bank-b",
        "not an object; wanted {name, legalName, stack, card, link, fingerprint}",
    ),
    "peers-by-name": (
        {"peers": {"bank-b": {}}},
        "peers",
        '{"bank-b": {}}',
        "not a list; wanted a list, each {name, legalName, stack, card, link, fingerprint}",
    ),
    "peer-card-in-place": (
        {"peers": [card_peer(card={"name": "bank-b"})]},
        "peers[0].card",
        '{"name": "bank-b"}',
        "not a path; wanted the path of a JSON file with the peer's card",
    ),
    "email-twice": (
        {"alerts": {"emails": ["a@b.example"] * 2}},
        "alerts.emails[1]",
        "a@b.example",
        "the same as [0]; wanted each once",
    ),
    **{
        f"email-{email}": (
            {"alerts": {"emails": [email]}},
            "alerts.emails[0]",
            email,
            "wanted an e-mail address such as operations@bank.example",
        )
        for email in ("<a@b.example>", "a@b..example", "a@.example", "a@b.example,c")
    },
    **{
        f"repository-at-{host:.20}": (
            ledger(repository=f"https://{host}/m"),
            "ledger.repository",
            host,
            "a public one",
        )
        for host in (
            "127.1",
            "0x7f.0.0.1",
            "a..example",
            "2130706433",
            "a_b.example",
            "repository.example.",
            "r\u00e9.example",
        )
    },
    "notary-in-two-spellings": (
        network(notaries=["OU=n, O=N, L=London, C=GB", "C=GB, L=London, O=n, OU=N"]),
        "ledger.network.notaries[1]",
        "C=GB, L=London, O=n, OU=N",
        "the same as [0]; wanted each once",
    ),
    "rpc-users-without-end": (
        ledger(rpcUsers=[{"name": f"user_{number}", "permissions": ["ALL"]} for number in range(400)]),
        "ledger.rpcUsers",
        "user_0",
        "bytes with passwords; wanted 25000, as one secret holds",
    ),
    "authorization-of-spaces": (
        {**CIRCUIT_ALONE, EXPRESS_ROUTE_KEY: f"{AUTHORIZATION}\n"},
        EXPRESS_ROUTE_KEY,
        "[secret]",
        "has white space in it or is empty; wanted the key alone",
    ),
    "operator-of-zeros": (
        {"operators": [str(UUID(int=0))]},
        "operators[0]",
        str(UUID(int=0)),
        "the null GUID; wanted the object id of a principal in Entra",
    ),
    "reader-among-the-operators": (
        {"operators": [GROUP], "gatewayReaders": [GROUP]},
        "operators[0]",
        GROUP,
        "also in gatewayReaders, which are service principals; wanted a group",
    ),
    "application-network-without-its-prefix": (
        {"applicationNetworks": ["10.50.0.0"]},
        "applicationNetworks[0]",
        "10.50.0.0",
        "wanted a network with its prefix, such as 10.50.0.0/16",
    ),
    "image-of-a-gallery-with-a-long-name": (
        nodes(image={"id": f"{GALLERIES}/{'b' * 81}/images/ledger/versions/1.0.0"}),
        "nodes.image.id",
        "",
        "wanted /subscriptions/ID",
    ),
    "image-of-a-gallery-with-an-umlaut": (
        nodes(image={"id": f"{GALLERIES}/B\u00e4nk/images/ledger/versions/1.0.0"}),
        "nodes.image.id",
        "",
        "wanted /subscriptions/ID",
    ),
    "image-of-a-subscription-that-looks-alike": (
        nodes(image={"id": IMAGE.replace("subscriptions", "\u017fubscriptions")}),
        "nodes.image.id",
        "",
        "wanted /subscriptions/ID",
    ),
    "image-named-by-punctuation": (
        nodes(image={"id": f"{GALLERIES}/bank/images/-.-/versions/1.0.0"}),
        "nodes.image.id",
        "",
        "wanted /subscriptions/ID",
    ),
    "bank-name-wrong-at-an-authority": (
        {**network(approval="auto"), **bank(name=5)},
        "bank.name",
        "5",
        "not text; wanted lower-case letters, digits and single hyphens, a letter first, 24 characters at most",
    ),
    "unknown-key": (
        {"adressSpace": "10.1.0.0/16"},
        "adressSpace",
        "unknown key",
        "wanted one of addressSpace, alerts",
    ),
}


@pytest.mark.parametrize(
    ("changes", "key", "value", "wanted"),
    [
        pytest.param(
            *case,
            id=name,
        )
        for name, case in REJECTIONS.items()
    ],
)
def test_each_mistake_is_one_clear_line(changes: dict[str, Any], key: str, value: str, wanted: str) -> None:
    (line,) = mistakes(frozenset() if changes is CIRCUIT_ALONE else ENCRYPTED, **changes)
    named = key if key == LOCATION_KEY else f"{PROJECT}:{key}"
    assert line.startswith(f"{named}: "), "the message must name the key as `pulumi config` knows it"
    message = line.removeprefix(f"{named}: ").replace("`", "")
    assert value in message, "it must show the value that is wrong"
    assert wanted.replace("`", "") in message, "it must say what would be right"
    assert not PYDANTICS.search(message), "in the project's words, not in a library's"
    assert AUTHORIZATION not in line, "no message shows a secret"


def test_each_key_has_a_refused_value() -> None:
    declared = {field.alias for field in Settings.model_fields.values()}
    tested = {key.split(".")[0].split("[")[0] for _, key, _, _ in REJECTIONS.values()}
    assert declared <= tested, "a new key of the configuration requires a case above"


def test_all_mistakes_are_in_one_message() -> None:
    lines = mistakes(
        location="atlantis",
        size="huge",
        addressSpace="20.0.0.0/16",
        peers=[stack_peer(), {"name": "bank-c"}, {"name": "bank-d", "stack": "o/p/s", "link": "rope"}],
        colour="blue",
        **bank(asn=1, name="A"),
        **nodes(count=99, standby=-1),
    )
    keys = sorted(line.split(": ")[0].removeprefix(f"{PROJECT}:") for line in lines)
    expected = (
        f"addressSpace {LOCATION_KEY} bank.asn bank.name colour nodes.count nodes.standby peers[1].stack "
        "peers[2].link size"
    )
    assert keys == sorted(expected.split()), "all mistakes are reported at once, each of them once"


def test_all_mistakes_of_the_peers_are_in_one_message() -> None:
    peers = [stack_peer("bank-a"), card_peer(), stack_peer(), stack_peer("bank-c", link="express-route")]
    lines = [line.removeprefix(f"{PROJECT}:") for line in mistakes(peers=peers)]
    assert sorted(lines) == [
        "peers[0].name: bank-a: this member itself; wanted other members only",
        "peers[2].name: bank-b: the same as [1].name; wanted each once",
        "peers[3].link: express-route: there is no `connectivity.expressRoute`; wanted it for such a link",
    ], "the peers are checked together, and each mistake is a line"


def test_a_link_over_vpn_needs_connectivity_vpn() -> None:
    peers = [stack_peer(link="vnet-to-vnet"), card_peer("bank-c", link="ipsec"), stack_peer("bank-d")]
    lines = [line.removeprefix(f"{PROJECT}:") for line in mistakes(ENCRYPTED, peers=peers, **CIRCUIT_ALONE)]
    assert lines == [
        "peers[0].link: vnet-to-vnet: there is no `connectivity.vpn`; wanted it for such a link",
        "peers[1].link: ipsec: there is no `connectivity.vpn`; wanted it for such a link",
    ], "without a gateway there is no tunnel; a link without a kind need not be a VPN"


def test_peers_are_reported_when_connectivity_is_wrong_too() -> None:
    lines = mistakes(connectivity={}, peers=[stack_peer(), stack_peer()])
    assert [line.split(": ")[0] for line in lines] == [f"{PROJECT}:connectivity", f"{PROJECT}:peers[1].name"], (
        "another mistake must not hide this one, or cause a traceback"
    )


@pytest.mark.parametrize(("length", "shown"), [(80, "h" * 80), (81, "h" * 77 + "..."), (4000, "h" * 77 + "...")])
def test_long_values_are_shortened(length: int, shown: str) -> None:
    (line,) = mistakes(size="h" * length)
    assert line.startswith(f"{PROJECT}:size: {shown}: wanted"), "a message must be short"


# --- Secrets -------------------------------------------------------------------------------------------------------


def test_a_refused_secret_is_shown_nowhere() -> None:
    secret: dict[str, Any] = {EXPRESS_ROUTE_KEY: AUTHORIZATION}
    with pytest.raises(SettingsError) as refused:
        parsed(size="huge", **secret)
    assert AUTHORIZATION not in str(refused.value), "messages end up in logs"
    assert refused.value.__cause__ is None, "a traceback prints an error's cause, which has the values"
    assert refused.value.__context__ is None, "and its context"


def test_an_accepted_secret_is_shown_nowhere() -> None:
    settings = parsed(ENCRYPTED, **CIRCUIT_ALONE)
    assert AUTHORIZATION not in f"{settings} {settings!r}", "settings may be printed during debugging"
    key = settings.express_route_authorization_key
    assert key is not None, "the gateway's connection needs the key"
    assert key.get_secret_value() == AUTHORIZATION, "the gateway's connection needs the plain key"


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", "hush-hush"), ("tags", {"costCentre": 424242}), ("operators", ["hush-hush"]), ("bank", "hush-hush")],
)
def test_an_encrypted_value_is_not_shown(key: str, value: Any) -> None:
    (line,) = mistakes(frozenset({f"{PROJECT}:{key}"}), **{key: value})
    assert "[secret]" in line, "the message says why the value is not shown"
    assert "hush-hush" not in line, "an encrypted value must not appear in a log"
    assert "424242" not in line, "an encrypted value must not appear in a log"


def test_a_secret_of_digits_stays_text() -> None:
    settings = parsed(ENCRYPTED, **{**CIRCUIT_ALONE, EXPRESS_ROUTE_KEY: "00420042"})
    key = settings.express_route_authorization_key
    assert key is not None, "the secret is set"
    assert key.get_secret_value() == "00420042", "only objects and lists come as JSON"


def test_a_misspelt_secret_is_not_shown() -> None:
    (line,) = mistakes(expressRouteAuthorisationKey=AUTHORIZATION)
    assert AUTHORIZATION not in line, "an unknown key may well be a misspelt secret"


# --- Accepted values, and their consequences -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count", "monitoring", "highly_available"),
    [("small", 2, False, False), ("medium", 7, True, True), ("large", 15, True, True)],
)
def test_the_three_sizes(size: str, count: int, monitoring: bool, highly_available: bool) -> None:
    settings = parsed(size=size)
    assert settings.size is Size(size), "the size is the configured one"
    assert settings.node_count == count, "the scenario's number of VMs"
    assert settings.identity_count == count - 1, "one VM is a standby"
    assert settings.profile.monitoring is monitoring, "monitoring is off at small and on at the others"
    assert (settings.database_high_availability is HighAvailability.ZONE_REDUNDANT) is highly_available, (
        "only a small member may lack it"
    )
    assert settings.vm_size == SIZES[Size(size)].vm_size, "each size has its VM size"


def test_settings_can_avoid_what_a_region_does_not_offer() -> None:
    settings = parsed(size="large", database={"highAvailability": "SameZone", "geoRedundantBackup": False})
    assert settings.database_high_availability is HighAvailability.SAME_ZONE
    assert settings.geo_redundant_backup is False, "where Azure currently accepts none"


@pytest.mark.parametrize(
    ("location", "high_availability", "backup", "sku"),
    [
        ("swedencentral", "ZoneRedundant", True, "Standard_D2ds_v5"),
        ("westeurope", "SameZone", True, "Standard_D2ds_v5"),
        ("eastus2", "SameZone", True, "Standard_D2ds_v4"),
        ("japaneast", "ZoneRedundant", True, "Standard_D2ds_v4"),
        ("japanwest", "SameZone", True, "Standard_D2ds_v5"),
        ("westus3", "ZoneRedundant", False, "Standard_D2ds_v5"),
        ("polandcentral", "ZoneRedundant", False, "Standard_D2ds_v4"),
        ("australiaeast", "ZoneRedundant", True, "Standard_D2ds_v5"),
    ],
)
def test_the_databases_defaults_follow_the_region(
    location: str, high_availability: str, backup: bool, sku: str
) -> None:
    settings = parsed(size="medium", location=location)
    assert settings.database_high_availability == high_availability, "Azure accepts no other new server there"
    assert settings.geo_redundant_backup is backup, "wherever Azure offers it"
    assert settings.database_sku == sku, "of VM sizes that the region has for PostgreSQL"


OWN_NETWORK: dict[str, Any] = {
    "roles": {"node-1": "notary"},
    "network": {"authority": "bank-a", "rootOpenUntil": f"{datetime.now(UTC) + timedelta(hours=8):%FT%TZ}"},
}
AUTHORITY: dict[str, Any] = {
    "ledger": OWN_NETWORK,
    "alerts": {"emails": ["operations@bank-a.example"]},
    **nodes(image={"id": IMAGE}),
}
"""A bank that lacks nothing for its nodes to start."""


def test_regions_where_the_defaults_work_cause_no_warning() -> None:
    for location, region in REGIONS.items():
        if region.server_offer.zone_redundant and region.premium_zrs and region.is_open:
            warnings = list(warnings_of(parsed(size="medium", location=location, **AUTHORITY)))
            assert [each for each in warnings if "Heartbeat" not in each] == [], (
                f"{location} has all that is required"
            )


@pytest.mark.parametrize(
    ("location", "size", "warned"),
    [("austriaeast", "medium", True), ("austriaeast", "small", False), ("swedencentral", "medium", False)],
)
def test_a_region_whose_vms_send_no_counters_is_warned_of(location: str, size: str, warned: bool) -> None:
    found = [each for each in warnings_of(parsed(size=size, location=location)) if "Heartbeat" in each]
    assert bool(found) is warned, "a full disk raises no alert where Azure's policy does not apply"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"location": "westeurope"}, "westeurope took no new zone-redundant PostgreSQL server on 2025-12-22"),
        (
            {"location": "westeurope", "database": {"highAvailability": "ZoneRedundant"}},
            "database.highAvailability is ZoneRedundant, and westeurope took no new such server",
        ),
        (
            {"location": "westus3", "database": {"geoRedundantBackup": True}},
            "database.geoRedundantBackup is true, and westus3 did not offer it",
        ),
        (
            {"location": "japaneast", "database": {"sku": "Standard_D8ds_v5"}},
            "database.sku is Standard_D8ds_v5, and japaneast had v3, v4",
        ),
        ({"location": "belgiumcentral"}, "Premium_ZRS, which belgiumcentral did not offer on 2025-03-25"),
        (
            {"location": "belgiumcentral", "size": "small"},
            "the ledger's share is Premium_ZRS, which belgiumcentral did not offer",
        ),
        ({"location": "japanwest", "size": "small"}, "the blobs are Standard_GZRS, which japanwest did not offer"),
        ({"location": "westindia", "size": "small"}, "westindia did not offer PostgreSQL on 2025-12-22"),
        ({"location": "denmarkeast", "size": "small"}, "denmarkeast was coming soon on 2025-09-23"),
    ],
)
def test_settings_that_the_table_of_regions_excludes_cause_a_warning(changed: dict[str, Any], expected: str) -> None:
    warnings = list(warnings_of(parsed(**{"size": "medium", **AUTHORITY, **changed})))
    assert any(expected in each for each in warnings), "the table may be outdated, so it is no refusal"
    assert all(re.search(r"(if Azure refuses|take a(nother| larger)|see that|raise)", each) for each in warnings), (
        "the warning says what to do"
    )


@pytest.mark.parametrize(("key", "missing"), [("ledger.network", "ledger"), ("nodes.image", "nodes")])
def test_what_nodes_never_start_without_is_warned_of(key: str, missing: str) -> None:
    warnings = list(warnings_of(parsed(**{name: value for name, value in AUTHORITY.items() if name != missing})))
    assert any("nodes never start without" in each and f"set {key}" in each for each in warnings), (
        "such a member is deployed without an error, and is of no use"
    )


def test_a_new_or_replaced_ca_wants_an_open_root() -> None:
    card = {"authority": {"url": "https://10.1.1.126:8444"}}
    made = MadeWith(soft_delete_days=90, ca_generation=1)
    live, until = PreviousUpdate(card=card, made_with=made), OWN_NETWORK["network"]["rootOpenUntil"]

    def warned(previous: PreviousUpdate | None, **changes: Any) -> list[str]:
        return [each for each in warnings_of(parsed(**network(**changes)), previous) if "rootOpenUntil" in each]

    assert len(warned(None)) == len(warned(PreviousUpdate(card={"authority": None}))) == 1, (
        "nodes would wait for ever"
    )
    assert warned(live) == warned(None, rootOpenUntil=until) == [], "there is a root, or there will be"
    assert len(warned(live, caGeneration=2)) == 1, "the new CA would be certified by nobody"
    assert warned(live, caGeneration=2, rootOpenUntil=until) == []
    theirs = warnings_of(parsed(**peers_network()))
    assert not any("rootOpenUntil" in each for each in theirs), "the root is another member's"
    past = f"{datetime.now(UTC) - timedelta(hours=2):%FT%TZ}"
    (why,) = warned(live, rootOpenUntil=past)
    assert why.startswith(f"ledger.network.rootOpenUntil is {past}, which is past"), "reviews may take longer than it"
    assert warned(live, rootOpenUntil="2026-01-01T10:00:00Z") == [], "a leftover is no mistake"


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        ({"alerts": {}}, "the alerts of size medium have no receiver: set alerts.emails"),
        (
            {"ledger": {**OWN_NETWORK, "rpcUsers": [{"name": "credit", "permissions": ["InvokeRpc.nodeInfo"]}]}},
            "passwords that nobody may read: set operators",
        ),
        (nodes(image={"id": IMAGE}, sshPublicKey=f"ssh-ed25519 {SAMPLE_SSH_KEY} sample"), "set your own"),
    ],
    ids=["alerts", "passwords", "the samples' key"],
)
def test_what_nobody_gets_or_everybody_has_is_warned_of(changed: dict[str, Any], warning: str) -> None:
    found = list(warnings_of(parsed(**{"size": "medium", **AUTHORITY, **changed})))
    assert any(warning in each for each in found), f"it would stay unseen; got {found}"


def test_the_samples_key_is_known() -> None:
    samples = [*ROOT.glob("Pulumi.*.yaml"), *ROOT.glob("examples/*/Pulumi.*.yaml")]
    held = {path.name for path in samples if SAMPLE_SSH_KEY in path.read_text(encoding="utf-8")}
    assert held == {path.name for path in samples if "sshPublicKey" in path.read_text(encoding="utf-8")}, (
        "a copied sample would put a stranger's key on a bank's VMs without a word"
    )


def test_a_name_in_place_of_another_is_warned_of(tmp_path: Path) -> None:
    now, before = ZONES_NAME, "OU=node-1, O=Bank A, L=London, C=GB"
    zone = {**ZONE, "trustRoot": pem(tmp_path / "root.pem")}
    settings = parsed(**ledger(network={"zone": zone}, names={"node-1": now}))
    for live, expected in ((before, 1), (now, 0)):
        found = warnings_of(settings, PreviousUpdate(card={"nodes": [{"legalName": live}]}))
        assert len([each for each in found if "ledger.names.node-1" in each]) == expected, (
            "a zone certified one of them"
        )


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({"size": "medium"}, []),
        ({"size": "large"}, []),
        ({"size": "medium", **nodes(count=6)}, [6]),
        ({"size": "medium", **nodes(standby=2)}, [6]),
        ({"size": "small"}, [2, 3, 4, 5, 6]),
    ],
    ids=["same", "more", "fewer VMs", "more standbys", "another size"],
)
def test_each_identity_that_ends_is_warned_of(changes: dict[str, Any], ended: list[int]) -> None:
    live = [{"legalName": f"OU=node-{number}, O=Bank A, L=London, C=GB"} for number in range(1, 7)]
    warnings = warnings_of(parsed(**changes), PreviousUpdate(card={"nodes": live}))
    found = [each for each in warnings if " ends, " in each]
    assert len(found) == len(ended), "what it owns on the ledger can't be used, which no step of the preview shows"
    for number, warning in zip(ended, found, strict=True):
        assert warning.startswith(f"node-{number} ends, so OU=node-{number}, O=Bank A, L=London, C=GB answers nobody")
        assert warning.endswith(f"nodes.count less nodes.standby is {number} or more"), "what brings it back"


def test_explicit_choices_cause_no_warning() -> None:
    chosen = parsed(size="medium", location="westeurope", database={"highAvailability": "SameZone"}, **AUTHORITY)
    assert list(warnings_of(chosen)) == [], "an explicit value is a decision"


def test_nodes_override_the_size() -> None:
    settings = parsed(size="large", **nodes(count=5, standby=2, vmSize="Standard_E4s_v5"))
    assert (settings.node_count, settings.identity_count) == (5, 3), "a bank may differ from the three sizes"
    assert settings.vm_size == "Standard_E4s_v5", "and its VMs may differ"
    assert settings.profile.monitoring, "values that are not overridden follow the size"


@pytest.mark.parametrize(("count", "standby"), [(2, 0), (2, 1), (15, 0), (15, 14)])
def test_bounds_of_nodes_are_accepted(count: int, standby: int) -> None:
    settings = parsed(**nodes(count=count, standby=standby))
    assert settings.identity_count == count - standby, "every VM except the standby runs an identity"


def test_small_runs_without_zones() -> None:
    settings = parsed(size="small", location="westus")
    assert settings.region is REGIONS["westus"], "the region is looked up by its name"
    assert settings.region.zones == (), "a small member may be in a region without zones"


DEFAULTS: list[tuple[str, object, str]] = [
    ("deletion_protection", True, "irreplaceable resources are protected by default"),
    ("key_vault.purge_protection", True, "a bank's keys must not be purged"),
    ("key_vault.soft_delete_days", 90, "Azure's longest retention"),
    ("nodes.encryption_at_host", True, "disks and caches have ledger data"),
    ("nodes.image", None, "a first member needs no image"),
    ("connectivity.vpn.sku", GatewaySku.VPN_GW1AZ, "the smallest gateway"),
    ("connectivity.vpn.ipsec_policy.ike_encryption", "GCMAES256", "two members with defaults must be compatible"),
    ("connectivity.vpn.ipsec_policy.dh_group", "ECP384", "two members with defaults must be compatible"),
    ("connectivity.express_route", None, "a circuit must be ordered"),
    ("express_route_authorization_key", None, "without a circuit there is no key"),
    ("peers", (), "a first member has none"),
    ("application_networks", (), "RPC is closed until a bank opens it"),
    ("operators", (), "by default no person may read secrets"),
    ("alerts.emails", (), "addresses can't be guessed"),
    ("monitoring.budget", None, "only the bank can state its budget"),
    ("tags", {}, "a bank chooses its tags"),
    ("key_generations.link", 1, "no key has been replaced yet"),
    ("key_generations.signing", 1, "no key has been replaced yet"),
    ("ledger.share_gib", 100, "Azure's minimum, since provisioned size costs money"),
    ("ledger.network", None, "a consortium must agree on its authority"),
    ("ledger.rpc_users", (), "no application has access until a bank configures it"),
    ("ledger.artifact", None, "the platform has the default version's artifact"),
    ("is_authority", False, "a member certifies names only if configured"),
    ("platform", CORDA, "the scenario's ledger"),
    ("ledger_version", CORDA.default_version, "the platform has a default version"),
]


NETWORK_DEFAULTS = [
    ("approval", Approval.MANUAL, "each certified name may sign in the network"),
    ("notaries", (), "this member's identities with that role"),
    ("minimum_platform_version", 10, "the minimum of the oldest supported release of Corda"),
    ("max_message_bytes", 10_485_760, "as Corda's bootstrapper"),
    ("max_transaction_bytes", 524_288_000, "as Corda's bootstrapper"),
    ("event_horizon_days", 30, "as Corda's bootstrapper"),
]


@pytest.mark.parametrize(("name", "value", "reason"), NETWORK_DEFAULTS, ids=[name for name, _, _ in NETWORK_DEFAULTS])
def test_defaults_of_the_own_network(name: str, value: object, reason: str) -> None:
    assert getattr(parsed(**network()).ledger.network, name) == value, reason


@pytest.mark.parametrize(("path", "value", "reason"), DEFAULTS, ids=[path for path, _, _ in DEFAULTS])
def test_a_missing_setting_has_its_default(path: str, value: object, reason: str) -> None:
    found: Any = parsed()
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value, reason


def test_the_default_policy_equals_a_cards_default() -> None:
    vpn = parsed().connectivity.vpn
    assert vpn is not None, "a VPN gateway is the default"
    assert vpn.ipsec_policy.model_dump() == IpsecPolicy().model_dump(), "two members with defaults must be compatible"


def test_settings_have_the_configured_values() -> None:
    settings = parsed(
        deletionProtection="false",
        ledger={"platform": "corda", "version": "4.12", "artifact": OWN_BUILD},
        connectivity={"vpn": {"sku": "VpnGw4AZ", "ipsecPolicy": {"pfsGroup": "ECP256"}}},
        applicationNetworks=["172.16.0.0/12", "192.168.7.0/24"],
        operators=[GROUP],
        alerts={"emails": ["ops@bank-a.example"]},
        monitoring={"budget": 4000},
        tags={"costCentre": "42"},
        keyVault={"purgeProtection": False, "softDeleteDays": 7},
        keyGenerations={"link": 3},
    )
    assert settings.deletion_protection is False, "Pulumi passes booleans as text"
    assert settings.ledger_version == "4.12", "the configured version"
    assert settings.connectivity.vpn is not None, "a VPN is configured"
    assert settings.connectivity.vpn.sku is GatewaySku.VPN_GW4AZ, "the configured gateway"
    assert settings.connectivity.vpn.ipsec_policy.pfs_group == "ECP256", "one part of the policy can be changed alone"
    assert [str(network) for network in settings.application_networks] == ["172.16.0.0/12", "192.168.7.0/24"], (
        "in order"
    )
    assert settings.operators == (UUID(GROUP),), "the configured group"
    assert settings.alerts.emails == ("ops@bank-a.example",), "the configured address"
    assert settings.monitoring.budget == 4000, "the configured costs of a month"
    assert settings.tags == {"costCentre": "42"}, "tags keep their spelling"
    assert settings.key_vault.purge_protection is False, "a temporary member may be purged"
    assert settings.key_vault.soft_delete_days == 7, "Azure's minimum"
    assert (settings.key_generations.link, settings.key_generations.signing) == (3, 1), (
        "each key pair has a separate generation"
    )


@pytest.mark.parametrize("key", [SSH_PUBLIC_KEY, f"{SSH_PUBLIC_KEY} ops@bank-a", rsa_key(3072), f"{rsa_key(4096)}\n"])
def test_strong_ssh_keys_are_accepted(key: str) -> None:
    assert parsed(**nodes(sshPublicKey=key)).nodes.ssh_public_key == key.strip(), "cloud-init requires it on one line"


def test_legal_name_is_made_canonical() -> None:
    written = parsed(**bank(legalName="C=GB,L=London,  O=Bank A")).bank.legal_name
    assert written == "O=Bank A, L=London, C=GB", "two spellings of one name must be one name"


@pytest.mark.parametrize(
    ("configured", "link"),
    [
        (stack_peer(), None),
        (card_peer(), None),
        (stack_peer(link="ipsec"), LinkKind.IPSEC),
        (card_peer(link="vnet-to-vnet"), LinkKind.VNET_TO_VNET),
    ],
    ids=["stack", "card", "stack-ipsec", "card-vnet"],
)
def test_without_a_configured_link_its_kind_is_undecided(configured: dict[str, Any], link: LinkKind | None) -> None:
    (found,) = parsed(peers=[configured]).peers
    assert found.link is link, "the default follows from the peer's card"


def pem(path: Path, count: int = 1) -> str:
    """A PEM file with this number of root certificates."""
    path.write_bytes(b"".join(trustme.CA().cert_pem.bytes() for _ in range(count)))
    return str(path)


@pytest.mark.parametrize("days", [(-800, -400), (400, 800)], ids=["expired", "not-yet-valid"])
def test_a_zone_root_that_no_node_accepts_today_is_refused(tmp_path: Path, days: tuple[int, int]) -> None:
    file = tmp_path / "root.pem"
    start, end = (datetime.now(UTC) + timedelta(days=each) for each in days)
    file.write_bytes(authority_certificate(start, end))
    (line,) = mistakes(**ledger(network={"zone": {**ZONE, "trustRoot": str(file)}}))
    assert line.endswith(f"its certificate is valid from {start:%F} to {end:%F}; wanted one that is valid now")


def test_a_zone_root_that_custom_data_does_not_hold_is_refused(tmp_path: Path) -> None:
    file, now = tmp_path / "root.pem", datetime.now(UTC)
    zone, days = {**ZONE, "trustRoot": str(file)}, (now - timedelta(days=1), now + timedelta(days=1))
    file.write_bytes(authority_certificate(*days, more=1200))
    assert parsed(**ledger(network={"zone": zone})), "as large as with an RSA key of 4096 bits"
    file.write_bytes(authority_certificate(*days, more=2000))
    (line,) = mistakes(**ledger(network={"zone": zone}))
    assert line.endswith(" bytes; wanted 2048 at most: a VM's custom data holds no more"), (
        "without the check the run ends in a traceback, after its vaults are made"
    )


def authority_certificate(start: datetime, end: datetime, more: int = 0) -> bytes:
    """A self-signed CA's certificate, as PEM, with an extension of `more` bytes."""
    key, name = generate_private_key(SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), start, end)
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    other = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), bytes(more))
    builder = builder.add_extension(other, critical=False)
    return builder.add_extension(constraints, critical=True).sign(key, SHA256()).public_bytes(Encoding.PEM)


ZONES_NAME = "OU=Ledger Operations, O=Bank A, L=London, C=GB"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (
            {"node-1": "OU=Ledger, O=Bank B, L=London, C=GB"},
            "wanted O=Bank A, L=London, C=GB, as `bank.legalName`, and an OU",
        ),
        ({"node-1": "O=Bank A, L=London, C=GB"}, "node-1: O=Bank A, L=London, C=GB: not a node's name; wanted"),
        ({"node-1": "O=B\u0430nk A, L=London, C=GB"}, "wanted printable basic Latin only"),
        (
            {"node-1": ZONES_NAME, "node-2": ZONES_NAME.replace("Ledger", "LEDGER")},
            "node-2: OU=LEDGER Operations, O=Bank A, L=London, C=GB: the same legal name as that of node-1",
        ),
        ({"node-1": "OU=NODE-2, O=Bank A, L=London, C=GB"}, "C=GB: has the OU node-2, another identity's; wanted"),
        ({"node-9": ZONES_NAME}, f"node-9: {ZONES_NAME}: there is no such identity; wanted node-1 to node-6"),
    ],
    ids=["another bank's", "the bank's", "a look-alike", "twice", "another identity's", "nobody's"],
)
def test_legal_names_of_other_banks_are_refused_in_a_zone(tmp_path: Path, names: dict[str, str], wanted: str) -> None:
    zone = {**ZONE, "trustRoot": pem(tmp_path / "root.pem")}
    (line,) = mistakes(**ledger(network={"zone": zone}, names=names))
    assert wanted in line, "a node's name is the bank's legal name with an OU"


def test_legal_names_of_nodes_are_for_a_zone_only(tmp_path: Path) -> None:
    names = {"node-1": "C=GB, L=London, O=Bank A, OU=Ledger Operations"}
    zone = {**ZONE, "trustRoot": pem(tmp_path / "root.pem")}
    settings = parsed(**ledger(network={"zone": zone}, names=names))
    assert settings.ledger.names == {"node-1": ZONES_NAME}, "in canonical form"
    first, second, *_ = own_identities(settings)
    assert (first.legal_name, second.legal_name) == (ZONES_NAME, "OU=node-2, O=Bank A, L=London, C=GB")
    for network in ({}, {"network": {"authority": "bank-a"}, "roles": {"node-2": "notary"}}):
        (line,) = mistakes(**ledger(names=names, **network))
        assert "set without `ledger.network.zone`; wanted no such key" in line, (
            "an authority certifies the bank's names"
        )


def test_a_zone_requires_all_of_its_settings(tmp_path: Path) -> None:
    root = pem(tmp_path / "root.pem")
    zone = {**ZONE, "trustRoot": root}
    found = parsed(**ledger(network={"zone": zone})).ledger.network
    assert found is not None, "a network is configured"
    assert found.zone is not None, "others operate it"
    assert str(found.zone.trust_root) == root, "the configured file"
    lines = mistakes(**ledger(network={"zone": zone, "trustRoot": FINGERPRINT, "approval": "auto"}))
    assert [line.removeprefix(f"{PROJECT}:ledger.network.") for line in lines] == [
        "approval: auto: set beside `zone`; wanted no such key: the zone decides it",
        f"trustRoot: {FINGERPRINT}: set beside `zone`; wanted no such key: the zone decides it",
    ], "each missing key is named"
    (line,) = mistakes(**ledger(network={"zone": zone, "authority": "bank-a"}))
    assert "authority: bank-a: set beside `zone`; wanted one of the two" in line, "a bank can't have two networks"
    (line,) = mistakes(**ledger(network={"zone": {**zone, "trustRoot": pem(tmp_path / "two.pem", 2)}}))
    assert "2 certificates in it; wanted a PEM file with the network's root certificate alone" in line
    (line,) = mistakes(**ledger(network={"zone": {**zone, "networkMapUrl": "http://map.example"}}))
    assert "zone.networkMapUrl: http://map.example: wanted an https:// URL, port 443, without a user" in line


def test_only_the_root_certificate_of_a_zones_file_reaches_a_vm(tmp_path: Path) -> None:
    authority = trustme.CA()
    root = authority.cert_pem.bytes()
    file = tmp_path / "root.pem"
    file.write_bytes("# Bänk\r\n".encode() + root + authority.private_key_pem.bytes())
    network = parsed(**ledger(network={"zone": {**ZONE, "trustRoot": str(file)}})).ledger.network
    assert network is not None, "a network is configured"
    assert network.zone is not None, "others operate it"
    text = network.zone.zone().trust_root
    assert text.encode() == root, (
        "custom data is not secret, and the file may have a private key, or any text, beside it"
    )
    file.write_bytes(authority.issue_cert("zone.example").cert_chain_pems[0].bytes())
    (line,) = mistakes(**ledger(network={"zone": {**ZONE, "trustRoot": str(file)}}))
    assert "its certificate is not a self-signed CA certificate; wanted the network's root certificate" in line, (
        "no VM could enrol"
    )


def test_a_member_may_certify_names_or_be_certified() -> None:
    own, theirs = parsed(**network()), parsed(**peers_network(trustRoot=FINGERPRINT, document=FINGERPRINT))
    assert own.is_authority, "it is the authority"
    assert not theirs.is_authority, "a peer is the authority"
    assert not parsed().is_authority, "there is no authority"
    assert theirs.ledger.network is not None, "it has a network"
    assert theirs.ledger.network.trust_root == theirs.ledger.network.document == FINGERPRINT, "a member may pin both"


def test_a_notary_may_belong_to_another_member() -> None:
    found = parsed(**ledger(network={"authority": "bank-a", "notaries": ["OU=node-1, O=Bank B, L=Dublin, C=IE"]}))
    assert found.is_authority, "the authority need not run the notary"


def test_a_platform_without_an_authority_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLATFORMS, "corda", replace(CORDA, authority=None))
    (line,) = mistakes(**ledger(network={"authority": "bank-a"}))
    assert line.endswith(
        "ledger.network.authority: bank-a: no member certifies names of corda; wanted no such key"
    ), "the message says that the platform has no authority"


@pytest.mark.parametrize(
    ("permission", "accepted"),
    [
        ("ALL", True),
        ("InvokeRpc.vaultQueryBy", True),
        ("InvokeRpc:net.corda.core.messaging.CordaRPCOps#READONLY", True),
        ("StartFlow.com.bank.credit.Report$Initiator", True),
        ("all", False),
        ("InvokeRpc.", False),
        ("InvokeRpc.net.corda.nodeInfo", False),
        ("InvokeRpc:CordaRPCOps", False),
        ("StartFlow.", False),
        ("StartFlow.com..Report", False),
        ("StartFlow.com.bank.*", False),
        ("ALL\n", False),
    ],
)
def test_permissions_have_cordas_syntax(permission: str, accepted: bool) -> None:
    changes = ledger(rpcUsers=[{**RPC_USER, "permissions": [permission]}])
    if accepted:
        assert parsed(**changes).ledger.rpc_users[0].permissions == (permission,), "as in Corda's resolver"
    else:
        (line,) = mistakes(**changes)
        assert f"{PROJECT}:ledger.rpcUsers[0].permissions[0]: " in line, "a node would not start with it"


@pytest.mark.parametrize("url", ["https://maven.example", "https://maven.example:443/", "https://20.9.0.4/a/b"])
def test_a_repository_uses_a_port_that_nodes_may_reach(url: str) -> None:
    assert parsed(**ledger(repository=url)).ledger.repository == url, "port 443, as in the security rules"


def test_another_version_comes_with_its_artifact_or_in_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed(**ledger(version=CORDA.default_version)).ledger.artifact is None, (
        "the platform has the default version's artifact"
    )
    image = {"id": IMAGE}
    found = parsed(**ledger(version="4.12"), **nodes(image=image))
    assert found.ledger_version == "4.12", "the image may have it"
    monkeypatch.setitem(PLATFORMS, "corda", replace(CORDA, install=None))
    assert parsed(**ledger(version="4.12")).ledger_version == "4.12", (
        "a platform that needs only packages has no artifacts"
    )


def test_the_ledger_has_the_configured_values() -> None:
    found = parsed(
        **ledger(
            version="4.12",
            artifact=OWN_BUILD,
            repository="https://repository.example/maven",
            applications=[{**ARTIFACT, "coordinates": "com.bank:flows:1.0"}],
            roles={"node-2": "notary"},
            rpcUsers=[RPC_USER, {"name": "credit", "permissions": ["StartFlow.com.bank.Credit", "ALL"]}],
            network={"authority": "bank-a", "approval": "auto", "eventHorizonDays": 7},
        )
    ).ledger
    assert found.artifact is not None, "the bank configured one"
    assert found.artifact.coordinates == "com.bank:corda:4.12-bank.1", "its own build"
    assert [each.coordinates for each in found.applications] == ["com.bank:flows:1.0"], "the bank's applications"
    assert found.roles == {"node-2": "notary"}, "the configured identity"
    assert [user.permissions for user in found.rpc_users] == [
        ("InvokeRpc.nodeInfo",),
        ("StartFlow.com.bank.Credit", "ALL"),
    ], "in order"
    assert found.network is not None, "the bank configured one"
    assert found.network.approval is Approval.AUTO, "the bank configured it"
    assert found.network.event_horizon_days == 7, "one parameter can be changed alone"


def test_readers_of_the_gateway_are_configured_before_their_bank_joins() -> None:
    settings = parsed(gatewayReaders=[GROUP])
    assert settings.gateway_readers == (UUID(GROUP),), "a new member needs this right before it is listed as a peer"


@pytest.mark.parametrize(("asn", "warned"), [(64512, True), (65515, False)])
def test_a_gateway_beside_a_circuit_may_have_azures_asn(asn: int, warned: bool) -> None:
    settings = parsed(
        ENCRYPTED,
        **bank(asn=asn),
        connectivity={"vpn": {}, "expressRoute": {"circuitId": CIRCUIT}},
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION},
    )
    assert settings.bank.asn == asn
    assert any("beside connectivity.expressRoute" in each for each in warnings_of(settings)) is warned, (
        "Microsoft's documentation has 65515 for both gateways in one network"
    )
    assert not any("beside" in each for each in warnings_of(parsed(**bank(asn=64512)))), "the gateway exists"


def test_circuit_can_stand_beside_a_vpn() -> None:
    settings = parsed(
        ENCRYPTED,
        connectivity={"vpn": {}, "expressRoute": {"circuitId": CIRCUIT}},
        peers=[stack_peer(), stack_peer("bank-c", link="express-route")],
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION},
    )
    assert [each.link for each in settings.peers] == [None, LinkKind.EXPRESS_ROUTE], (
        "a member may be linked to some peers over its circuit and to others over VPN"
    )


BUDGETS = [("VpnGw1AZ", 30), ("VpnGw2AZ", 30), ("VpnGw3AZ", 30), ("VpnGw4AZ", 100), ("VpnGw5AZ", 100)]
VNET, IPSEC = ["vnet-to-vnet"], ["ipsec"]


def linked(kinds: Sequence[str | None]) -> list[dict[str, Any]]:
    return [stack_peer(f"bank-{index}", **({"link": kind} if kind else {})) for index, kind in enumerate(kinds)]


@pytest.mark.parametrize(("sku", "most"), BUDGETS)
def test_the_gateway_has_a_budget_of_connections(sku: str, most: int) -> None:
    gateway = {"vpn": {"sku": sku}}
    for kinds in (VNET * most, IPSEC * (most // 2), VNET * 2 + IPSEC * (most // 2 - 1), [None] * most):
        peers = linked(kinds)
        assert len(parsed(connectivity=gateway, peers=peers).peers) == len(peers), "the whole budget can be used"
    for kinds, taken in (
        (VNET * (most + 1), most + 1),
        (IPSEC * (most // 2 + 1), most + 2),
        (VNET + IPSEC * (most // 2), most + 1),
        ([None] * (most + 1), most + 1),
    ):
        (line,) = mistakes(connectivity=gateway, peers=linked(kinds))
        key = f"{PROJECT}:connectivity.vpn.sku: {sku}"
        assert line == f"{key}: the links take {taken} connections; wanted {most} at most with {sku}", (
            "over IPsec a peer takes two connections, else one at least, and Azure refuses more"
        )


@pytest.mark.parametrize(("sku", "most"), BUDGETS)
def test_the_budget_is_checked_again_with_the_cards(sku: str, most: int) -> None:
    full = [LinkKind.IPSEC] * (most // 2)
    assert too_many_connections(full, GatewaySku(sku)) == [], "the whole budget can be used"
    assert len(too_many_connections([*full, LinkKind.VNET_TO_VNET], GatewaySku(sku))) == 1, (
        "an exceeded budget is one mistake"
    )


@pytest.mark.parametrize("link", LinkKind)
def test_each_instance_has_a_tunnel_to_each_instance_of_the_peer(link: LinkKind) -> None:
    meshed = 4 if CONNECTIONS_OF_LINK[link] else 0
    assert TUNNELS_OF_LINK[link] == meshed, "one vnet-to-vnet connection is a full mesh too"
    of_connections = CONNECTIONS_OF_LINK[link] * TUNNELS_OF_CONNECTION.get(link, 0)
    assert of_connections == meshed, "costs are by connection"


def test_links_over_express_route_take_no_connections() -> None:
    peers = [stack_peer(f"bank-{index}", link="express-route") for index in range(101)]
    settings = parsed(
        ENCRYPTED,
        connectivity={"vpn": {}, "expressRoute": {"circuitId": CIRCUIT}},
        peers=peers,
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION},
    )
    assert len(settings.peers) == 101, "the circuit carries them, not the VPN gateway"


def test_keys_of_other_namespaces_are_ignored() -> None:
    others = {"azure-native:tenantId": "x", "pulumi:tags": "x", "other:colour": "blue"}
    assert parse_settings(PROJECT, {**configuration(), **others}) == parsed(), "they belong to other programs"


def loaded(*secret_keys: str, **changes: Any) -> Settings:
    """The settings that the program reads from the engine, for a stack of this configuration."""

    def load() -> Settings:
        configure(RuntimeSettings(project=PROJECT, stack="prod"))
        set_all_config(configuration(**changes), [f"{PROJECT}:{key}" for key in secret_keys])
        return load_settings()

    return copy_context().run(load)


def test_the_stack_is_read_with_its_secrets() -> None:
    settings = loaded(EXPRESS_ROUTE_KEY, **CIRCUIT_ALONE)
    assert settings == parsed(ENCRYPTED, **CIRCUIT_ALONE), "the engine's configuration is read once, unchanged"


def test_a_stack_with_mistakes_ends_without_a_traceback() -> None:
    with pytest.raises(pulumi.RunError) as refused:
        loaded(size="huge", colour="blue", **{EXPRESS_ROUTE_KEY: AUTHORIZATION})
    message = str(refused.value)
    assert "stack prod" in message, "the message must name the stack"
    for key in ("size: huge", "colour: unknown key", f"{EXPRESS_ROUTE_KEY}: [secret]"):
        assert f"{PROJECT}:{key}" in message, "every mistake is in the message"
    assert AUTHORIZATION not in message, "no message shows a secret"
    assert refused.value.__cause__ is None, "Pulumi prints only the message of a RunError"


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parsed().size = Size.LARGE  # type: ignore[misc]


# --- Regressions of found bugs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("addressSpace", "20.7.0.0/16", "20.7"),
        ("bank", bank(asn=4321)["bank"], "4321"),
        ("operators", [GROUP] * 2, GROUP),
    ],
    ids=["addressSpace", "bank", "operators"],
)
def test_an_encrypted_value_is_not_shown_by_its_own_check(key: str, value: Any, shown: str) -> None:
    (line,) = mistakes(frozenset({f"{PROJECT}:{key}"}), **{key: value})
    assert shown not in line, "an encrypted value must not appear in a log"


def test_a_private_ssh_key_is_not_shown() -> None:
    lines = mistakes(**nodes(sshPublicKey=f"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{'x' * 43}\n"))
    assert "xxxx" not in "".join(lines), "a private key that was pasted by mistake must not be logged"


def test_an_empty_authorization_is_refused() -> None:
    (line,) = mistakes(ENCRYPTED, **{**CIRCUIT_ALONE, EXPRESS_ROUTE_KEY: ""})
    assert EXPRESS_ROUTE_KEY in line, "otherwise Azure refuses it half way through the deployment"


def test_a_key_in_snake_case_is_unknown() -> None:
    (line,) = mistakes(**policy(ike_encryption="AES256"))
    assert "unknown key" in line, "an undocumented key must be refused"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"name": ' * 5000,
        '{"asn": ' + "9" * 5000 + "}",
        '{"asn": NaN}',
        r'{"name": "\ud800"}',
        "[" + "9" * 5000,
    ],
    ids=["lists", "objects", "digits", "no-number", "half-a-character", "digits-in-a-list"],
)
@pytest.mark.parametrize("key", ["bank", "nodes", "peers", "tags", "ledger"])
def test_a_value_that_no_parser_accepts_is_one_line(key: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_settings(PROJECT, configuration() | {f"{PROJECT}:{key}": text})
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{PROJECT}:{key}: {text[:20]}"), "the message names the key and the value"
    assert "wanted" in line, "the message says what is wanted"


@pytest.mark.parametrize("path", ["x" * 5000, "x/" * 3000, "\0", "\ud800"], ids=["long", "deep", "nul", "surrogate"])
def test_a_path_that_no_system_accepts_is_one_line(path: str) -> None:
    peer = {"name": "bank-b", "legalName": "O=Bank B, L=New York, C=US", "card": path, "fingerprint": FINGERPRINT}
    (line,) = mistakes(peers=[peer])
    assert "wanted" in line, "an OSError must not be raised"


@pytest.mark.parametrize(
    ("ahead", "opened"),
    [
        (timedelta(hours=23, minutes=59), True),
        (timedelta(minutes=1), True),
        (timedelta(seconds=-1), False),
        (timedelta(days=-400), False),
    ],
)
def test_the_root_is_open_until_its_time(ahead: timedelta, opened: bool) -> None:
    until = f"{datetime.now(UTC) + ahead:%Y-%m-%dT%H:%M:%SZ}"
    assert parsed(**network(rootOpenUntil=until)).root_open is opened, "a past time is valid"


def test_the_root_is_closed_by_default() -> None:
    assert not parsed(**network()).root_open, "an attacker on the authority's VM must not be able to use the root"
    assert parsed(**network()).ca_generation == 1
    assert not parsed().root_open


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("azure-native:loction", "azure-native:loction: unknown key; wanted azure-native:location"),
        ("azure-native:subscripionId", "unknown key; wanted azure-native:subscriptionId"),
        (
            "decentralised-trust:size",
            "decentralised-trust:size: unknown namespace; wanted decentralized-trust:size",
        ),
        ("azur-native:location", "unknown namespace; wanted azure-native:location"),
        ("bank-x:deletionProtection", "unknown namespace; wanted decentralized-trust:deletionProtection"),
        ("azure-native:applicationNetworks", "unknown namespace; wanted decentralized-trust:applicationNetworks"),
    ],
)
def test_a_misspelt_key_is_not_ignored(key: str, expected: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(PROJECT, {**configuration(), key: "x"})
    assert str(error.value).endswith(expected), "the program would not read it"


@pytest.mark.parametrize("key", ["azure:location", "azure-classic:location", "azur-native:location"])
def test_a_region_under_another_namespace_is_one_mistake(key: str) -> None:
    values = {**configuration(location=None), key: "swedencentral"}
    with pytest.raises(SettingsError) as error:
        parse_settings(PROJECT, values)
    assert str(error.value) == f"{key}: unknown namespace; wanted {LOCATION_KEY}", (
        "and no second line about a missing region"
    )
    other = {**configuration(), "azure:location": "westus"}
    assert parse_settings(PROJECT, other).location == "swedencentral", "the region of another provider is set"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": None, "sise": "medium"}, "sise: unknown key; wanted size"),
        ({"size": None, "Size": "medium"}, "Size: unknown key; wanted size"),
        ({"addressSpace": None, "address_space": "10.1.0.0/16"}, "address_space: unknown key; wanted addressSpace"),
        (
            {"bank": {"name": "bank-a", "legalName": "O=A, L=B, C=GB", "asnn": 64512}},
            "bank.asnn: unknown key; wanted asn",
        ),
        (
            {"peers": [{"name": "bank-b", "legalname": "O=Bank B, L=Paris, C=FR", "stack": "o/p/s"}]},
            "peers[0].legalname: unknown key; wanted legalName",
        ),
        (
            {"location": None, "Location": "uksouth"},
            f"Location: unknown key; wanted {LOCATION_KEY}",
        ),
    ],
)
def test_a_misspelt_key_is_one_mistake(changes: dict[str, Any], said: str) -> None:
    (line,) = mistakes(**changes)
    assert line == f"{PROJECT}:{said}", "a second line would call the misspelt key missing"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("environment", "usgovernment", "environment: usgovernment: wanted public"),
        ("subscriptionId", "my-subscription", "subscriptionId: not a GUID; wanted a GUID such as"),
    ],
)
def test_another_cloud_is_refused(key: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings(PROJECT, {**configuration(), f"azure-native:{key}": value})
    assert str(error.value).startswith(f"azure-native:{said}"), "names and regions are those of the public one"
    same = {"azure-native:environment": "public", "azure-native:subscriptionId": GROUP}
    assert parse_settings(PROJECT, {**configuration(), **same}) == parsed()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"connectivity": {"vpn": None}}, "connectivity.vpn: null: wanted {sku, ipsecPolicy}, {} for the defaults"),
        (
            {"connectivity": {"vpn": None, "expressRoute": {"circuitId": CIRCUIT}}, EXPRESS_ROUTE_KEY: AUTHORIZATION},
            "connectivity.vpn: null: wanted {sku, ipsecPolicy}, {} for the defaults, or no such key",
        ),
        (peer(fingerprint=None), "peers[0].fingerprint: null: wanted sha256: and 64 hex digits, or no such key"),
        (network(trustRoot=None), "ledger.network.trustRoot: null: wanted sha256: and 64 hex digits, or no such key"),
        (bank(name=None), "bank.name: null: wanted lower-case letters, digits and single hyphens"),
        ({"tags": {"owner": None}}, "tags.owner: null: wanted text in quotes, or no such key"),
        ({"operators": [None]}, "operators[0]: null: wanted a GUID"),
    ],
)
def test_a_null_is_one_mistake(changes: dict[str, Any], said: str) -> None:
    (line,) = mistakes(ENCRYPTED, **changes)
    assert line.startswith(f"{PROJECT}:{said}"), "a key without a value looks set: a pin, a gateway"


def test_paths_as_keys_are_one_mistake_each() -> None:
    values = configuration(
        bank=None, ledger={"network.authority": "bank-a"}, nodes={**nodes()["nodes"], "image.id": IMAGE}
    )
    values |= {f"{PROJECT}:bank.name": "bank-a", f"{PROJECT}:bank.asn": "64512"}
    with pytest.raises(SettingsError) as error:
        parse_settings(PROJECT, values)
    assert set(str(error.value).splitlines()) == {
        f"{PROJECT}:{key}: a path as a key; wanted `pulumi config set --path {path}`"
        for key, path in {
            '["bank.name"]': "bank.name",
            '["bank.asn"]': "bank.asn",
            'ledger["network.authority"]': "ledger.network.authority",
            'nodes["image.id"]': "nodes.image.id",
        }.items()
    }, "`pulumi config set` without --path writes such keys, and the section looks missing"


def test_applications_that_custom_data_does_not_hold_are_refused() -> None:
    def of(count: int, part: Callable[[int], str]) -> list[dict[str, str]]:
        return [
            {
                "coordinates": ":".join(part(3 * place + each) for each in range(3)),
                "sha256": hashlib.sha256(str(place).encode()).hexdigest(),
            }
            for place in range(count)
        ]

    usual = of(100, lambda place: f"com.bank.team-{place}")
    assert len(parsed(**ledger(applications=usual)).ledger.applications) == 100, "names of the usual kind fit"
    (line,) = mistakes(**ledger(applications=of(60, lambda place: hashlib.sha512(str(place).encode()).hexdigest())))
    assert line.startswith(f"{PROJECT}:ledger.applications: "), "without the check the run ends in a traceback"
    assert "bytes of coordinates and hashes, packed; wanted" in line


def test_a_section_under_a_misspelt_namespace_is_one_mistake() -> None:
    values = configuration()
    values = {key.replace(f"{PROJECT}:bank", "decentralised-trust:bank"): text for key, text in values.items()}
    with pytest.raises(SettingsError) as error:
        parse_settings(PROJECT, values)
    assert str(error.value) == f"decentralised-trust:bank: unknown namespace; wanted {PROJECT}:bank"


def test_a_misspelt_key_is_not_taken_for_one_that_is_set() -> None:
    (line,) = mistakes(sizes="medium")
    assert "wanted one of addressSpace," in line, "the size is set: suggesting it would not help"


def test_each_mistake_of_one_value_is_a_line() -> None:
    lines = mistakes(
        **ledger(
            roles={"node-1": "king", "node-99": "king"},
            network={"authority": "bank-b", "approval": "auto", "notaries": []},
            rpcUsers=[RPC_USER, {**RPC_USER, "permissions": ["ALL", "all", "none"]}],
        ),
        tags={"a/b": "x", "c": "x" * 257},
        operators=[GROUP, GROUP, GROUP],
    )
    roles = "wanted one of node, notary"
    assert sorted(line.removeprefix(f"{PROJECT}:")[:80] for line in lines) == sorted(
        line[:80]
        for line in (
            "ledger.network.approval: auto: set in the network of bank-b; wanted no such key: bank-b decides it",
            "ledger.network.notaries: []: set in the network of bank-b; wanted no such key: bank-b decides it",
            "ledger.rpcUsers[1].name: reports: the same as [0].name; wanted each once",
            "ledger.rpcUsers[1].permissions[1]: all: wanted ALL, StartFlow.CLASS, InvokeRpc.METHOD or",
            "ledger.rpcUsers[1].permissions[2]: none: wanted ALL, StartFlow.CLASS, InvokeRpc.METHOD or",
            "operators[1]: " + f"{GROUP}: the same as [0]; wanted each once",
            "operators[2]: " + f"{GROUP}: the same as [0]; wanted each once",
            'tags["a/b"]: x: wanted a name of 1 to 128 printable ASCII characters, none of <>%&\\?/',
            f"tags.c: {'x' * 77}...: 257 characters; wanted 256 at most",
        )
    ), "the second mistake must not appear only after the first is corrected"
    lines = mistakes(**ledger(roles={"node-1": "king", "node-99": "king"}))
    assert [line.removeprefix(f"{PROJECT}:ledger.roles.") for line in lines] == [
        f"node-1: king: {roles}",
        "node-99: king: there is no such identity; wanted node-1 to node-6",
        f"node-99: king: {roles}",
    ], "the mistakes of the identity and of its role"


@pytest.mark.parametrize(
    ("shown", "changes"),
    [
        ('size: "": ', {"size": ""}),
        ('size: " small": ', {"size": " small"}),
        ('bank.asn: "64512": ', bank(asn="64512")),
        ("bank.legalName: Bank \u00c4: ", bank(legalName="Bank \u00c4")),
        ('tags["b a"]: 7: ', {"tags": {"b a": 7}}),
        ('tags[""]: x: ', {"tags": {"": "x"}}),
    ],
)
def test_a_value_is_shown_as_it_was_written(shown: str, changes: dict[str, Any]) -> None:
    (line,) = mistakes(**changes)
    assert line.startswith(f"{PROJECT}:{shown}"), "with quotes if they are wrong, and escaped at most once"


@pytest.mark.parametrize("user", ["deploy:hunter2", "deploy:hun/ter2", "deploy:hun@ter2", "deploy:hun ter2"])
@pytest.mark.parametrize("scheme", ["https://", ""])
def test_the_password_of_a_url_is_not_shown(scheme: str, user: str) -> None:
    (line,) = mistakes(**ledger(repository=f"{scheme}{user}@maven.example.com/releases"))
    assert "***@maven.example.com/releases: " in line
    assert not re.search("hun|ter2", line), "all reviewers can read a preview's output"


def test_a_long_value_is_shortened_at_once() -> None:
    begun = time.process_time()
    (line,) = mistakes(size=":" * 100_000)
    assert f"size: {':' * 77}...: wanted" in line
    assert time.process_time() - begun < 2, "a search from each colon to the end would take many seconds"


def places(model: type[BaseModel] = Settings, above: Steps = ()) -> Iterator[Steps]:
    """Each setting, and the first value of each list of sections."""
    for field in model.model_fields.values():
        steps = (*above, str(field.alias))
        yield steps
        for section in section_of(field):
            yield from places(section, (*steps, 0) if get_origin(field.annotation) is tuple else steps)


def with_value(steps: Steps, value: object) -> dict[str, str]:
    """A configuration with an authority, one peer, application and user, and this value at a place."""
    lists = {"applications": [ARTIFACT], "rpcUsers": [RPC_USER]}
    values = configuration(peers=[stack_peer()], ledger={**network()["ledger"], **lists})
    first, *inner = steps
    key = str(first) if first == LOCATION_KEY else f"{PROJECT}:{first}"
    if inner:
        section = place = json.loads(values.get(key, "{}"))
        for step in inner[:-1]:
            place = place[step] if isinstance(step, int) else place.setdefault(step, {})
        place[inner[-1]] = value
        value = section
    return {**values, key: value if isinstance(value, str) else json.dumps(value)}


@pytest.mark.parametrize("steps", [*places()], ids=key_text)
def test_a_value_of_another_type_is_refused_by_its_own_key(steps: Steps) -> None:
    refused = 0
    for wrong in (True, 7, 7.5, "\u00c4 \u20ac", "", [], [7], {}, {"x": 1}):
        try:
            parse_settings(PROJECT, with_value(steps, wrong), ENCRYPTED)
        except SettingsError as error:
            lines = str(error).splitlines()
        else:
            continue
        refused += 1
        key = key_text(steps) if steps[0] == LOCATION_KEY else f"{PROJECT}:{key_text(steps)}"
        assert any(line.startswith(key) for line in lines), f"{lines}: {key} is wrong"
        for line in lines:
            assert "wanted " in line, f"{line}: it does not say what would be right"
            assert not PYDANTICS.search(line), f"{line}: in the project's words, not in a library's"
    assert refused, "no setting may accept any value"


def test_each_text_setting_states_its_form() -> None:
    plain = [key_text(steps) for steps in places() if form_of(Settings, steps) == "text"]
    assert plain == [], "`wanted text` does not help"
