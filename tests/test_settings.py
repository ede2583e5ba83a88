"""The configuration of one member: what is accepted, what follows from it, and each way to get it wrong."""

from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pulumi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from pulumi.runtime import set_all_config
from pulumi.runtime.settings import Settings as RuntimeSettings
from pulumi.runtime.settings import configure
from pydantic import ValidationError

from ledger.corda import CORDA
from ledger.platforms import PLATFORMS
from membership import IpsecPolicy, LinkKind
from regions import REGIONS
from settings import (
    CONNECTIONS,
    EXPRESS_ROUTE_KEY,
    LOCATION_KEY,
    SIZES,
    TUNNELS,
    Approval,
    GatewaySku,
    HighAvailability,
    Settings,
    SettingsError,
    Size,
    load_settings,
    over_budget,
    parse_settings,
)
from tests.configuration import PROJECT, SSH_PUBLIC_KEY, configuration

CARD_FILE = __file__
"""A peer's card is looked at only later: any file that exists will do here."""
FINGERPRINT = f"sha256:{'5a' * 32}"
GROUP = "0f3b9c57-8f0e-4f5a-9a55-2f4d1f5f7b61"
CIRCUIT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/expressRouteCircuits/c"
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
    return {"name": name, "stack": f"{name}/decentralized-trust/prod", **changes}


def card_peer(name: str = "bank-b", **changes: Any) -> dict[str, Any]:
    return {"name": name, "card": CARD_FILE, "fingerprint": FINGERPRINT, **changes}


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
RPC_USER = {"name": "reports", "permissions": ["InvokeRpc.nodeInfo"]}


