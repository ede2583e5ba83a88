"""Alert rules on queries of the workspace: on the VMs' metrics and logs, and on Azure's logs.

A rule that looks back reads two days, the most that Azure allows: it raises no alert until what it watches was there
once, and resolves if that has been gone for two days. Rules on single events read the last hour every few minutes,
since some rows arrive late.
"""

import re
from collections.abc import Callable, Mapping

from pulumi import Input, Output

from components.alerts.args import AlertsArgs, Watched
from components.alerts.rules import AMBA, LEARN, QueryRule
from components.queries import LAST_DAYS, OWN_DAYS, PEERS_DAYS, Value
from contract.metrics import Cause, Metric
from contract.timing import LeaseTiming

_Values = Mapping[str, Input[Value]]
_OWN_SERVICES = (
    Cause.SHARE,
    Cause.DISK,
    Cause.CLOCK,
    Cause.RUNTIME,
    Cause.VAULT,
    Cause.DATABASE,
    Cause.LEASES,
    Cause.NODE,
    Cause.EXCHANGE,
)
_AUTHORITY_CAUSES = (Cause.AUTHORITY, Cause.REVOCATION)
_VAULT_WRITES = [
    f"{kind}{done}"
    for kind, operations in {
        "Secret": ("Set", "Update", "Delete", "Purge", "Recover", "Restore", "Backup"),
        "Key": ("Create", "Import", "Update", "Delete", "Purge", "Recover", "Restore", "Backup", "Rotate"),
    }.items()
    for done in operations
]
_USUAL_TAKEOVERS = 2
"""Takeovers in an hour that raise no alert: a VM dies, and so does the one that took over."""
_SLOW_SECONDS = LeaseTiming().request_seconds / 2
"""Average duration of renewals that raises an alert: half of a renewal's timeout."""
_DISK_PERCENT = 80


def _ids(args: AlertsArgs, watched: Watched) -> Output[list[str]]:
    return Output.all(*args.watched.get(watched, {}).values()).apply(lambda ids: [str(each).lower() for each in ids])


def _read_vaults(args: AlertsArgs) -> Output[list[str]] | list[str]:
    ids = [args.watched[Watched.VAULT][word] for word in args.read_vaults]
    return Output.all(*ids).apply(lambda known: [str(each).lower() for each in known]) if ids else []


def _links(args: AlertsArgs) -> _Values | None:
    if not args.peers or Watched.VPN_GATEWAY not in args.watched:
        return None
    ends = [
        {"end": end, "peer": name}
        for name, instances in sorted(args.peers.items())
        for each in instances
        for end in (each.public_ip, each.bgp_ip)
    ]
    sessions = "|".join(re.escape(each.bgp_ip) for instances in args.peers.values() for each in instances)
    return {"peers": ends, "gateways": _ids(args, Watched.VPN_GATEWAY), "bgp_ends": rf"\b({sessions})\b"}


def _vault_writes(args: AlertsArgs) -> _Values | None:
    vaults = args.watched.get(Watched.VAULT, {})
    if not vaults:
        return None
    writers = [
        Output.all(vaults[word], principal).apply(lambda pair: f"{str(pair[0]).lower()} {pair[1]}")
        for word, principal in args.vault_writers.items()
        if word in vaults
    ]
    return {
        "operations": _VAULT_WRITES,
        "vaults": _ids(args, Watched.VAULT),
        "writers": Output.all(*writers),
    }


def _always(**values: Value) -> Callable[[AlertsArgs], _Values]:
    return lambda _: values


def _at_the_authority(**values: Value) -> Callable[[AlertsArgs], _Values | None]:
    return lambda args: None if args.root_vault_id is None else values


def _days_left(own: int, peers: int) -> Callable[[AlertsArgs], _Values]:
    return _always(left=Metric.DAYS_LEFT, own=own, peers=peers)


