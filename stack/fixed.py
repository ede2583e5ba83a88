"""Settings that can't change once the member is live: resources would be replaced, and some of them only in part."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import pulumi
from pulumi_azure_native.authorization import GetClientConfigResult

from contract.identities import Identity, identity_name
from stack.previous import MadeWith, PreviousUpdate
from stack.settings import LOCATION_KEY, SUBSCRIPTION_KEY, TENANT_KEY, HighAvailability, Settings, Size

_T = TypeVar("_T")
_ZONE_REDUNDANT, _SAME_ZONE = HighAvailability.ZONE_REDUNDANT, HighAvailability.SAME_ZONE


def refuse_changes(
    settings: Settings, identities: Sequence[Identity], client: GetClientConfigResult, previous: PreviousUpdate
) -> None:
    """Compare the configuration, what it makes, and where, with the outputs of the last update.

    Args:
        settings: the configuration.
        identities: the identities that it makes.
        client: tenant and subscription of this run.
        previous: outputs of the last update.

    Raises:
        RunError: with one line for each setting that has changed and must not.
    """
    card = previous.card if isinstance(previous.card, dict) else {}
    made = previous.made_with
    if mistakes := [
        *_moves(client, card, made),
        *_changes(settings, card),
        *_of_nodes(settings, identities, card),
        *_shrinking(settings, previous.share_gib),
        *(_unlike(settings, made) if made else ()),
    ]:
        raise pulumi.RunError(
            "\n".join([f"the configuration of stack {pulumi.get_stack()} can't be used:", *mistakes])
        )


def _moves(client: GetClientConfigResult, card: dict[str, Any], made: MadeWith | None) -> Iterator[str]:
    """Another tenant or subscription, where the whole member would be made again."""
    live = made.subscription_id if made else None
    for key, value, before in (
        (TENANT_KEY, client.tenant_id, card.get("tenantId")),
        (SUBSCRIPTION_KEY, client.subscription_id, live or _subscription_of(card)),
    ):
        if before is not None and value.lower() != str(before).lower():
            yield (
                f"{key}: {value}: wanted {before}, as it is live: everything that the member has is there; without "
                "the key the sign-in decides"
            )


def _subscription_of(card: dict[str, Any]) -> str | None:
    """Subscription of the gateway on a card, for the record that an older program did not make."""
    try:
        return str(card["gateway"]["id"].split("/")[2])
    except (KeyError, TypeError, AttributeError, IndexError):
        return None


def _changes(settings: Settings, card: dict[str, Any]) -> Iterator[str]:
    project = pulumi.get_project()
    for key, value, before, why in (
        (f"{project}:bank.name", settings.bank.name, card.get("name"), "peers know the member by it"),
        (
            LOCATION_KEY,
            settings.location,
            card.get("location"),
            "vaults, storage and database would be replaced by empty ones there",
        ),
        (
            f"{project}:addressSpace",
            str(settings.address_space),
            card.get("addressSpace"),
            "every subnet is in use, and peers' links lead there",
        ),
        (
            f"{project}:bank.legalName",
            settings.bank.legal_name,
            _bank_of(settings, card),
            "every identity, its certificates and what it owns on the ledger belong to it",
        ),
    ):
        if before is not None and value != before:
            yield f"{key}: {value}: wanted {before}, as it is live: {why}; another value is for a new member's stack"
    generations = settings.key_generations.model_dump()
    before_them = card.get("keyGenerations")
    for name, generation in generations.items():
        newest = before_them.get(name) if isinstance(before_them, dict) else None
        if isinstance(newest, int | float) and generation < newest:
            yield (
                f"{project}:keyGenerations.{name}: {generation}: wanted {newest:g} or more, as it is live: a "
                "key that was replaced would come back"
            )


def _of_nodes(settings: Settings, identities: Sequence[Identity], card: dict[str, Any]) -> Iterator[str]:
    """Notaries that would be none, and names of a zone's certificates that would change.

    Without deletion protection both are allowed: in a test, or once no state names the notary.
    """
    needs, network, project = settings.platform.authority, settings.ledger.network, pulumi.get_project()
    nodes = card.get("nodes")
    if needs is None or not settings.deletion_protection or not isinstance(nodes, list):
        return
    renamed = network is not None and network.zone and _bank_of(settings, card) == settings.bank.legal_name
    for index, node in enumerate(each if isinstance(each, dict) else {} for each in nodes):
        name, role, legal_name = identity_name(index), node.get("role"), node.get("legalName")
        now = identities[index] if index < len(identities) else None
        if role == needs.notary_role and (now is None or now.role.name != role):
            yield (
                f"{project}:ledger.roles.{name}: {now.role.name if now else 'no such identity'}: wanted {role}, as "
                "it is live: states name it, and nobody could spend them; if none does, set deletionProtection: "
                "false for this run"
            )
        # What the platform names by itself may never have been certified.
        usual = settings.platform.node_legal_name(settings.bank.legal_name, name)
        if renamed and now and legal_name not in (None, usual, now.legal_name):
            yield (
                f"{project}:ledger.names.{name}: {now.legal_name}: wanted {legal_name}, as it is live: its "
                "certificates and what it owns on the ledger belong to that name; if it has none, set "
                "deletionProtection: false for this run"
            )


def _shrinking(settings: Settings, live: int | None) -> Iterator[str]:
    wanted = settings.ledger.share_gib
    if live is not None and wanted < live:
        yield (
            f"{pulumi.get_project()}:ledger.shareGib: {wanted}: wanted {live} or more, as it is live: what nodes "
            "have written may not fit any more"
        )


def made_with(settings: Settings, subscription_id: str | None) -> MadeWith:
    """Settings and subscription of this update that the next one compares with its own."""
    return MadeWith(
        subscription_id=subscription_id,
        soft_delete_days=settings.key_vault.soft_delete_days,
        geo_redundant_backup=settings.geo_redundant_backup if settings.platform.database else None,
        ca_generation=settings.ca_generation if settings.is_authority else None,
        purge_protection=settings.key_vault.purge_protection,
        high_availability=settings.database_high_availability if settings.platform.database else None,
        zones=settings.region.zones,
        pair=settings.region.pair,
    )


def once_made(value: _T, *made: pulumi.Output[Any] | None) -> pulumi.Output[_T]:
    """A value for the next update, exported only once these outputs of resources exist.

    A failed update must not bind the next one.
    """
    return pulumi.Output.all(*(each for each in made if each is not None)).apply(lambda _: value)


def _unlike(settings: Settings, made: MadeWith) -> Iterator[str]:
    now, project = made_with(settings, made.subscription_id), pulumi.get_project()
    for key, value, before, why in (
        (
            "keyVault.softDeleteDays",
            now.soft_delete_days,
            made.soft_delete_days,
            "Azure refuses another number for a vault that exists",
        ),
        (
            "database.geoRedundantBackup",
            now.geo_redundant_backup,
            made.geo_redundant_backup,
            "Azure refuses another choice for a server that exists",
        ),
    ):
        if None not in (value, before) and value != before:
            yield f"{project}:{key}: {json.dumps(value)}: wanted {json.dumps(before)}, as it is live: {why}"
    if made.zones == () and settings.profile.needs_zones:
        yield (
            f"{project}:size: {settings.size}: wanted {Size.SMALL}, as it is live: its addresses and copies are in "
            "no availability zone, and Azure moves none; another size is for a new member's stack"
        )
    if made.purge_protection and not now.purge_protection:
        yield f"{project}:keyVault.purgeProtection: false: wanted true, as it is live: Azure never switches it off"
    if {made.high_availability, now.high_availability} == {_ZONE_REDUNDANT, _SAME_ZONE}:
        yield (
            f"{project}:database.highAvailability: {now.high_availability}: wanted {made.high_availability}, as it "
            f"is live, or first {HighAvailability.DISABLED}: Azure does not convert one into the other"
        )
    if now.ca_generation and made.ca_generation and now.ca_generation < made.ca_generation:
        yield (
            f"{project}:ledger.network.caGeneration: {now.ca_generation}: wanted {made.ca_generation} or more, as it "
            "is live: the CA that certifies names would be deleted"
        )


def _bank_of(settings: Settings, card: dict[str, Any]) -> str | None:
    try:
        return settings.platform.bank_of(card["nodes"][0]["legalName"])
    except (KeyError, IndexError, TypeError, ValueError):
        # An older program's card, or another platform's.
        return None