def rsa_key(bits: int) -> str:
    # No such key pair exists: only the length of the modulus is looked at.
    key = RSAPublicNumbers(65537, (1 << (bits - 1)) + 1).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def ecdsa_key() -> str:
    key = generate_private_key(SECP256R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


# --- Each rejection: the changes, the key and the value that the message shows, and what it says was wanted. -------

REJECTIONS = {
    # location
    "location-absent": ({"location": None}, LOCATION_KEY, "not set", "wanted Azure region"),
    "location-display-name": ({"location": "West Europe"}, LOCATION_KEY, "West Europe", "such as westeurope"),
    "location-unlike-any": ({"location": "atlantis"}, LOCATION_KEY, "atlantis", "swedencentral"),
    "location-under-our-namespace": (
        {"Location": "westeurope"},
        "Location",
        "unknown key",
        f"wanted one of addressSpace, alerts, applicationNetworks, {LOCATION_KEY}",
    ),
    # ledger
    "platform-unknown": ({"ledger": {"platform": "abacus"}}, "ledger.platform", "abacus", "wanted one of corda"),
    "version-unknown": (
        {"ledger": {"version": "3.3"}},
        "ledger",
        '{"version": "3.3"}',
        "wanted one of 4.8, 4.9, 4.10, 4.11, 4.12, 4.13, 4.14",
    ),
    "version-a-number": ({"ledger": {"version": 4.1}}, "ledger.version", "4.1", "should be a valid string; wanted"),
    "ledger-unknown-key": ({"ledger": {"edition": "x"}}, "ledger.edition", "unknown key", "platform, repository"),
    "ledger-no-object": (
        {"ledger": "corda"},
        "ledger",
        "corda",
        "wanted the ledger software and its network: {platform, version",
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
        "wanted of the file: 64 hex digits; a VM takes no other",
    ),
    "artifact-hash-of-another-kind": (
        ledger(applications=[{**ARTIFACT, "sha256": "5a" * 20}]),
        "ledger.applications[0].sha256",
        "5a5a",
        "wanted of the file: 64 hex digits",
    ),
    "application-twice": (
        ledger(applications=[ARTIFACT, ARTIFACT]),
        "ledger.applications",
        "com.bank:credit:1.0",
        "wanted each once; more than once: com.bank:credit:1.0",
    ),
    "repository-in-clear": (
        ledger(repository="http://repository.example"),
        "ledger.repository",
        "http://repository.example",
        "wanted https:// URL, port 443, without a user, of the Maven repository",
    ),
    "repository-with-a-user": (
        ledger(repository="https://reader:secret@repository.example"),
        "ledger.repository",
        "https://",
        "wanted https:// URL, port 443, without a user",
    ),
    "repository-on-another-port": (
        ledger(repository="https://repository.example:8443/maven"),
        "ledger.repository",
        "https://repository.example:8443/maven",
        "wanted https:// URL, port 443",
    ),
    "repository-with-a-query": (
        ledger(repository="https://repository.example/maven?token=secret"),
        "ledger.repository",
        "https://repository.example/maven",
        "wanted https:// URL, port 443",
    ),
    "version-without-its-artifact": (
        ledger(version="4.12"),
        "ledger",
        '{"version": "4.12"}',
        "version 4.12 has no artifact; wanted its coordinates and SHA-256, or nodes.image",
    ),
    "role-unknown": (
        ledger(roles={"node-1": "oracle"}),
        "ledger.roles",
        '"oracle"',
        "node-1: role oracle; wanted one of node, notary",
    ),
    "role-of-nobody": (
        ledger(roles={"node-6": "notary", "node-7": "notary"}),
        "ledger",
        '"node-7"',
        "roles of node-7; wanted identities that there are, node-1 to node-6",
    ),
    "role-no-text": (ledger(roles={"node-1": 1}), "ledger.roles.node-1", "1", "wanted what an identity is"),
    "rpc-user-malformed": (
        ledger(rpcUsers=[{**RPC_USER, "name": "credit reports"}]),
        "ledger.rpcUsers[0].name",
        "credit reports",
        "wanted unique; letters, digits and _",
    ),
    "rpc-user-with-a-hyphen": (
        ledger(rpcUsers=[{**RPC_USER, "name": "credit-reports"}]),
        "ledger.rpcUsers[0].name",
        "credit-reports",
        "wanted unique; letters, digits and _",
    ),
    "rpc-user-of-the-agent": (
        ledger(rpcUsers=[{**RPC_USER, "name": "ledger_agent"}]),
        "ledger.rpcUsers",
        "ledger_agent",
        "ledger_agent is the agent's own",
    ),
    "rpc-user-twice": (
        ledger(rpcUsers=[RPC_USER, {**RPC_USER, "permissions": ["ALL"]}]),
        "ledger.rpcUsers",
        "reports",
        "wanted each once; more than once: reports",
    ),
    "rpc-user-for-nothing": (
        ledger(rpcUsers=[{**RPC_USER, "permissions": []}]),
        "ledger.rpcUsers[0].permissions",
        "[]",
        "wanted what it may do, in the platform's words",
    ),
    "rpc-permission-unknown": (
        ledger(rpcUsers=[{**RPC_USER, "permissions": ["StartFlow"]}]),
        "ledger.rpcUsers",
        "reports",
        "permissions of reports: 'StartFlow'; wanted ALL, StartFlow.CLASS, InvokeRpc.METHOD",
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
        "peers",
        "[]",
        "ledger.network.authority is bank-b; wanted it listed, or bank-a itself",
    ),
    "authority-not-listed": (
        {**network("bank-c"), **peer()},
        "peers",
        '"bank-b"',
        "ledger.network.authority is bank-c; wanted it listed, or bank-a itself",
    ),
    "authority-without-a-notary": (
        ledger(network={"authority": "bank-a"}),
        "ledger",
        '"bank-a"',
        "the own network has no notary; wanted roles with a notary, or network.notaries",
    ),
    "options-of-another-authority": (
        peers_network(approval="auto", notaries=["OU=node-1, O=Bank B, L=Dublin, C=IE"], trustRoot=FINGERPRINT),
        "ledger.network",
        '"bank-b"',
        "approval, notaries of bank-b's network; wanted none: bank-b says it",
    ),
    "approval-unknown": (
        network(approval="always"),
        "ledger.network.approval",
        "always",
        "wanted one of 'manual' or 'auto'",
    ),
    "trust-root-by-file": (
        network(trustRoot="root.pem"),
        "ledger.network.trustRoot",
        "root.pem",
        "wanted pins the network's root certificate: sha256: and 64 hex digits",
    ),
    "document-by-another-hash": (
        network(document=f"sha512:{'5a' * 64}"),
        "ledger.network.document",
        "sha512",
        "wanted pins the network's shared document",
    ),
    "notary-twice": (
        network(notaries=["O=N, L=London, C=GB", "O=N, L=London, C=GB"]),
        "ledger.network.notaries",
        "O=N",
        "wanted each once",
    ),
    "platform-version-zero": (
        network(minimumPlatformVersion=0),
        "ledger.network.minimumPlatformVersion",
        "0",
        "greater than or equal to 1; wanted of the own authority",
    ),
    "message-small": (network(maxMessageBytes=1), "ledger.network.maxMessageBytes", "1", "65536 to 104857600"),
    "message-larger-than-a-transaction": (
        network(maxMessageBytes=200_000, maxTransactionBytes=100_000),
        "ledger.network",
        "200000",
        "maxMessageBytes exceeds maxTransactionBytes; wanted it no larger",
    ),
    "transaction-small": (network(maxTransactionBytes=1), "ledger.network.maxTransactionBytes", "1", "65536 or more"),
    "horizon-zero": (network(eventHorizonDays=0), "ledger.network.eventHorizonDays", "0", "1 to 3650"),
    # bank
    "bank-absent": ({"bank": None}, "bank", "not set", "wanted who this member is: {name, legalName, asn}"),
    "bank-no-object": ({"bank": "bank-a"}, "bank", "bank-a", "wanted who this member is: {name, legalName, asn}"),
    "bank-broken-json": ({"bank": '{"name": '}, "bank", '{"name":', "wanted who this member is"),
    "bank-unknown-key": (bank(bic="XXXX"), "bank.bic", "unknown key", "wanted one of asn, legalName, name"),
    "bank-name-absent": (
        {"bank": {"legalName": "O=Bank A, L=London, C=GB", "asn": 64512}},
        "bank.name",
        "not set",
        "wanted unique in the consortium",
    ),
    "bank-name-upper-case": (bank(name="Bank-A"), "bank.name", "Bank-A", "lower-case letters, digits and hyphens"),
    "bank-name-digit-first": (bank(name="1bank"), "bank.name", "1bank", "lower-case letters, digits and hyphens"),
    "bank-name-double-hyphen": (bank(name="bank--a"), "bank.name", "bank--a", "lower-case letters"),
    "bank-name-hyphen-last": (bank(name="bank-"), "bank.name", "bank-", "lower-case letters"),
    "bank-name-long": (bank(name="b" * 25), "bank.name", "b" * 25, "24 at most"),
    "legal-name-incomplete": (
        bank(legalName="O=Bank A, L=London"),
        "bank",
        "O=Bank A, L=London",
        "legalName: no C; wanted at least O, L and C",
    ),
    "legal-name-with-unit": (
        bank(legalName="OU=IT, O=Bank A, L=London, C=GB"),
        "bank",
        "OU=IT",
        "legalName: OU is set; wanted none",
    ),
    "legal-name-absent": (
        {"bank": {"name": "bank-a", "asn": 64512}},
        "bank.legalName",
        "not set",
        "wanted X.500 name with O, L and C",
    ),
    "asn-absent": (
        {"bank": {"name": "bank-a", "legalName": "O=Bank A, L=London, C=GB"}},
        "bank.asn",
        "not set",
        "wanted private BGP autonomous system number",
    ),
    "asn-of-azure": (
        bank(asn=65515),
        "bank.asn",
        "65515",
        "reserved by Azure; wanted 64512 to 65514, 65521 to 65534",
    ),
    "asn-public": (bank(asn=3320), "bank.asn", "3320", "not a private ASN; wanted 64512 to 65514, 65521 to 65534"),
    "asn-a-word": (bank(asn="first"), "bank.asn", "first", "wanted private BGP autonomous system number"),
    # addressSpace
    "space-absent": ({"addressSpace": None}, "addressSpace", "not set", "private IPv4 range, /16 to /22"),
    "space-public": ({"addressSpace": "20.0.0.0/16"}, "addressSpace", "20.0.0.0/16", "wanted a part of 10.0.0.0/8"),
    "space-too-large": ({"addressSpace": "10.0.0.0/15"}, "addressSpace", "10.0.0.0/15", "wanted /16 to /22"),
    "space-too-small": ({"addressSpace": "10.0.0.0/23"}, "addressSpace", "10.0.0.0/23", "wanted /16 to /22"),
    "space-with-host-bits": ({"addressSpace": "10.1.0.1/16"}, "addressSpace", "10.1.0.1/16", "without host bits"),
    "space-of-ipv6": ({"addressSpace": "fd00::/64"}, "addressSpace", "fd00::/64", "wanted an IPv4 network such as"),
    "space-a-list": ({"addressSpace": ["10.1.0.0/16"]}, "addressSpace", '["10.1.0.0/16"]', "wanted an IPv4 network"),
    # size
    "size-absent": ({"size": None}, "size", "not set", "wanted small, medium or large: 2, 7 or 15 VMs"),
    "size-unknown": ({"size": "huge"}, "size", "huge", "wanted one of 'small', 'medium' or 'large'"),
    "size-wants-zones": (
        {"size": "medium", "location": "westus"},
        "size",
        "medium",
        "needs availability zones, which westus does not have; wanted small, or a region with zones",
    ),
    "large-wants-zones": ({"size": "large", "location": "ukwest"}, "size", "large", "which ukwest does not have"),
    # nodes
    "nodes-absent": ({"nodes": None}, "nodes", "not set", "wanted the node VMs: {count, standby"),
    "nodes-unknown-key": (
        nodes(replicas=3),
        "nodes.replicas",
        "unknown key",
        "wanted one of count, encryptionAtHost",
    ),
    "count-too-few": (nodes(count=1), "nodes.count", "1", "wanted VMs, 2 to 15"),
    "count-too-many": (nodes(count=16), "nodes.count", "16", "wanted VMs, 2 to 15"),
    "count-a-word": (nodes(count="many"), "nodes.count", "many", "wanted VMs, 2 to 15"),
    "standby-negative": (nodes(standby=-1), "nodes.standby", "-1", "wanted VMs of count that wait"),
    "standby-all-of-size": (
        {"size": "small", **nodes(standby=2)},
        "nodes",
        "standby is 2 of 2 VMs",
        "wanted at least one that runs a node",
    ),
    "standby-all-of-count": (nodes(standby=3, count=3), "nodes", "standby is 3 of 3 VMs", "wanted at least one"),
    "vm-size-malformed": (nodes(vmSize="D4s v5"), "nodes.vmSize", "D4s v5", "wanted Azure VM size"),
    "image-malformed": (nodes(image={"id": "ubuntu"}), "nodes.image.id", "ubuntu", "wanted resource id of an image"),
    "image-without-id": (nodes(image={}), "nodes.image.id", "not set", "wanted resource id of an image"),
    "image-unknown-key": (
        nodes(image={"id": "/subscriptions/s/images/i", "sku": "22"}),
        "nodes.image.sku",
        "unknown key",
        "wanted one of id",
    ),
    "ssh-key-absent": (
        {"nodes": {}},
        "nodes.sshPublicKey",
        "not set",
        "wanted OpenSSH public key of the administrator",
    ),
    "ssh-key-garbage": (nodes(sshPublicKey="hello"), "nodes.sshPublicKey", "hello", "wanted an OpenSSH public key"),
    "ssh-key-unknown-type": (
        nodes(sshPublicKey="ssh-abc AAAA"),
        "nodes.sshPublicKey",
        "ssh-abc AAAA",
        "wanted an OpenSSH public key",
    ),
    "ssh-key-short-rsa": (
        nodes(sshPublicKey=rsa_key(3071)),
        "nodes.sshPublicKey",
        "ssh-rsa AAAA",
        "wanted ssh-ed25519, or ssh-rsa of 3072 bits or more",
    ),
    "ssh-key-ecdsa": (
        nodes(sshPublicKey=ecdsa_key()),
        "nodes.sshPublicKey",
        "ecdsa-sha2-nistp256",
        "wanted ssh-ed25519, or ssh-rsa of 3072 bits or more",
    ),
    "encryption-at-host-a-word": (
        nodes(encryptionAtHost="maybe"),
        "nodes.encryptionAtHost",
        "maybe",
        "wanted encrypts disks and caches on the host",
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
        "wanted one of 'VpnGw1AZ', 'VpnGw2AZ', 'VpnGw3AZ', 'VpnGw4AZ' or 'VpnGw5AZ'",
    ),
    "vpn-unknown-key": ({"connectivity": {"vpn": {"size": 1}}}, "connectivity.vpn.size", "unknown key", "sku"),
    "ike-encryption": (
        policy(ikeEncryption="DES3"),
        "connectivity.vpn.ipsecPolicy.ikeEncryption",
        "DES3",
        "wanted one of 'GCMAES256'",
    ),
    "ike-integrity": (
        policy(ikeIntegrity="MD5"),
        "connectivity.vpn.ipsecPolicy.ikeIntegrity",
        "MD5",
        "wanted one of 'SHA384'",
    ),
    "dh-group": (
        policy(dhGroup="DHGroup2"),
        "connectivity.vpn.ipsecPolicy.dhGroup",
        "DHGroup2",
        "wanted one of 'ECP384'",
    ),
    "ipsec-encryption": (
        policy(ipsecEncryption="None"),
        "connectivity.vpn.ipsecPolicy.ipsecEncryption",
        "None",
        "wanted one of 'GCMAES256'",
    ),
    "ipsec-integrity": (
        policy(ipsecIntegrity="SHA1"),
        "connectivity.vpn.ipsecPolicy.ipsecIntegrity",
        "SHA1",
        "wanted one of 'GCMAES256'",
    ),
    "pfs-group": (
        policy(pfsGroup="None"),
        "connectivity.vpn.ipsecPolicy.pfsGroup",
        "None",
        "wanted one of 'ECP384'",
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
        "greater than or equal to 300; wanted",
    ),
    "life-time-long": (
        policy(saLifeTimeSeconds=172_800),
        "connectivity.vpn.ipsecPolicy.saLifeTimeSeconds",
        "172800",
        "less than or equal to 172799; wanted",
    ),
    "data-size-small": (
        policy(saDataSizeKilobytes=1023),
        "connectivity.vpn.ipsecPolicy.saDataSizeKilobytes",
        "1023",
        "greater than or equal to 1024; wanted",
    ),
    "data-size-large": (
        policy(saDataSizeKilobytes=2_147_483_648),
        "connectivity.vpn.ipsecPolicy.saDataSizeKilobytes",
        "2147483648",
        "less than or equal to 2147483647; wanted",
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
        "wanted resource id of the circuit",
    ),
    "circuit-by-name": (
        {"connectivity": {"expressRoute": {"circuitId": "our-circuit"}}},
        "connectivity.expressRoute.circuitId",
        "our-circuit",
        "wanted resource id of the circuit",
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
        "[secret]",
        f"not set; wanted `pulumi config set --secret {EXPRESS_ROUTE_KEY}`",
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
        "stands in clear; wanted it encrypted: `pulumi config set --secret`",
    ),
    "authorization-no-text": (
        {EXPRESS_ROUTE_KEY: [AUTHORIZATION]},
        EXPRESS_ROUTE_KEY,
        "[secret]",
        "should be a valid string; wanted secret: authorization key",
    ),
    # peers
    "peers-no-list": ({"peers": "bank-b"}, "peers", "bank-b", "wanted the members to link to: {name, stack or card"),
    "peer-no-object": ({"peers": ["bank-b"]}, "peers[0]", "bank-b", "wanted the members to link to"),
    "peer-unknown-key": (
        peer(region="x"),
        "peers[0].region",
        "unknown key",
        "wanted one of card, fingerprint",
    ),
    "peer-name-absent": ({"peers": [{"stack": "o/p/s"}]}, "peers[0].name", "not set", "wanted the peer's bank.name"),
    "peer-name-malformed": (peer(name="Bank_B"), "peers[0].name", "Bank_B", "wanted the peer's bank.name"),
    "peer-from-nowhere": ({"peers": [{"name": "bank-b"}]}, "peers[0]", '"bank-b"', "wanted either stack or card"),
    "peer-from-both": (
        {"peers": [card_peer(stack="o/p/s", card=CARD_FILE)]},
        "peers[0]",
        '"bank-b"',
        "wanted either stack or card",
    ),
    "peer-stack-malformed": (
        peer(stack="bank-b"),
        "peers[0].stack",
        "bank-b",
        "wanted organization/project/stack whose output member is the peer's card",
    ),
    "peer-card-not-there": (
        {"peers": [card_peer(card="cards/missing.json")]},
        "peers[0].card",
        "cards/missing.json",
        "no such file; wanted the path of a JSON file with the peer's card, instead",
    ),
    "peer-card-unpinned": (
        {"peers": [{"name": "bank-b", "card": CARD_FILE}]},
        "peers[0]",
        '"bank-b"',
        "no fingerprint; wanted the one that the peer told you",
    ),
    "fingerprint-malformed": (
        peer(fingerprint="5A:5A"),
        "peers[0].fingerprint",
        "5A:5A",
        "wanted sha256: and 64 hex digits of the peer's signing key",
    ),
    "link-unknown": (
        peer(link="carrier-pigeon"),
        "peers[0].link",
        "carrier-pigeon",
        "wanted one of 'vnet-to-vnet', 'ipsec' or 'express-route'",
    ),
    "gateway-reader-by-name": (
        {"gatewayReaders": ["alice"]},
        "gatewayReaders[0]",
        "alice",
        "wanted object ids of the service principals",
    ),
    "gateway-reader-twice": (
        {"gatewayReaders": [GROUP, GROUP]},
        "gatewayReaders",
        GROUP,
        "wanted each once",
    ),
    "standby-without-zones": (
        {"size": "small", "location": "westus", "database": {"highAvailability": "ZoneRedundant"}},
        "database",
        "highAvailability is ZoneRedundant",
        "westus has no availability zones; wanted SameZone or Disabled",
    ),
    "backup-without-a-pair": (
        {"location": "polandcentral", "database": {"geoRedundantBackup": True}},
        "database",
        "geoRedundantBackup is true",
        "polandcentral has no paired region; wanted false",
    ),
    "peer-is-ourselves": (
        {"peers": [stack_peer("bank-a")]},
        "peers",
        '"bank-a"',
        "bank-a is this member itself; wanted other members only",
    ),
    "peer-twice": (
        {"peers": [stack_peer("bank-c"), stack_peer("bank-b"), card_peer("bank-c")]},
        "peers",
        '"bank-c"',
        "wanted each peer once; more than once: bank-c",
    ),
    "circuit-link-without-circuit": (
        peer(link="express-route"),
        "peers",
        '"bank-b"',
        "the link to bank-b is express-route; wanted connectivity.expressRoute for it",
    ),
    # applicationNetworks, operators, alerts, tags, keyVault, keyGenerations, deletionProtection
    "application-network-by-name": (
        {"applicationNetworks": ["lan"]},
        "applicationNetworks[0]",
        "lan",
        "wanted an IPv4 network such as 10.20.0.0/16",
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
        "applicationNetworks",
        '"10.9.0.0/16"',
        "wanted each once; more than once: 10.9.0.0/16",
    ),
    "application-networks-no-list": (
        {"applicationNetworks": "10.9.0.0/16"},
        "applicationNetworks",
        "10.9.0.0/16",
        "wanted CIDRs of the bank's own applications",
    ),
    "operator-by-name": (
        {"operators": ["ledger-operators"]},
        "operators[0]",
        "ledger-operators",
        "wanted object ids of the Entra groups",
    ),
    "operator-twice": (
        {"operators": [GROUP, GROUP.upper()]},
        "operators",
        GROUP,
        f"wanted each once; more than once: {GROUP}",
    ),
    "email-malformed": (
        {"alerts": {"emails": ["ops@bank-a.example", "ops"]}},
        "alerts.emails[1]",
        "ops",
        "wanted addresses that get each alert",
    ),
    "alerts-unknown-key": ({"alerts": {"phones": []}}, "alerts.phones", "unknown key", "wanted one of emails"),
    "tag-no-text": (
        {"tags": {"costCentre": 7}},
        "tags.costCentre",
        "7",
        "valid string; wanted tags for every resource",
    ),
    "tag-named-like-a-key": ({"tags": {"size": 7}}, "tags.size", "7", "wanted tags for every resource"),
    "tags-no-object": ({"tags": "blue"}, "tags", "blue", "wanted tags for every resource that takes them"),
    "soft-delete-short": (
        {"keyVault": {"softDeleteDays": 6}},
        "keyVault.softDeleteDays",
        "6",
        "wanted days that deleted objects can be restored, 7 to 90",
    ),
    "soft-delete-long": ({"keyVault": {"softDeleteDays": 91}}, "keyVault.softDeleteDays", "91", "7 to 90"),
    "purge-protection-a-word": (
        {"keyVault": {"purgeProtection": "yes please"}},
        "keyVault.purgeProtection",
        "yes please",
        "wanted nobody can purge what is deleted before its time",
    ),
    "key-vault-unknown-key": ({"keyVault": {"sku": "x"}}, "keyVault.sku", "unknown key", "purgeProtection"),
    "link-generation-zero": (
        {"keyGenerations": {"link": 0}},
        "keyGenerations.link",
        "0",
        "greater than or equal to 1; wanted",
    ),
    "signing-generation-zero": (
        {"keyGenerations": {"signing": 0}},
        "keyGenerations.signing",
        "0",
        "greater than or equal to 1; wanted",
    ),
    "deletion-protection-a-word": (
        {"deletionProtection": "perhaps"},
        "deletionProtection",
        "perhaps",
        "wanted protects what can't be made again",
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
    told = line.removeprefix(f"{named}: ").replace("`", "")
    assert value in told, "it must show the value that is wrong"
    assert wanted.replace("`", "") in told, "it must say what would be right"
    assert AUTHORIZATION not in line, "no message shows a secret"


def test_each_key_can_be_refused() -> None:
    declared = {field.alias for field in Settings.model_fields.values()}
    tested = {key.split(".")[0].split("[")[0] for _, key, _, _ in REJECTIONS.values()}
    assert declared <= tested, "a new key of the configuration wants a case above"


def test_all_mistakes_come_in_one_message() -> None:
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
        f"addressSpace {LOCATION_KEY} bank.asn bank.name colour nodes.count nodes.standby peers[1] peers[2].link size"
    )
    assert keys == sorted(expected.split()), (
        "whoever writes a configuration mends it in one go, and hears of each mistake once"
    )


def test_all_mistakes_of_the_peers_come_in_one_message() -> None:
    peers = [stack_peer("bank-a"), card_peer(), stack_peer(), stack_peer("bank-c", link="express-route")]
    (line,) = mistakes(peers=peers)
    for mistake in ("more than once: bank-b", "bank-a is this member itself", "the link to bank-c is express-route"):
        assert mistake in line, "the peers are checked against everything at once"


def test_a_vpn_link_wants_a_vpn() -> None:
    peers = [stack_peer(link="vnet-to-vnet"), card_peer("bank-c", link="ipsec"), stack_peer("bank-d")]
    (line,) = mistakes(ENCRYPTED, peers=peers, **CIRCUIT_ALONE)
    assert "the link to bank-b is vnet-to-vnet; wanted `connectivity.vpn` for it" in line, "no gateway, no tunnel"
    assert "the link to bank-c is ipsec; wanted `connectivity.vpn` for it" in line, "no gateway, no tunnel"
    assert "the link to bank-d" not in line, "a link without a kind is not asked to be a VPN"


def test_peers_are_reported_when_connectivity_is_wrong_too() -> None:
    lines = mistakes(connectivity={}, peers=[stack_peer(), stack_peer()])
    assert [line.split(": ")[0] for line in lines] == [f"{PROJECT}:connectivity", f"{PROJECT}:peers"], (
        "a mistake elsewhere must not hide this one, or end in a traceback"
    )


@pytest.mark.parametrize(("length", "shown"), [(80, "h" * 80), (81, "h" * 77 + "..."), (4000, "h" * 77 + "...")])
def test_long_values_are_shortened(length: int, shown: str) -> None:
    (line,) = mistakes(size="h" * length)
    assert line.startswith(f"{PROJECT}:size: {shown}: wanted"), "a message is read by people"


# --- Secrets -------------------------------------------------------------------------------------------------------


def test_a_refused_secret_is_shown_nowhere() -> None:
    with pytest.raises(SettingsError) as refused:
        parsed(size="huge", **{EXPRESS_ROUTE_KEY: AUTHORIZATION})
    assert AUTHORIZATION not in str(refused.value), "messages end up in logs"
    assert refused.value.__cause__ is None, "a traceback prints what caused an error, and that holds the values"
    assert refused.value.__context__ is None, "and so it does with what was handled meanwhile"


def test_an_accepted_secret_is_shown_nowhere() -> None:
    settings = parsed(ENCRYPTED, **CIRCUIT_ALONE)
    assert AUTHORIZATION not in f"{settings} {settings!r}", "settings may be printed while something is looked into"
    key = settings.express_route_authorization_key
    assert key is not None, "the gateway's connection needs the key"
    assert key.get_secret_value() == AUTHORIZATION, "the gateway's connection needs the key as it is"


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", "hush-hush"), ("tags", {"costCentre": 424242}), ("operators", ["hush-hush"]), ("bank", "hush-hush")],
)
def test_what_is_encrypted_is_not_shown(key: str, value: Any) -> None:
    (line,) = mistakes(frozenset({f"{PROJECT}:{key}"}), **{key: value})
    assert "[secret]" in line, "the message says why there is no value to see"
    assert "hush-hush" not in line, "whoever encrypts a value does not want to read it in a log"
    assert "424242" not in line, "whoever encrypts a value does not want to read it in a log"


def test_a_secret_of_digits_stays_text() -> None:
    settings = parsed(ENCRYPTED, **{**CIRCUIT_ALONE, EXPRESS_ROUTE_KEY: "00420042"})
    key = settings.express_route_authorization_key
    assert key is not None, "it is set"
    assert key.get_secret_value() == "00420042", "only objects and lists come as JSON"


def test_a_misspelt_secret_is_not_shown() -> None:
    (line,) = mistakes(expressRouteAuthorisationKey=AUTHORIZATION)
    assert AUTHORIZATION not in line, "an unknown key may well be a misspelt secret"


# --- What is accepted, and what follows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "count", "monitoring", "highly_available"),
    [("small", 2, False, False), ("medium", 7, True, True), ("large", 15, True, True)],
)
def test_the_three_sizes(size: str, count: int, monitoring: bool, highly_available: bool) -> None:
    settings = parsed(size=size)
    assert settings.size is Size(size), "the size is the one that was asked for"
    assert settings.node_count == count, "the scenario's number of VMs"
    assert settings.identity_count == count - 1, "one VM waits for an identity to become free"
    assert settings.profile.monitoring is monitoring, "monitoring is off in small and on in the others"
    assert (settings.database_high_availability is HighAvailability.ZONE_REDUNDANT) is highly_available, (
        "only a small member does without"
    )
    assert settings.vm_size == SIZES[Size(size)].vm_size, "each size has its VM size"