QUERY_RULES: tuple[QueryRule, ...] = (
    QueryRule(
        name="nodes-missing",
        title="Ledger nodes are missing",
        query="nodes-missing",
        measure="Missing",
        values=lambda args: {"available": Metric.NODES_AVAILABLE, "identities": args.identities},
        looks_back=True,
        severity=1,
        window="PT15M",
        every="PT5M",
        when="in 15 min fewer identities than configured had a ready node at least once, after one had run",
        meaning="Fewer of the bank's nodes are available than configured, or no VM sends metrics.",
        runbook="own-nodes-are-missing.md",
        source="agent/README.md",
    ),
    QueryRule(
        name="services-away",
        title="A service of the bank is unavailable",
        query="services-away",
        measure="VMs",
        dimensions=("Cause",),
        values=_always(
            available=Metric.NODES_AVAILABLE, impaired=Metric.IMPAIRED, causes=[str(each) for each in _OWN_SERVICES]
        ),
        looks_back=True,
        severity=1,
        window="PT30M",
        every="PT5M",
        when=f"for 15 min a VM lacked one of {', '.join(_OWN_SERVICES)}, after a node had run",
        meaning="VMs lack a service of the bank; the dimension says which. Takeovers are impossible, or nodes stop.",
        runbook="own-services-are-away.md",
        source="docs/adr/0023-local-faults-and-global-outages.md",
    ),
    QueryRule(
        name="peers-away",
        title="A member is unavailable",
        query="peers-away",
        measure="Amiss",
        dimensions=("Member", "Peer"),
        values=_always(reachable=Metric.MEMBERS_REACHABLE, impaired=Metric.IMPAIRED, refused=Cause.REFUSED),
        looks_back=True,
        severity=2,
        window="PT30M",
        every="PT15M",
        when="for 15 min no node reached a member that one reached in two days, or one in reach is refused",
        meaning="Nodes of another member can't be reached, or its network information is refused.",
        runbook="a-peer-is-away.md",
        source="agent/README.md",
    ),
    QueryRule(
        name="approvals",
        title="Somebody waits for an approval",
        query="approvals",
        measure="Hours",
        dimensions=("Waits",),
        values=_always(impaired=Metric.IMPAIRED, approval=Cause.APPROVAL, requests=Metric.PENDING_REQUESTS),
        severity=3,
        window="PT4H",
        every="PT1H",
        when="for 4 hours a request for certificates has waited for a person",
        meaning="A person must approve certificates: of our nodes at the authority, or of others' nodes at ours.",
        runbook="an-approval-waits.md",
        source="docs/adr/0012-enrolment-speaks-the-doormans-protocol.md",
    ),
    QueryRule(
        name="authority-away",
        title="The network's authority is unavailable",
        query="authority-away",
        measure="VMs",
        dimensions=("Cause",),
        values=_always(
            available=Metric.NODES_AVAILABLE,
            impaired=Metric.IMPAIRED,
            open=Metric.ROOT_OPEN,
            causes=[str(each) for each in _AUTHORITY_CAUSES],
        ),
        looks_back=True,
        severity=2,
        window="PT2H",
        every="PT1H",
        when="for an hour it did not answer a VM, its own VMs were silent, or its daily lists were over two days old",
        meaning="The authority does not answer, or its lists are old. Certified nodes continue for up to 90 days.",
        runbook="the-authority-is-away.md",
        source="docs/adr/0018-silence-removes-nobody-and-revocation-is-carried.md",
    ),
    QueryRule(
        name="unproven-requests",
        title="The authority refused requests without proof",
        query="unproven-requests",
        measure="Refused",
        values=_at_the_authority(unproven=Metric.UNPROVEN),
        severity=2,
        window="PT1H",
        every="PT15M",
        when="in the last hour a request did not prove which member sent it",
        meaning="Somebody requested a certificate of the authority and could not prove to be a member.",
        runbook="unproven-requests.md",
        source="docs/adr/0012-enrolment-speaks-the-doormans-protocol.md",
    ),
    *(
        QueryRule(
            name=name,
            title=f"Something ends within {own} days",
            query="days-left",
            measure="Near",
            dimensions=("What", "Member"),
            values=_days_left(own, peers),
            severity=severity,
            window="PT6H",
            every="PT6H",
            when=f"less than {own} days left ({of_peers})",
            meaning="A certificate or a list ends soon and has not been renewed; the dimensions say which.",
            runbook="something-ends-soon.md",
            source="docs/adr/0020-a-root-that-is-closed.md",
        )
        for name, own, peers, of_peers, severity in (
            ("ends-soon", OWN_DAYS, PEERS_DAYS, f"{PEERS_DAYS} for a peer", 2),
            ("ends-now", LAST_DAYS, 0, "or a peer's has expired", 1),
        )
    ),
    QueryRule(
        name="faults",
        title="A program met what it did not expect",
        query="faults",
        measure="Faults",
        dimensions=("AppRoleInstance",),
        values=_always(faults=Metric.FAULTS),
        severity=3,
        window="PT1H",
        every="PT15M",
        when="an unexpected exception in the last hour",
        meaning="An unexpected exception of an agent or the authority: the VM's journal has its traceback.",
        runbook="an-unexpected-exception.md",
        source="docs/adr/0021-an-unexpected-exception-is-an-outage.md",
    ),
    QueryRule(
        name="takeovers",
        title="Identities move too often",
        query="takeovers",
        measure="Beyond",
        values=_always(takeovers=Metric.TAKEOVERS, usual=_USUAL_TAKEOVERS),
        severity=2,
        window="PT1H",
        every="PT15M",
        when=f"more than {_USUAL_TAKEOVERS} takeovers in an hour",
        meaning="Identities move from VM to VM: VMs fail, or can't renew their leases.",
        runbook="identities-move.md",
        source="agent/README.md",
    ),
    QueryRule(
        name="slow-leases",
        title="Leases are renewed slowly",
        query="slow-leases",
        measure="Longer",
        dimensions=("AppRoleInstance",),
        values=_always(latency=Metric.LEASE_LATENCY, seconds=_SLOW_SECONDS),
        severity=2,
        window="PT15M",
        every="PT15M",
        when=f"renewals take more than {_SLOW_SECONDS:g} s on average over 15 min",
        meaning="The lease store answers slowly: if it becomes slower, VMs lose their identities.",
        runbook="identities-move.md",
        source="contract/timing.py",
    ),
    QueryRule(
        name="links-down",
        title="A link to a peer is down",
        query="links-down",
        measure="Amiss",
        dimensions=("Link", "Peer", "End", "Instance"),
        values=_links,
        looks_back=True,
        severity=2,
        window="PT15M",
        every="PT5M",
        when="a tunnel or a BGP session ended at least 10 min ago, and is not back",
        meaning="A tunnel to a peer, or a BGP session, was up and has been down for ten minutes; the dimensions say "
        "which. The peer's other tunnels may be up.",
        runbook="a-link-is-down.md",
        source=f"{LEARN}/vpn-gateway/troubleshoot-vpn-with-azure-diagnostics",
    ),
    QueryRule(
        name="vault-written",
        title="A vault was written from inside the network",
        query="vault-written",
        measure="Writes",
        dimensions=("Vault",),
        values=_vault_writes,
        severity=1,
        window="PT1H",
        every="PT5M",
        when="a write through a private endpoint by anybody but the nodes' agents, also one that was refused",
        meaning="Somebody else than the nodes' agents changed a secret or key, or tried to, through a private "
        "endpoint: expected only from a person who restores keys. A VM may have been compromised.",
        runbook="a-vm-was-taken-over.md",
        source="docs/adr/0019-what-a-stolen-vm-can-change.md",
    ),
    QueryRule(
        name="root-open",
        title="The network's root is open",
        query="root-open",
        measure="Open",
        values=_at_the_authority(open=Metric.ROOT_OPEN),
        severity=2,
        window="PT15M",
        every="PT15M",
        when="a VM may sign with the root key",
        meaning="The authority's VMs may sign with the root key: once they have, run pulumi up to close the root.",
        runbook="renewing-an-intermediate.md",
        source="docs/adr/0020-a-root-that-is-closed.md",
    ),
    QueryRule(
        name="root-signed",
        title="The network's root has signed",
        query="root-signed",
        measure="Signatures",
        values=lambda args: None if args.root_vault_id is None else {"vault": args.root_vault_id},
        severity=1,
        window="PT1H",
        every="PT5M",
        when="a signature with the root key",
        meaning="Something was signed with the root key: the register must have an entry of that minute.",
        runbook="renewing-an-intermediate.md",
        source="docs/adr/0020-a-root-that-is-closed.md",
    ),
    QueryRule(
        name="disks-fill",
        title="A VM's disk fills",
        query="disks-fill",
        measure="Above",
        dimensions=("Computer", "Disk"),
        values=_always(percent=_DISK_PERCENT),
        severity=2,
        window="PT15M",
        every="PT15M",
        when=f"a file system is more than {_DISK_PERCENT} % full on average over 15 min",
        meaning="A disk of a VM is filling. When it is full, the VM gives its identity up to a healthy standby.",
        runbook="a-vm-is-down-or-short.md",
        source=f"{AMBA}/Compute/virtualMachines/",
    ),
    QueryRule(
        name="cap-reached",
        title="The workspace's daily cap is reached",
        query="cap-reached",
        measure="Reports",
        values=_always(),
        looks_back=True,
        severity=1,
        window="PT1H",
        every="PT5M",
        when="the workspace reported in the last day that its daily cap is reached",
        meaning="The workspace ingests nothing until the next day: writes to the vaults and signatures of the root "
        "raise no alert. A compromised VM may have filled it to hide.",
        runbook="telemetry-stopped.md",
        source=f"{LEARN}/azure-monitor/logs/daily-cap",
    ),
    QueryRule(
        name="telemetry-stopped",
        title="Telemetry does not arrive",
        query="telemetry-stopped",
        measure="Amiss",
        dimensions=("Cause",),
        values=lambda args: {"vaults": _read_vaults(args)},
        looks_back=True,
        severity=2,
        window="PT15M",
        every="PT15M",
        when="the workspace reports errors or warnings of ingestion, no VM has sent a heartbeat for 30 min, or the "
        "log of a vault, which agents read all the time, has not arrived for an hour although agents ran",
        meaning="The workspace drops telemetry, or none arrives: other alerts may have no data.",
        runbook="telemetry-stopped.md",
        source=f"{LEARN}/azure-monitor/logs/monitor-workspace",
    ),
    QueryRule(
        name="models-differ",
        title="VMs stay behind the model",
        query="models-differ",
        measure="Behind",
        dimensions=("Kind",),
        values=_always(standbys=Metric.STANDBYS),
        looks_back=True,
        severity=3,
        window="PT6H",
        every="PT6H",
        when="VMs of one kind run different models for more than a day",
        meaning="Some VMs were not replaced after the last change of their model: they run an older configuration.",
        runbook="vms-stay-behind.md",
        source=f"{LEARN}/virtual-machine-scale-sets/virtual-machine-scale-sets-upgrade-policy",
    ),
)
