"""The configuration of VMs: complete, of the one network that the bank configured, and without a secret."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from agent.vm import software_context
from components.flows import FLOWS
from components.network_authority import AuthorityPlace
from contract.addresses import PRIVATE_BLOCKS
from contract.artifacts import Artifact, Installation
from contract.authority_configuration import AuthorityConfiguration
from contract.card import LinkKind, read_card
from contract.egress import ANY_PUBLIC
from contract.vm_configuration import AGENT_FILE, INSTALLATION, MODEL_FILE, AgentConfiguration
from host.vault import BankVault
from host.vm_configuration import read_agent_configuration
from lab.cards import legal_name, make_card
from stack.member import Member
from stack.peers import PeerMember, notaries
from stack.settings import Settings, parse_settings
from stack.vm_configuration import (
    AuthorityServices,
    NodeServices,
    agent_configuration,
    authority_configuration,
    node_egress,
    vm_custom_data,
    vm_user_data,
)
from tests.configuration import IMAGE_ID, PROJECT, SSH_PUBLIC_KEY, configuration
from tests.unit.test_settings import FINGERPRINT, pem

SERVICES: dict[str, Any] = {
    "client_id": "client",
    "key_vault_url": "https://keys.vault.azure.net/",
    "bank_vault_url": "https://bank.vault.azure.net/",
    "blob_account": "ledgerblobs",
    "lease_container": "leases",
    "network_container": "network",
    "file_account": "ledgerfiles",
    "share": "ledger",
    "database_host": "database.example",
    "administrator": "node-identity",
    "connection_string": "InstrumentationKey=none",
}
PLACE = AuthorityPlace(
    client_id="authority",
    vault_url="https://authority.vault.azure.net/",
    root_vault_url="https://root.vault.azure.net/",
    container="authority",
)
B_AUTHORITY = "https://10.98.1.126:8444"
B_NOTARY = "OU=node-1, O=Bank B, L=London, C=GB"


def settings(**ledger: Any) -> Settings:
    peers = [
        {
            "name": "bank-b",
            "legalName": "O=Bank B, L=Dublin, C=IE",
            "stack": "organization/decentralized-trust/bank-b",
        }
    ]
    return parse_settings(PROJECT, configuration(ledger=ledger, peers=peers))


def own_network(**changes: Any) -> Settings:
    return settings(roles={"node-2": "notary"}, network={"authority": "bank-a", **changes})


def peers(**changes: Any) -> list[PeerMember]:
    """Bank B, which certifies names."""
    card = make_card(**{"authority": {"url": B_AUTHORITY}, **changes})
    read = read_card(card, name="bank-b", pinned=None, source="test")
    return [PeerMember(read, json.dumps(card), LinkKind.IPSEC, legal_name("bank-b"))]


def member(of: Settings) -> Member:
    return Member(of, "tenant", "subscription", tuple(peers()))


def read_agent(of: Settings, **changes: Any) -> AgentConfiguration:
    document = agent_configuration(member(of), NodeServices(**{**SERVICES, **changes})).to_json()
    return AgentConfiguration.model_validate_json(document)


def read_authority(of: Settings) -> AuthorityConfiguration:
    services = AuthorityServices[str](
        blob_account=SERVICES["blob_account"], connection_string=SERVICES["connection_string"]
    )
    document = authority_configuration(member(of), PLACE, services).to_json()
    return AuthorityConfiguration.model_validate_json(document)


def test_an_agents_configuration_has_its_member_and_all_addresses(tmp_path: Path) -> None:
    document = read_agent(own_network())
    assert (document.member, document.platform, document.version) == ("bank-a", "corda", "4.10")
    assert document.frontend == "10.1.0.254", "the address on the card"
    assert document.roles == {"node-2": "notary"}, "the holder of node-2 runs a notary"
    assert document.blob_url == "https://ledgerblobs.blob.core.windows.net"
    assert document.database is not None
    assert document.database.host == "database.example"
    assert read_agent(own_network(), database_host=None).database is None, "a platform may have none"
    file = tmp_path / "agent.json"
    file.write_text(document.to_json())
    assert read_agent_configuration(file) == document, "the agent reads its configuration"


def test_an_agents_configuration_has_its_networks_authority() -> None:
    own = read_agent(own_network(trustRoot=FINGERPRINT)).network
    assert own.authority is not None
    assert own.authority.url == "https://10.1.1.126:8444", "its own bank's authority"
    assert own.trust_root == FINGERPRINT, "the pin is on each VM"
    theirs = read_agent(settings(network={"authority": "bank-b", "document": FINGERPRINT})).network
    assert theirs.authority is not None
    assert theirs.authority.url == B_AUTHORITY, "the URL on the peer's card"
    assert theirs.document == FINGERPRINT
    unset = read_agent(settings()).network
    assert (unset.authority, unset.zone) == (None, None), "without a network there is none"


def test_an_agent_of_a_zone_has_its_root(tmp_path: Path) -> None:
    root = pem(tmp_path / "root.pem")
    urls = {"registrationUrl": "https://doorman.example", "networkMapUrl": "https://map.example"}
    document = read_agent(settings(network={"zone": {**urls, "trustRoot": root}})).network
    assert document.zone is not None
    assert (document.zone.registration_url, document.zone.network_map_url) == tuple(urls.values())
    assert document.zone.trust_root == Path(root).read_text(), "the content is sent, not the path"


def test_an_authoritys_configuration_is_complete() -> None:
    document = read_authority(own_network(approval="auto", eventHorizonDays=7))
    assert (document.member, document.subject) == ("bank-a", "O=Bank A, L=London, C=GB")
    assert document.legal_names == tuple(f"OU=node-{number}, O=Bank A, L=London, C=GB" for number in range(1, 7)), (
        "its own nodes have no card in its vault"
    )
    assert (document.client_id, document.vault_url, document.container) == (
        PLACE.client_id,
        PLACE.vault_url,
        "authority",
    )
    assert (document.url, document.crl_url) == ("https://10.1.1.126:8444", "http://10.1.1.126:8445")
    assert document.approval == "auto"
    assert document.notaries == ("OU=node-2, O=Bank A, L=London, C=GB",), "the identity with that role"
    assert document.parameters.event_horizon_days == 7
    assert document.parameters.minimum_platform_version == 10
    assert document.connection_string == SERVICES["connection_string"]


def test_only_an_authority_gets_its_configuration() -> None:
    other = settings(network={"authority": "bank-b"})
    assert member(other).authority_url is None
    with pytest.raises(ValueError, match="bank-a runs no network authority; wanted a member that does"):
        read_authority(other)


def test_notaries_are_named_as_their_cards_spell_them() -> None:
    own = own_network(notaries=["C=GB,L=London,O=Bank B,OU=node-1", "OU=node-2, O=Bank A, L=London, C=GB"])
    assert notaries(own, member(own).identities, peers()) == (B_NOTARY, "OU=node-2, O=Bank A, L=London, C=GB"), (
        "the parameters name a notary by the name in its certificate"
    )
    other = settings(network={"authority": "bank-b"})
    assert notaries(other, member(other).identities, peers()) == (), (
        "notaries of another network belong to its authority"
    )


# --- Delivery ------------------------------------------------------------------------------------------------------


def files(custom_data: str) -> dict[str, str]:
    """Files that cloud-init writes, by path."""
    document = json.loads(gzip.decompress(base64.b64decode(custom_data)).decode().partition("\n")[2])
    return {each["path"]: each["content"] for each in document["write_files"]}


def commands(custom_data: str) -> str:
    return json.dumps(
        json.loads(gzip.decompress(base64.b64decode(custom_data)).decode().partition("\n")[2])["runcmd"]
    )


def test_node_and_authority_have_their_own_documents():
    own = own_network()
    node = files(
        vm_custom_data(own, "configuration: node", share_source="account.file.core.windows.net:/account/ledger")
    )
    certifier = files(vm_custom_data(own, "configuration: authority", module="ledger.corda.authority"))
    assert node["/etc/decentralized-trust/agent.json"] == "configuration: node"
    assert "account.file.core.windows.net:/account/ledger" in "".join(node.values()), "the node mounts the share"
    assert certifier["/etc/decentralized-trust/authority.json"] == "configuration: authority"
    assert not [path for path in certifier if "share" in path or "agent" in path], (
        "an authority has neither share nor node"
    )


def test_both_install_the_configured_artifacts_and_verify_them():
    artifact = {"coordinates": "net.corda:corda:4.10", "sha256": "5a" * 32}
    application = {"coordinates": "com.bank:credit:1.0", "sha256": "a5" * 32}
    own = settings(artifact=artifact, applications=[application], repository="https://repository.example/maven")
    for module in ("agent", "ledger.corda.authority"):
        said = commands(vm_custom_data(own, "{}", module=module))
        for word in (
            "corda 4.10 /opt/decentralized-trust/ledger",
            "--repository https://repository.example/maven",
            f"--artifact net.corda:corda:4.10={'5a' * 32}",
            f"--application com.bank:credit:1.0={'a5' * 32}",
        ):
            assert word in said, f"{module}: the server of the file can't change it unnoticed"


def test_both_have_the_expected_installation():
    artifact = {"coordinates": "net.corda:corda:4.10", "sha256": "5a" * 32}
    application = {"coordinates": "com.bank:credit:1.0", "sha256": "a5" * 32}
    own = settings(
        artifact=artifact,
        applications=[application],
        roles={"node-2": "notary"},
        network={"authority": "bank-a"},
    )
    agent, authority = read_agent(own), read_authority(own)
    wanted = Artifact(**artifact), (Artifact(**application),)
    assert (agent.artifact, agent.applications) == wanted
    documents: Any = None
    around = software_context(agent, documents, BankVault(documents), "127.0.0.1")
    assert (around.artifact, around.applications) == wanted, (
        "the nodes' software compares it with the installed files"
    )
    assert authority.expected_installation == Installation("4.10", INSTALLATION, None, *wanted)
    plain = own_network()
    assert (read_agent(plain).artifact, read_agent(plain).applications) == (None, ()), (
        "the platform has the default artifact"
    )
    assert read_authority(plain).expected_installation == Installation("4.10", INSTALLATION)


def test_another_application_rolls_the_vms_of_an_image_too():
    image = {"id": IMAGE_ID}
    nodes = {"sshPublicKey": SSH_PUBLIC_KEY, "image": image}
    network = {"roles": {"node-2": "notary"}, "network": {"authority": "bank-a"}}
    booted = []
    for version in ("1.0", "1.1"):
        application = {"coordinates": f"com.bank:credit:{version}", "sha256": "a5" * 32}
        ledger = {"applications": [application], **network}
        own = parse_settings(PROJECT, configuration(nodes=nodes, ledger=ledger))
        booted.append(
            [vm_custom_data(own, read_agent(own).to_json()), vm_custom_data(own, read_authority(own).to_json())]
        )
    assert booted[0][0] != booted[1][0], "only a VM reports that its image is outdated"
    assert booted[0][1] != booted[1][1]


def test_an_image_has_its_programs():
    image = {"id": IMAGE_ID}
    prepared = parse_settings(PROJECT, configuration(nodes={"sshPublicKey": SSH_PUBLIC_KEY, "image": image}))
    assert vm_user_data(prepared) is None, "programs that the image has are not sent"
    assert list(files(vm_custom_data(prepared, "{}"))) == [str(AGENT_FILE), str(MODEL_FILE)]
    assert vm_user_data(settings()), "without an image they are in the user data"
    assert vm_user_data(settings()) != vm_user_data(settings(), "ledger.corda.authority"), (
        "each VM gets its own program"
    )


def test_the_largest_configuration_fits_into_custom_data() -> None:
    documents = [read_agent(own_network()).to_json(), read_authority(own_network()).to_json()]
    assert all(len(document) < 4096 for document in documents), "custom data must have room for the agent too"


# --- Egress rules of nodes -----------------------------------------------------------------------------------------


def test_a_node_may_connect_only_to_its_peers_and_the_database() -> None:
    allowed = [(tuple(each.destinations), tuple(each.ports)) for each in node_egress(member(own_network()))]
    plan = member(own_network()).addresses
    p2p = tuple(range(10000, 10100))
    assert allowed == [
        (PRIVATE_BLOCKS, p2p),
        ((str(plan.nodes),), tuple(range(10000, 10000 + len(member(own_network()).identities)))),
        ((str(plan.database),), (5432,)),
    ], "revocation lists come from the agent over the loopback; vault, storage and metadata service are denied"


def test_a_node_of_a_zone_connects_to_the_zone(tmp_path: Path) -> None:
    zone = {
        "registrationUrl": "https://doorman.example",
        "networkMapUrl": "https://map.example",
        "trustRoot": pem(tmp_path / "root.pem"),
    }
    *_, last = node_egress(member(settings(network={"zone": zone})))
    (internet,) = (flow for flow in FLOWS if flow.name == "NodesToInternet")
    assert last.destinations == ANY_PUBLIC, "addresses are known only by name"
    assert last.ports == internet.ports, "every port must be allowed by the VM's security group"
    assert ANY_PUBLIC not in [each.destinations for each in node_egress(member(own_network()))]


def test_a_new_peer_changes_no_egress_rule() -> None:
    alone = Member(own_network(), "tenant", "subscription")
    assert node_egress(alone) == node_egress(member(own_network())), "a changed file would roll the VMs at each join"


def test_every_flow_of_a_nodes_process_is_a_flow_of_its_vm() -> None:
    assert {flow.name for flow in FLOWS if flow.by_node} == {
        "NodesToPeers",
        "NodesToNodes",
        "NodesToDatabase",
    }, "the flows of a node's processes; other flows of its VM are the agent's or the kernel's"
