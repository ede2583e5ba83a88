"""One member's stack: what one bank needs to run its ledger nodes and to reach the other members."""

import gc
import os

import pulumi

from contract.frontend import application_port
from stack import exports, outputs, rows
from stack.card import own_card
from stack.fixed import made_with, once_made
from stack.member import read_member


async def main() -> None:
    """Read and check the configuration, then register a component for each row of docs/architecture.md's table."""
    member = await read_member()

    keys = rows.membership_keys(member)
    group = rows.member_group(member)
    site = rows.Site(member, group, rows.monitoring(member, group))
    network = rows.member_network(site)
    circuit = rows.express_route(site, network)
    gateway = rows.vpn_gateway(site, network)
    card = own_card(member, keys, gateway)
    key_store = rows.key_store(site, network, keys, card)
    storage = rows.ledger_storage(site, network)
    database = rows.ledger_database(site, network)
    nodes = rows.node_scale_set(site, network, key_store, storage, database)
    authority = rows.network_authority(site, network, storage, keys)
    links = rows.vpn_peerings(site, gateway, keys)
    workbook = rows.workbook(
        site, gateway=gateway, key_store=key_store, storage=storage, database=database, authority=authority
    )
    rows.alerts(
        site,
        network=network,
        circuit=circuit,
        gateway=gateway,
        key_store=key_store,
        storage=storage,
        database=database,
        nodes=nodes,
        authority=authority,
        workbook=workbook,
    )

    pulumi.export(outputs.CARD_OUTPUT, card)
    pulumi.export(outputs.FINGERPRINT_OUTPUT, keys.fingerprint)
    server, offer = database.server_id if database else None, member.settings.server_offer
    pulumi.export(outputs.SERVER_OFFER_OUTPUT, once_made(offer.model_dump(by_alias=True), server))
    pulumi.export(outputs.SHARE_OUTPUT, once_made(member.settings.ledger.share_gib, storage.share_name))
    settings = made_with(member.settings, member.subscription_id).model_dump(by_alias=True, exclude_none=True)
    vaults = key_store.key_vault_id, key_store.bank_vault_id, authority.vault_id if authority else None
    pulumi.export(outputs.MADE_WITH_OUTPUT, once_made(settings, server, *vaults))
    pulumi.export(
        outputs.PEER_CARDS_OUTPUT, {name: each.to_output() for name, each in member.newest_peer_cards.items()}
    )
    pulumi.export(outputs.GROUP_OUTPUT, group.resource_group_name)
    pulumi.export(outputs.LINKS_OUTPUT, exports.links(member))
    pulumi.export(outputs.CONNECTIONS_OUTPUT, exports.connections(member, links))
    pulumi.export(outputs.MONITORING_OUTPUT, exports.monitoring(site.monitoring, workbook))
    pulumi.export(outputs.WAITS_FOR_OUTPUT, exports.waits_for(member))
    if rpc_port := application_port(member.identities):
        pulumi.export(outputs.RPC_OUTPUT, f"{member.addresses.frontend}:{rpc_port}")


# Peers write the outputs of their stacks. The SDK looks up each resource that one refers to in this stack, in the
# background: the run would fail after it has created everything else. Read as text, it does no harm.
os.environ["PULUMI_DISABLE_RESOURCE_REFERENCES"] = "true"
# Otherwise each garbage collection scans the whole SDK: a tenth of the time of a plan.
gc.freeze()
pulumi.run(main)