def test_a_region_that_can_not_do_all_is_configured_for() -> None:
    settings = parsed(size="large", database={"highAvailability": "SameZone", "geoRedundantBackup": False})
    assert settings.database_high_availability is HighAvailability.SAME_ZONE
    assert settings.geo_redundant_backup is False, "where Azure takes none for the time being"
    assert parsed().geo_redundant_backup, "else wherever there is a paired region"
    assert not parsed(location="polandcentral").geo_redundant_backup


def test_nodes_override_the_size() -> None:
    settings = parsed(size="large", **nodes(count=5, standby=2, vmSize="Standard_E4s_v5"))
    assert (settings.node_count, settings.identity_count) == (5, 3), "a bank may differ from the three sizes"
    assert settings.vm_size == "Standard_E4s_v5", "and so may its VMs"
    assert settings.profile.monitoring, "what is not overridden stays as the size says"


@pytest.mark.parametrize(("count", "standby"), [(2, 0), (2, 1), (15, 0), (15, 14)])
def test_bounds_of_nodes_are_accepted(count: int, standby: int) -> None:
    settings = parsed(**nodes(count=count, standby=standby))
    assert settings.identity_count == count - standby, "every VM that does not wait runs an identity"


def test_small_runs_without_zones() -> None:
    settings = parsed(size="small", location="westus")
    assert settings.region is REGIONS["westus"], "the region is looked up by its name"
    assert settings.region.zones == (), "a small member may live where there are no zones"


