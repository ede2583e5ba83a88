"""Warnings about settings that are accepted and may fail at Azure, or protect less than they seem to."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from contract.card import COEXISTENCE_ASN
from contract.identities import identity_name
from stack.previous import PreviousUpdate
from stack.regions import TABLE, WITHOUT_COLLECTION, WITHOUT_GZRS
from stack.settings import ROOT_OPEN_AT_MOST, HighAvailability, Settings

SAMPLE_SSH_KEY: Final = "AAAAC3NzaC1lZDI1NTE5AAAAIFvaFFIQiOzrwO2psDV4EinM+EG5INhxzTQ00j7b9NGL"
"""The public key in the sample configurations."""
_ZONE_REDUNDANT, _SAME_ZONE = HighAvailability.ZONE_REDUNDANT, HighAvailability.SAME_ZONE


def warnings_of(settings: Settings, previous: PreviousUpdate | None = None) -> Iterator[str]:
    """Warnings about one member's configuration; each says what to do.

    The table of regions has a date, and Azure may have changed since: it leads to warnings, not to refusals.

    Args:
        settings: the configuration.
        previous: outputs of the last update; None before the first.
    """
    yield from _of_combinations(settings)
    yield from _of_changes(settings, previous or PreviousUpdate())
    yield from _of_ended(settings, previous or PreviousUpdate())
    region = settings.region
    if not region.is_open:
        yield f"{region.name} was coming soon on {TABLE.regions_date}: see that your subscription can use it"
    for what, lacking, day in (
        ("the ledger's share is Premium_ZRS", not region.premium_zrs, TABLE.premium_zrs_date),
        ("the blobs are Standard_GZRS", region.name in WITHOUT_GZRS.regions, WITHOUT_GZRS.date),
    ):
        if region.zones and lacking:
            yield f"{what}, which {region.name} did not offer on {day}: if Azure refuses it, take another region"
    if settings.profile.monitoring and region.name in WITHOUT_COLLECTION.regions:
        yield (
            f"Azure's policy that makes VMs send counters and syslog lacked {region.name} on "
            f"{WITHOUT_COLLECTION.date}: if table Heartbeat stays empty, associate each VM with the data collection "
            "rule, or take another region"
        )
    if settings.platform.database is not None:
        yield from _of_database(settings)


def _of_combinations(settings: Settings) -> Iterator[str]:
    """Settings that are valid individually, but not sensible together."""
    ledger, needs = settings.ledger, settings.platform.authority
    if needs and ledger.network is None:
        yield "nodes never start without certified names: set ledger.network to the authority that certifies them"
    if settings.nodes.image is None:
        yield "nodes never start without the share's mount helper, which only an image has: set nodes.image"
    if needs and list(ledger.roles.values()).count(needs.notary_role) >= settings.identity_count:
        yield "all identities are notaries: none is left for the bank; raise nodes.count, or change ledger.roles"
    asn, connectivity = settings.bank.asn, settings.connectivity
    if connectivity.vpn and connectivity.express_route and asn != COEXISTENCE_ASN:
        yield (
            f"bank.asn is {asn} beside connectivity.expressRoute: Azure routes between both gateways only with "
            f"{COEXISTENCE_ASN} and a Route Server, which nodes don't need; if Azure refuses {asn}, set "
            f"{COEXISTENCE_ASN}, without ipsec links"
        )
    if ledger.rpc_users and not settings.application_networks:
        yield "ledger.rpcUsers have no network from which to call a node: set applicationNetworks"
    if ledger.rpc_users and not settings.operators:
        yield "ledger.rpcUsers have passwords that nobody may read: set operators"
    if settings.alerts.emails and not settings.profile.monitoring:
        yield f"alerts.emails are set, and size {settings.size} has no alerts: nobody gets mail; take a larger size"
    if settings.profile.monitoring and not settings.alerts.emails:
        yield f"the alerts of size {settings.size} have no receiver: set alerts.emails"
    if SAMPLE_SSH_KEY in settings.nodes.ssh_public_key.split():
        yield "nodes.sshPublicKey is that of the samples, whose private key you don't have: set your own"


def _of_changes(settings: Settings, previous: PreviousUpdate) -> Iterator[str]:
    """What the last update makes of a setting."""
    network, card, made = settings.ledger.network, previous.card, previous.made_with
    if network is None:
        return
    card = card if isinstance(card, Mapping) else {}
    until = "set ledger.network.rootOpenUntil"
    if settings.is_authority and not settings.root_open:
        # Later it is only a leftover, which changes nothing.
        if network.root_open_until and network.root_open_until > datetime.now(UTC) - ROOT_OPEN_AT_MOST:
            yield (
                f"ledger.network.rootOpenUntil is {network.root_open_until:%FT%TZ}, which is past: this run closes "
                "the root, or leaves it closed; if it should be open, set a later time"
            )
        if not card.get("authority"):
            yield f"the new authority can make no root, and nodes wait for their certificates: {until}"
        elif made and made.ca_generation and made.ca_generation < settings.ca_generation:
            yield (
                f"ledger.network.caGeneration is {settings.ca_generation}, and was {made.ca_generation}: the older "
                f"CA goes on until the root, which is closed, has certified the new one: {until}"
            )
    nodes = card.get("nodes")
    for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
        name = identity_name(index)
        now, before = settings.ledger.names.get(name), node.get("legalName") if isinstance(node, dict) else None
        if None not in (now, before) and now != before:
            yield (
                f"ledger.names.{name} is {now}, and was {before}: certificates of that name can't be used any more; "
                "see that none was issued"
            )


def _of_ended(settings: Settings, previous: PreviousUpdate) -> Iterator[str]:
    """Identities of the live member that this configuration has no longer."""
    nodes = previous.card.get("nodes") if isinstance(previous.card, Mapping) else None
    for index, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if index >= settings.identity_count:
            legal_name = node.get("legalName") if isinstance(node, dict) else None
            yield (
                f"{identity_name(index)} ends, so {legal_name} answers nobody: its keys and ledger stay, and it is "
                f"back once nodes.count less nodes.standby is {index + 1} or more"
            )


def _of_database(settings: Settings) -> Iterator[str]:
    region, database, on = settings.region, settings.database, f"on {TABLE.postgresql_date}"
    if region.postgresql is None:
        yield f"{region.name} did not offer PostgreSQL {on}: if Azure refuses it, take another region"
        return
    offer = settings.server_offer
    if not offer.zone_redundant:
        if database.high_availability is _ZONE_REDUNDANT:
            yield (
                f"database.highAvailability is {_ZONE_REDUNDANT}, and {region.name} took no new such server {on}: if "
                f"Azure refuses it, set {_SAME_ZONE}, or take another region"
            )
        elif settings.database_high_availability is not settings.profile.database_high_availability and (
            database.high_availability is None
        ):
            yield (
                f"{region.name} took no new zone-redundant PostgreSQL server {on}, so the standby is in the server's "
                f"zone: take another region, or accept that by database.highAvailability: {_SAME_ZONE}"
            )
    if database.geo_redundant_backup and not offer.geo_redundant_backup:
        yield (
            f"database.geoRedundantBackup is true, and {region.name} did not offer it {on}: if Azure refuses it, "
            "leave it out"
        )
    if database.sku and int(database.sku[-1]) not in region.postgresql.generations:
        had = ", ".join(f"v{each}" for each in region.postgresql.generations)
        yield f"database.sku is {database.sku}, and {region.name} had {had} {on}: if Azure refuses it, leave it out"
