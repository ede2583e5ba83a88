"""node.conf: its content, and that a node accepts every variant."""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from contract.identities import Identity, identities
from contract.platform import MAX_IDENTITIES, P2P
from lab.banks import corda
from ledger.corda import CORDA, POOL
from ledger.corda.node_conf import KeyStoreFile, NetworkServices, NodeConf, NodeDatabase, NodeUser, Variable

PASSWORDS = {
    "STORE": "the-password-of-the-stores",
    "DATABASE": "the-password-of-the-database",
    "RPC_0": "the-password-of-the-loan-desk",
    "RPC_1": "the-password-of-the-agent",
}
APPLICATIONS = Path("/opt/decentralized-trust/ledger/cordapps")


def conf_of(identity: Identity, folder: Path = Path("/run/ledger-agent")) -> NodeConf:
    return NodeConf(
        legal_name=identity.legal_name,
        frontend="10.1.0.254",
        listen="0.0.0.0",  # noqa: S104
        local="127.0.0.1",
        p2p_port=identity.ports[P2P],
        rpc_port=identity.ports["rpc"],
        rpc_admin_port=identity.ports["rpc-admin"],
        rpc_tls=KeyStoreFile(folder / "rpcsslkeystore.jks", Variable("STORE")),
        users=(
            NodeUser("loan_desk", Variable("RPC_0"), ("StartFlow.example.LoanFlow", "InvokeRpc.nodeInfo")),
            NodeUser("ledger_agent", Variable("RPC_1"), ("InvokeRpc.setFlowsDrainingModeEnabled",)),
        ),
        key_store_password=Variable("STORE"),
        trust_store_password=Variable("STORE"),
        applications=APPLICATIONS,
        database=NodeDatabase(
            host="ledger.postgres.database.azure.com",
            port=5432,
            name=identity.name,
            user=f"{identity.name}_e1".replace("-", "_"),
            password=Variable("DATABASE"),
            root_certificates=Path("/etc/ssl/certs/ca-certificates.crt"),
            pool=POOL,
            silent_seconds=90,
        ),
        notary=identity.role.name == "notary",
        revocation_url="http://10.1.0.190:8445/identity-ca.crl",
    )


def nodes(
    count: int, roles: Mapping[str, str] | None = None, bank: str = "O=Bank A, L=London, C=GB"
) -> list[NodeConf]:
    return [conf_of(identity) for identity in identities(CORDA, bank, count, roles or {})]


def read(conf: NodeConf) -> dict[str, object]:
    """As JSON, with references to the environment as text."""
    return dict(json.loads(re.sub(r"\$\{\?(\w+)\}", r'"environment \1"', conf.render())))


SERVICES = NetworkServices("https://registration.zone.example", "https://map.zone.example")
# Identities: the first, the last of medium, the last of large, and the last possible one.
LARGEST = nodes(MAX_IDENTITIES, {"node-14": "notary"})
SHAPES = {
    "node-of-a-small-bank": LARGEST[0],
    "node-of-a-medium-bank": LARGEST[5],
    "notary-of-a-large-bank": LARGEST[13],
    "last-node-that-there-can-be": LARGEST[-1],
    "node-in-a-zone": replace(LARGEST[0], network=SERVICES, revocation_url=None),
    "notary-in-a-zone": replace(LARGEST[13], network=SERVICES, revocation_url=None),
    "name-with-marks": nodes(1, bank="O=Bank & Sons (UK) ~100%, L=Zurich, ST=Zurich, C=CH")[0],
    "tests-without-tls-of-the-database": replace(
        LARGEST[0], database=replace(LARGEST[0].database, root_certificates=None)
    ),
}


@pytest.mark.parametrize("conf", SHAPES.values(), ids=SHAPES)
def test_node_conf_has_no_password(conf: NodeConf) -> None:
    document = read(conf)
    assert document["keyStorePassword"] == "environment STORE", "each password comes from the process's environment"
    assert "password" not in re.sub(r'"[a-zA-Z]*[pP]assword": "environment \w+"', "", json.dumps(document)).lower(), (
        "no key of a password has a value in the file"
    )


def test_peers_connect_to_the_frontend_and_the_node_listens_on_its_vm() -> None:
    document = read(LARGEST[5])
    assert document["p2pAddress"] == "10.1.0.254:10005", "its published address is valid on any VM"
    assert document["messagingServerAddress"] == "0.0.0.0:10005", "the balancer does not change the port"
    assert document["messagingServerExternal"] is False, "otherwise it would connect to another broker"