DEFAULTS = [
    ("deletion_protection", True, "what can't be made again is protected unless a bank says otherwise"),
    ("key_vault.purge_protection", True, "nobody purges a bank's keys"),
    ("key_vault.soft_delete_days", 90, "the longest that Azure keeps what was deleted"),
    ("nodes.encryption_at_host", True, "disks and caches hold ledger data"),
    ("nodes.image", None, "a first member needs no image"),
    ("connectivity.vpn.sku", GatewaySku.VPN_GW1AZ, "the smallest gateway there is"),
    ("connectivity.vpn.ipsec_policy.ike_encryption", "GCMAES256", "two members with defaults must fit"),
    ("connectivity.vpn.ipsec_policy.dh_group", "ECP384", "two members with defaults must fit"),
    ("connectivity.express_route", None, "a circuit is ordered, not assumed"),
    ("express_route_authorization_key", None, "without a circuit there is no key"),
    ("peers", (), "a first member has none"),
    ("application_networks", (), "RPC is closed until a bank opens it"),
    ("operators", (), "nobody reads secrets until a bank says who"),
    ("alerts.emails", (), "nobody's address can be guessed"),
    ("tags", {}, "tags are the bank's own"),
    ("key_generations.link", 1, "no key was replaced yet"),
    ("key_generations.signing", 1, "no key was replaced yet"),
    ("ledger.network", None, "who certifies names, a consortium must have agreed"),
    ("ledger.rpc_users", (), "no application is let in until a bank names it"),
    ("ledger.artifact", None, "the platform knows its own"),
    ("is_authority", False, "a member certifies names only where it says so"),
    ("platform", CORDA, "the scenario's ledger"),
    ("ledger_version", CORDA.default_version, "the platform knows which version"),
]


