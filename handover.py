"""What VMs are told: the configuration documents of the agents and of the network authority, without a secret."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from addressing import AddressPlan
from agent.configuration import Configuration, DatabaseServer
from components.network_authority import AuthorityPlace
from consortium import PeerMember, notaries, told_network
from delivery.cloud_config import AGENT, INSTALLATION, SHARE, cloud_config, custom_data, user_data
from ledger.platform import Artifact, Identity
from settings import Settings


def authority_url(settings: Settings, plan: AddressPlan) -> str | None:
    """Base of the requests to this member's own network authority; None where it is none."""
    needs = settings.authority_needs
    return f"https://{plan.authority_frontend}:{needs.listeners[0].port}" if needs else None


def installation(settings: Settings) -> list[str]:
    """What `ledger.install` is told, on nodes and on the authority."""
    ledger = settings.ledger
    return [
        *(settings.platform.name, settings.ledger_version, str(INSTALLATION)),
        *(("--repository", str(ledger.repository)) if ledger.repository else ()),
        *(("--artifact", f"{ledger.artifact.coordinates}={ledger.artifact.sha256}") if ledger.artifact else ()),
        *(part for each in ledger.applications for part in ("--application", f"{each.coordinates}={each.sha256}")),
    ]


def _artifact(settings: Settings) -> Artifact | None:
    given = settings.ledger.artifact
    return Artifact(given.coordinates, given.sha256) if given else None


def _applications(settings: Settings) -> tuple[Artifact, ...]:
    return tuple(Artifact(each.coordinates, each.sha256) for each in settings.ledger.applications)


def agent_document(
    settings: Settings, plan: AddressPlan, peers: Sequence[PeerMember], known: Mapping[str, Any]
) -> str:
    """What an agent is told.

    Args:
        settings: this member's configuration.
        plan: its addresses.
        peers: its peers, as `consortium.read_peers` returns them.
        known: what Azure made: `client_id`, `vault_url`, `blob_account`, `lease_container`, `network_container`,
            `database_host`, `administrator`, `connection_string`.
    """
    return Configuration(
        member=settings.bank.name,
        platform=settings.platform.name,
        version=settings.ledger_version,
        legal_name=settings.bank.legal_name,
        identities=settings.identity_count,
        roles=settings.ledger.roles,
        frontend=str(plan.frontend),
        network=told_network(settings, peers, authority_url(settings, plan)),
        installation=INSTALLATION,
        artifact=_artifact(settings),
        applications=_applications(settings),
        client_id=known["client_id"],
        vault_url=known["vault_url"],
        blob_url=_blob_url(known["blob_account"]),
        lease_container=known["lease_container"],
        network_container=known["network_container"],
        share=SHARE,
        database=DatabaseServer(host=known["database_host"], administrator=known["administrator"])
        if known["database_host"]
        else None,
        connection_string=known["connection_string"],
    ).to_json()


def authority_document(
    settings: Settings,
    plan: AddressPlan,
    identities: Sequence[Identity],
    peers: Sequence[PeerMember],
    *,
    place: AuthorityPlace,
    known: Mapping[str, Any],
) -> str:
    """What this member's network authority is told.

    Args:
        settings: this member's configuration.
        plan: its addresses.
        identities: its own nodes, whose names it certifies like those on the peers' cards.
        peers: its peers, as `consortium.read_peers` returns them.
        place: where the authority finds what is its own.
        known: what Azure made: `blob_account`, `connection_string`.

    Raises:
        ValueError: the member is no network authority.
    """
    network, needs = settings.ledger.network, settings.authority_needs
    if network is None or needs is None:
        raise ValueError(f"{settings.bank.name} is no network authority; wanted one")
    artifact = _artifact(settings)
    return json.dumps(
        {
            "member": settings.bank.name,
            "legalNames": [each.legal_name for each in identities],
            "clientId": place.client_id,
            "vaultUrl": place.vault_url,
            "blobUrl": _blob_url(known["blob_account"]),
            "container": place.container,
            "url": authority_url(settings, plan),
            "crlUrl": f"http://{plan.authority_frontend}:{needs.listeners[-1].port}",
            "approval": network.approval,
            "subject": settings.bank.legal_name,
            "notaries": notaries(settings, identities, peers),
            "parameters": {
                "minimumPlatformVersion": network.minimum_platform_version,
                "maxMessageBytes": network.max_message_bytes,
                "maxTransactionBytes": network.max_transaction_bytes,
                "eventHorizonDays": network.event_horizon_days,
            },
            "installation": str(INSTALLATION),
            "version": settings.ledger_version,
            "artifact": asdict(artifact) if artifact else None,
            "applications": [asdict(each) for each in _applications(settings)],
            "connectionString": known["connection_string"],
        },
        indent=1,
    )


def boot(settings: Settings, document: str, *, share_source: str | None = None, module: str = AGENT) -> str:
    """The custom data of a VM.

    Args:
        settings: this member's configuration.
        document: what the VM's program is told.
        share_source: the ledger's share as NFS names it; None where the VM has none.
        module: the program.
    """
    return custom_data(
        cloud_config(
            document,
            share_source,
            settings.platform.packages(settings.ledger_version),
            in_image=settings.nodes.image is not None,
            module=module,
            installation=installation(settings),
        )
    )


def programs(settings: Settings, module: str = AGENT) -> str | None:
    """The user data of a VM: what of its programs custom data has no room for; None where its image has them."""
    return None if settings.nodes.image else user_data(module=module, installation=installation(settings))


def _blob_url(account: str) -> str:
    return f"https://{account}.blob.core.windows.net"