def test_a_connection_is_accepted_only_if_its_chain_is_known_not_to_be_revoked() -> None:
    document = read(LARGEST[0])
    assert document["crlCheckSoftFail"] is False, "otherwise a missing list would admit a revoked certificate"
    assert document["crlCheckArtemisServer"] is True, "for incoming connections too"
    assert document["tlsCertCrlDistPoint"] == "http://10.1.0.190:8445/identity-ca.crl", (
        "otherwise Corda refuses the file"
    )
    assert read(SHAPES["node-in-a-zone"])["crlCheckSoftFail"] is True, "a zone's certificates may name no list"


def test_rpc_uses_only_tls_and_its_administration_only_the_loopback() -> None:
    settings = read(LARGEST[5])["rpcSettings"]
    assert isinstance(settings, dict)
    assert settings["useSsl"] is True, "applications send passwords"
    assert settings["address"] == "0.0.0.0:10105", "its own port"
    assert settings["adminAddress"] == "127.0.0.1:10305", "access to that port is control of the node"


def test_the_databases_server_is_verified_with_its_name() -> None:
    assert SHAPES["node-of-a-small-bank"].database.url == (
        "jdbc:postgresql://ledger.postgres.database.azure.com:5432/node-1?currentSchema=corda&sslmode=verify-full"
        "&sslrootcert=%2Fetc%2Fssl%2Fcerts%2Fca-certificates.crt&tcpKeepAlive=true&connectTimeout=10&socketTimeout=90"
    ), "without the name any certified server would be accepted"


def test_a_notary_sees_no_content() -> None:
    assert read(SHAPES["notary-of-a-large-bank"])["notary"] == {"validating": False}, (
        "it sees which states are consumed, and not their content"
    )
    assert "notary" not in read(LARGEST[0]), "a node is no notary"


def test_a_node_in_a_zone_uses_the_zones_services() -> None:
    assert read(SHAPES["node-in-a-zone"])["networkServices"] == {
        "doormanURL": SERVICES.registration_url,
        "networkMapURL": SERVICES.network_map_url,
    }
    assert "networkServices" not in read(LARGEST[0]), "otherwise all of it comes as files"


def test_the_node_is_not_in_development_mode() -> None:
    for conf in SHAPES.values():
        document = read(conf)
        assert (document["devMode"], document["detectPublicIp"]) == (False, False), (
            "public development keys, and a lookup on the internet"
        )
        assert "cordappSignerKeyFingerprintBlacklist" not in document, (
            "applications signed with development keys are refused"
        )


# --- Validation by Corda -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit status and output of `validate-configuration` for each shape, two at a time."""
    if why := corda.missing():
        pytest.skip(why)
    installed = corda.load()
    refused = {
        "password-not-set": replace(LARGEST[0], users=(NodeUser("loan", Variable("NOBODY_SET_IT"), ()),)),
    }
    limit = asyncio.Semaphore(2)

    async def ask(name: str, conf: NodeConf) -> tuple[int, str]:
        folder = tmp_path_factory.mktemp(name)
        (folder / "rpcsslkeystore.jks").touch()
        conf = replace(conf, rpc_tls=replace(conf.rpc_tls, path=folder / "rpcsslkeystore.jks"))
        (folder / "node.conf").write_text(
            replace(conf, applications=installed.applications).render(), encoding="utf-8"
        )
        async with limit:
            process = await asyncio.create_subprocess_exec(
                *installed.command(("validate-configuration",)),
                cwd=folder,
                env={"LANG": "C.UTF-8", **PASSWORDS},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def ask_all() -> dict[str, tuple[int, str]]:
        every = {**SHAPES, **refused}
        return dict(zip(every, await asyncio.gather(*(ask(*each) for each in every.items())), strict=True))

    return asyncio.run(ask_all())


@pytest.mark.parametrize("name", SHAPES)
def test_the_node_accepts_every_shape(verdicts: dict[str, tuple[int, str]], name: str) -> None:
    status, output = verdicts[name]
    assert status == 0, output
    assert not [each for each in PASSWORDS.values() if each in output], "its log of the configuration has no secret"


def test_the_node_refuses_a_wrong_configuration(verdicts: dict[str, tuple[int, str]]) -> None:
    assert verdicts["password-not-set"][0] != 0, "a wrong configuration must be refused"