NETWORK_DEFAULTS = [
    ("approval", Approval.MANUAL, "a certified name has a voice in the network"),
    ("notaries", (), "the own identities with that role"),
    ("minimum_platform_version", 10, "what the oldest supported release of Corda has"),
    ("max_message_bytes", 10_485_760, "as Corda's bootstrapper"),
    ("max_transaction_bytes", 524_288_000, "as Corda's bootstrapper"),
    ("event_horizon_days", 30, "as Corda's bootstrapper"),
]


@pytest.mark.parametrize(("name", "value", "reason"), NETWORK_DEFAULTS, ids=[name for name, _, _ in NETWORK_DEFAULTS])
def test_defaults_of_the_own_network(name: str, value: object, reason: str) -> None:
    assert getattr(parsed(**network()).ledger.network, name) == value, reason


@pytest.mark.parametrize(("path", "value", "reason"), DEFAULTS, ids=[path for path, _, _ in DEFAULTS])
def test_defaults(path: str, value: object, reason: str) -> None:
    found: Any = parsed()
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value, reason


def test_default_policy_is_what_a_card_says_by_default() -> None:
    vpn = parsed().connectivity.vpn
    assert vpn is not None, "a VPN gateway is the default"
    assert vpn.ipsec_policy.model_dump() == IpsecPolicy().model_dump(), "two members with defaults must fit"


