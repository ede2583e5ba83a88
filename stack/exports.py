"""Values of stack outputs for the time after an update: names to query, and what other members have to do."""

from collections.abc import Mapping, Sequence

from pulumi import Output

from components.monitoring import Monitoring
from components.vpn_peering import VpnPeering
from components.workbook import Workbook
from contract.authority_configuration import Approval
from stack.member import Member


def connections(member: Member, links: Sequence[VpnPeering]) -> dict[str, list[Output[str]]]:
    """Azure's names of this member's VPN connections to each peer, by the peer's name."""
    peers = [peer.name for peer in member.peers if peer.over_vpn]
    return {
        name: [each.apply(lambda id_: id_.rsplit("/", 1)[-1]) for each in link.connection_ids.values()]
        for name, link in zip(peers, links, strict=True)
    }


def links(member: Member) -> dict[str, str]:
    """The kind of the link to each peer, by the peer's name."""
    return {peer.name: peer.link.value for peer in member.peers}


def monitoring(made: Monitoring | None, workbook: Workbook | None) -> Mapping[str, Output[str]]:
    """URL of the workbook, and the GUID by which the workspace is queried; empty without monitoring."""
    return {"workbook": workbook.url, "workspace": made.workspace_customer_id} if made and workbook else {}


def waits_for(member: Member) -> dict[str, list[str]]:
    """Tasks of other members that this one waits for, by their names; Pulumi can't know whether they are done."""
    waits = {peer.name: ["its half of the link"] for peer in member.peers if peer.over_vpn}
    network, authority = member.settings.ledger.network, member.authority_peer
    if authority:
        waits.setdefault(authority.name, []).append(
            "certificates of our nodes, and their approval where that is by hand"
        )
    if network and member.authority and network.approval is Approval.MANUAL:
        waits.setdefault(member.name, []).append("approval of each node's request")
    return waits