def test_values_are_what_was_configured() -> None:
    settings = parsed(
        deletionProtection="false",
        ledger={"platform": "corda", "version": "4.12", "artifact": ARTIFACT},
        connectivity={"vpn": {"sku": "VpnGw4AZ", "ipsecPolicy": {"pfsGroup": "ECP256"}}},
        applicationNetworks=["10.0.0.0/8", "192.168.7.0/24"],
        operators=[GROUP],
        alerts={"emails": ["ops@bank-a.example"]},
        tags={"costCentre": "42"},
        keyVault={"purgeProtection": False, "softDeleteDays": 7},
        keyGenerations={"link": 3},
    )
    assert settings.deletion_protection is False, "booleans come as text"
    assert settings.ledger_version == "4.12", "the version that was asked for"
    assert settings.connectivity.vpn is not None, "a VPN was asked for"
    assert settings.connectivity.vpn.sku is GatewaySku.VPN_GW4AZ, "the gateway that was asked for"
    assert settings.connectivity.vpn.ipsec_policy.pfs_group == "ECP256", "one part of the policy can be changed alone"
    assert [str(network) for network in settings.application_networks] == ["10.0.0.0/8", "192.168.7.0/24"], "in order"
    assert settings.operators == (UUID(GROUP),), "the group that was named"
    assert settings.alerts.emails == ("ops@bank-a.example",), "the address that was named"
    assert settings.tags == {"costCentre": "42"}, "tags keep their spelling"
    assert settings.key_vault.purge_protection is False, "a test member may be purged"
    assert settings.key_vault.soft_delete_days == 7, "the shortest that Azure offers"
    assert (settings.key_generations.link, settings.key_generations.signing) == (3, 1), "each key pair by itself"


@pytest.mark.parametrize("key", [SSH_PUBLIC_KEY, f"{SSH_PUBLIC_KEY} ops@bank-a", rsa_key(3072), f"{rsa_key(4096)}\n"])
def test_strong_ssh_keys_are_accepted(key: str) -> None:
    assert parsed(**nodes(sshPublicKey=key)).nodes.ssh_public_key == key.strip(), "cloud-init wants it on one line"


def test_legal_name_is_made_canonical() -> None:
    written = parsed(**bank(legalName="C=GB,L=London,  O=Bank A")).bank.legal_name
    assert written == "O=Bank A, L=London, C=GB", "two spellings of one name must not count as two names"


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
def test_link_is_open_until_somebody_says(configured: dict[str, Any], link: LinkKind | None) -> None:
    (found,) = parsed(peers=[configured]).peers
    assert found.link is link, "which kind fits by default, only the peer's card can tell"


def pem(path: Path, names: Sequence[str]) -> str:
    """A PEM file with a self-signed certificate for each name."""
    key = generate_private_key(SECP256R1())
    now = datetime.now(UTC)
    text = b""
    for name in names:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now)
        text += builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    path.write_bytes(text)
    return str(path)


def test_a_zone_says_all_of_itself(tmp_path: Path) -> None:
    root = pem(tmp_path / "root.pem", ["root"])
    zone = {**ZONE, "trustRoot": root}
    found = parsed(**ledger(network={"zone": zone})).ledger.network
    assert found is not None, "there is a network"
    assert found.zone is not None, "that others run"
    assert str(found.zone.trust_root) == root, "the file that was named"
    (line,) = mistakes(**ledger(network={"zone": zone, "trustRoot": FINGERPRINT, "approval": "auto"}))
    assert "approval, trustRoot beside `zone`; wanted none: the zone says it" in line, "in one message"
    (line,) = mistakes(**ledger(network={"zone": zone, "authority": "bank-a"}))
    assert "wanted either `authority` or `zone`" in line, "nobody has two networks"
    (line,) = mistakes(**ledger(network={"zone": {**zone, "trustRoot": pem(tmp_path / "two.pem", "ab")}}))
    assert "2 certificates in it; wanted a PEM file with the network's root certificate alone" in line
    (line,) = mistakes(**ledger(network={"zone": {**zone, "networkMapUrl": "http://map.example"}}))
    assert (
        "zone.networkMapUrl: http://map.example: wanted https:// URL, port 443, without a user, of its network map"
        in line
    )


def test_a_member_may_certify_names_or_be_certified() -> None:
    own, theirs = parsed(**network()), parsed(**peers_network(trustRoot=FINGERPRINT, document=FINGERPRINT))
    assert own.is_authority, "it is named itself"
    assert not theirs.is_authority, "a peer is"
    assert not parsed().is_authority, "nobody is"
    assert theirs.ledger.network is not None, "it is in a network"
    assert theirs.ledger.network.trust_root == theirs.ledger.network.document == FINGERPRINT, "a member may pin both"


def test_a_notary_elsewhere_is_a_notary_too() -> None:
    found = parsed(**ledger(network={"authority": "bank-a", "notaries": ["OU=node-1, O=Bank B, L=Dublin, C=IE"]}))
    assert found.is_authority, "the authority need not run the notary"


def test_a_platform_without_an_authority_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLATFORMS, "corda", replace(CORDA, authority=None))
    (line,) = mistakes(**ledger(network={"authority": "bank-a"}))
    assert "ledger.network: " in line
    assert "no member certifies names of corda; wanted no `authority`" in line, (
        "the key is misunderstood, and says so"
    )


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
def test_permissions_are_those_that_a_node_reads(permission: str, accepted: bool) -> None:
    changes = ledger(rpcUsers=[{**RPC_USER, "permissions": [permission]}])
    if accepted:
        assert parsed(**changes).ledger.rpc_users[0].permissions == (permission,), "as Corda's resolver has it"
    else:
        (line,) = mistakes(**changes)
        assert "permissions of reports: " in line, "a node would not start with it"


@pytest.mark.parametrize("url", ["https://maven.example", "https://maven.example:443/", "https://10.9.0.4/a/b"])
def test_a_repository_is_where_nodes_may_go(url: str) -> None:
    assert parsed(**ledger(repository=url)).ledger.repository == url, "port 443, as security rules have it"


def test_another_version_comes_with_its_artifact_or_in_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed(**ledger(version=CORDA.default_version)).ledger.artifact is None, "the platform knows its own"
    image = {"id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/ledger"}
    found = parsed(**ledger(version="4.12"), **nodes(image=image))
    assert found.ledger_version == "4.12", "the image has it"
    monkeypatch.setitem(PLATFORMS, "corda", replace(CORDA, install=None))
    assert parsed(**ledger(version="4.12")).ledger_version == "4.12", "where packages are all, nothing is fetched"


def test_the_ledger_is_what_was_configured() -> None:
    found = parsed(
        **ledger(
            version="4.12",
            artifact=ARTIFACT,
            repository="https://repository.example/maven",
            applications=[{**ARTIFACT, "coordinates": "com.bank:flows:1.0"}],
            roles={"node-2": "notary"},
            rpcUsers=[RPC_USER, {"name": "credit", "permissions": ["StartFlow.com.bank.Credit", "ALL"]}],
            network={"authority": "bank-a", "approval": "auto", "eventHorizonDays": 7},
        )
    ).ledger
    assert found.artifact is not None, "the bank named one"
    assert found.artifact.coordinates == "com.bank:credit:1.0", "its own build"
    assert [each.coordinates for each in found.applications] == ["com.bank:flows:1.0"], "what runs on the ledger"
    assert found.roles == {"node-2": "notary"}, "the identity that was named"
    assert [user.permissions for user in found.rpc_users] == [
        ("InvokeRpc.nodeInfo",),
        ("StartFlow.com.bank.Credit", "ALL"),
    ], "in order"
    assert found.network is not None, "the bank named one"
    assert found.network.approval is Approval.AUTO, "the bank said so"
    assert found.network.event_horizon_days == 7, "one parameter can be changed alone"


def test_those_who_may_read_the_gateway_are_named_before_their_bank_joins() -> None:
    settings = parsed(gatewayReaders=[GROUP])
    assert settings.gateway_readers == (UUID(GROUP),), "a newcomer needs this right before we list it"


def test_circuit_can_stand_beside_a_vpn() -> None:
    settings = parsed(
        ENCRYPTED,
        connectivity={"vpn": {}, "expressRoute": {"circuitId": CIRCUIT}},
        peers=[stack_peer(), stack_peer("bank-c", link="express-route")],
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION},
    )
    assert [each.link for each in settings.peers] == [None, LinkKind.EXPRESS_ROUTE], (
        "a member may reach some peers over its circuit and others over VPN"
    )


BUDGETS = [("VpnGw1AZ", 30), ("VpnGw2AZ", 30), ("VpnGw3AZ", 30), ("VpnGw4AZ", 100), ("VpnGw5AZ", 100)]
VNET, IPSEC = ["vnet-to-vnet"], ["ipsec"]


def linked(kinds: list[str | None]) -> list[dict[str, Any]]:
    return [stack_peer(f"bank-{index}", link=kind) for index, kind in enumerate(kinds)]


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
        assert line.endswith(f"take {taken} connections; wanted {most} at most with {sku}"), (
            "over IPsec a peer takes two connections, else one at least, and Azure refuses what is beyond"
        )


@pytest.mark.parametrize(("sku", "most"), BUDGETS)
def test_the_budget_can_be_asked_for_once_the_cards_are_known(sku: str, most: int) -> None:
    full = [LinkKind.IPSEC] * (most // 2)
    assert over_budget(full, GatewaySku(sku)) == [], "the whole budget can be used"
    assert len(over_budget([*full, LinkKind.VNET_TO_VNET], GatewaySku(sku))) == 1, "what is beyond is one mistake"


@pytest.mark.parametrize("link", LinkKind)
def test_each_connection_has_two_tunnels(link: LinkKind) -> None:
    assert TUNNELS[link] == 2 * CONNECTIONS[link], "both instances of our gateway build one each"


def test_express_route_takes_no_connections() -> None:
    peers = [stack_peer(f"bank-{index}", link="express-route") for index in range(101)]
    settings = parsed(
        ENCRYPTED,
        connectivity={"vpn": {}, "expressRoute": {"circuitId": CIRCUIT}},
        peers=peers,
        **{EXPRESS_ROUTE_KEY: AUTHORIZATION},
    )
    assert len(settings.peers) == 101, "the circuit carries them, not the VPN gateway"


def test_keys_of_other_namespaces_are_ignored() -> None:
    others = {"azure-native:tenantId": "x", "pulumi:tags": "x", "other:size": "huge", "decentralized:size": "huge"}
    assert parse_settings(PROJECT, {**configuration(), **others}) == parsed(), "they belong to somebody else"


def loaded(*secret_keys: str, **changes: Any) -> Settings:
    """What the program reads from the engine, for a stack of this configuration."""

    def load() -> Settings:
        configure(RuntimeSettings(project=PROJECT, stack="prod"))
        set_all_config(configuration(**changes), [f"{PROJECT}:{key}" for key in secret_keys])
        return load_settings()

    return copy_context().run(load)


def test_the_stack_is_read_with_its_secrets() -> None:
    settings = loaded(EXPRESS_ROUTE_KEY, **CIRCUIT_ALONE)
    assert settings == parsed(ENCRYPTED, **CIRCUIT_ALONE), "the engine's configuration is read as it is, once"


def test_a_stack_with_mistakes_ends_without_a_traceback() -> None:
    with pytest.raises(pulumi.RunError) as refused:
        loaded(size="huge", colour="blue", **{EXPRESS_ROUTE_KEY: AUTHORIZATION})
    message = str(refused.value)
    assert "stack prod" in message, "an operator of several stacks must learn which one is wrong"
    for key in ("size: huge", "colour: unknown key", f"{EXPRESS_ROUTE_KEY}: [secret]"):
        assert f"{PROJECT}:{key}" in message, "every mistake stands in the one message"
    assert AUTHORIZATION not in message, "no message shows a secret"
    assert refused.value.__cause__ is None, "Pulumi prints the message of a RunError alone"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parsed().size = Size.LARGE  # type: ignore[misc]


# --- Bugs that are known: each of these fails until it is mended. --------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("addressSpace", "20.7.0.0/16", "20.7"),
        ("bank", bank(asn=4321)["bank"], "4321"),
        ("operators", [GROUP] * 2, GROUP),
    ],
    ids=["addressSpace", "bank", "operators"],
)
def test_what_is_encrypted_is_not_shown_by_its_own_check(key: str, value: Any, shown: str) -> None:
    (line,) = mistakes(frozenset({f"{PROJECT}:{key}"}), **{key: value})
    assert shown not in line, "whoever encrypts a value does not want to read it in a log"


def test_a_private_ssh_key_is_not_shown() -> None:
    lines = mistakes(**nodes(sshPublicKey=f"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI{'x' * 43}\n"))
    assert "xxxx" not in "".join(lines), "the wrong half pasted must not go to the logs"


def test_an_empty_authorization_is_none() -> None:
    (line,) = mistakes(ENCRYPTED, **{**CIRCUIT_ALONE, EXPRESS_ROUTE_KEY: ""})
    assert EXPRESS_ROUTE_KEY in line, "else Azure says so half way through the deployment"


def test_keys_have_one_spelling() -> None:
    (line,) = mistakes(**policy(ike_encryption="AES256"))
    assert "unknown key" in line, "a key that no table names must not be obeyed"
