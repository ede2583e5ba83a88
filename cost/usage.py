"""A member's usage in a month: computed from its plan and the agents' intervals, or stated in a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import Field, ValidationError

from components.collected import TABLES, LogCategory
from components.log_volume import DAY, Senders, gb_a_month, volumes
from contract.card import LinkKind
from contract.models import StrictModel
from contract.timing import AUTHORITY_ROUND_SECONDS, LEASE, STANDBY
from cost.prices import HOURS
from lab.azure.plan.planned import Plan, Planned
from lab.azure.stack_file import read_yaml
from ledger.corda import CORDA
from stack.mistakes import mistakes_of
from stack.outputs import CARD_OUTPUT, PEER_CARDS_OUTPUT
from stack.settings import TUNNELS_OF_CONNECTION

_HOUR_SECONDS = 3600
_GB = 1e9
_NODES = "NodeScaleSet"
_TRANSACTION_BYTES = 20_000
"""Size of a transaction with signatures and dependencies, as one party sends it to another: an assumption."""
_OPERATION_BYTES = 2_000
"""Size of a request to a blob or a secret with its answer, headers included: an assumption."""
_UPDATES_GB = 0.1
"""Traffic of a VM through the NAT gateway, without a new VM's downloads: an assumption."""
_LISTS_A_ROUND, _READS_A_ROUND = 2, 8
"""Requests of an authority's VM in each round: measured with two members."""
_STORED_GB = 1
"""Size of identities' records and the network's documents, with old versions: an assumption."""


_LINKS = {"Vnet2Vnet": LinkKind.VNET_TO_VNET, "IPsec": LinkKind.IPSEC}
"""The kind of link by the type of a VPN gateway's connection."""


def tunnels_of(connection: Planned) -> int:
    """Number of tunnels of one of the VPN gateway's connections."""
    return TUNNELS_OF_CONNECTION[_LINKS[connection.inputs["connectionType"]]]


class UsageError(Exception):
    """A file says no usage: the message has a line for each mistake, with key, value and what was wanted."""


def _amount(default: float | None, description: str) -> Any:
    return Field(default, ge=0, allow_inf_nan=False, strict=True, description=description)


class Usage(StrictModel):
    """One bank's stated usage in a month. None: computed from the plan."""

    hours: float = Field(HOURS, ge=0, le=HOURS, strict=True, description="hours that the VMs run")
    transactions: float = _amount(60 * HOURS, "transactions of the bank's nodes; by default one a minute")
    log_gb: float | None = _amount(None, "GB that Log Analytics takes in")
    link_gb: float | None = _amount(None, "GB that the bank sends to its peers over the VPN gateway")
    egress_gb: float | None = _amount(None, "GB through the NAT gateway")
    balancer_gb: float | None = _amount(None, "GB through the load balancers")
    endpoint_gb: float | None = _amount(None, "GB through the private endpoints, half of it each way")
    blob_gb: float = _amount(_STORED_GB, "GB in the blobs")
    backup_gb: float = _amount(
        0, "GB of the database's backups, without their copies in a paired region; as much as its storage is included"
    )

    @property
    def stated(self) -> dict[str, float]:
        """Values other than the defaults, by the keys of the YAML file."""
        return self.model_dump(by_alias=True, exclude_defaults=True)


def read_usage(path: Path) -> Usage:
    """The usage that a YAML file states, by the keys of `Usage` in camelCase.

    Raises:
        StackFileError: the file can't be read as YAML.
        UsageError: a key or a value is wrong: a line for each.
    """
    document = read_yaml(path, "a file of usage")
    try:
        return Usage.model_validate({} if document is None else document)
    except ValidationError as error:
        lines = [f"{path}: {each.line}" for each in mistakes_of(error, Usage, document)]
        raise UsageError("\n".join(lines)) from error


@dataclass(frozen=True)
class Operations:
    """Requests a month of all VMs together."""

    renewals: float
    """Lease operations, for identities and for the VMs' presence."""
    lists: float
    """Lists of blobs."""
    reads: float
    """Reads of blobs by the authority."""
    secrets: float
    """Reads of secrets."""


@dataclass(frozen=True)
class Used:
    """A stack's resources and usage, for its meters."""

    plan: Plan
    usage: Usage
    near: frozenset[str] = frozenset()
    """Resource ids of the peers' gateways in the bank's own region, as far as known."""

    @cached_property
    def _by_urn(self) -> dict[str, Planned]:
        return {each.urn: each for each in self.plan.resources}

    def of_type(self, short_type: str) -> list[Planned]:
        """The plan's resources of a type such as `network:PrivateEndpoint`."""
        return [each for each in self.plan.resources if each.custom and each.short_type == short_type]

    def component(self, resource: Planned) -> Planned | None:
        """The outermost component above a resource; None if it has no component."""
        found = None
        while parent := self._by_urn.get(resource.parent):
            found = resource = parent
        return found

    @property
    def connections(self) -> list[Planned]:
        """The VPN gateway's connections to peers."""
        found = self.of_type("network:VirtualNetworkGatewayConnection")
        return [each for each in found if each.inputs["connectionType"] != "ExpressRoute"]

    @property
    def vpn_peers(self) -> int:
        """Number of members linked over the VPN gateway: the component of a link has all of its connections."""
        return len({each.parent for each in self.connections})

    @cached_property
    def senders(self) -> Senders:
        """The senders of logs."""
        database = CORDA.database if self.of_type("dbforpostgresql:Server") else None
        return Senders(
            vms=self.node_vms,
            identities=self.identities,
            peers=self.peers,
            tunnels=sum(tunnels_of(each) for each in self.connections),
            connections=database.connections_per_identity if database else 0,
            authority_vms=self.vms - self.node_vms,
        )

    def _vms(self, *, of_nodes: bool) -> int:
        return sum(
            int(each.inputs["sku"]["capacity"])
            for each in self.of_type("compute:VirtualMachineScaleSet")
            if ((found := self.component(each)) is not None and found.type.endswith(f":{_NODES}")) is of_nodes
        )

    @property
    def node_vms(self) -> int:
        """VMs that run a node or stand by."""
        return self._vms(of_nodes=True)

    @property
    def vms(self) -> int:
        """All VMs, including the authority's."""
        return self.node_vms + self._vms(of_nodes=False)

    @property
    def identities(self) -> int:
        """Number of running nodes, as on the bank's card."""
        card: Mapping[str, Any] = self.plan.outputs[CARD_OUTPUT]
        return len(card["nodes"])

    @property
    def peers(self) -> int:
        """Number of linked members."""
        return len(self.plan.outputs[PEER_CARDS_OUTPUT])

    @cached_property
    def operations(self) -> Operations:
        """Requests of the agents, by their intervals."""
        seconds = self.usage.hours * _HOUR_SECONDS
        standbys = max(0, self.node_vms - self.identities)
        rounds = (self.vms - self.node_vms) / AUTHORITY_ROUND_SECONDS
        return Operations(
            renewals=seconds * (self.identities / LEASE.renew_seconds + self.node_vms / STANDBY.presence_seconds),
            # The more standbys, the longer each waits: together they look once in `poll_seconds`.
            lists=seconds
            * (
                bool(standbys) / (STANDBY.poll_seconds * mean(STANDBY.poll_spread))
                + standbys / STANDBY.count_seconds
                + self.node_vms / STANDBY.documents_seconds
                + _LISTS_A_ROUND * rounds
            ),
            reads=seconds * _READS_A_ROUND * rounds,
            # Each request to a vault is a row of its audit.
            secrets=seconds / DAY * volumes(self.senders)[TABLES[LogCategory.AUDIT_EVENT]].rows,
        )

    @property
    def log_gb(self) -> float:
        """GB that Log Analytics ingests, less if VMs do not run all month."""
        if self.usage.log_gb is not None:
            return self.usage.log_gb
        return gb_a_month(self.senders) * self.usage.hours / HOURS

    @cached_property
    def metrics_share(self) -> float:
        """The part of the ingested logs that is in Application Insights' tables."""
        return volumes(self.senders)["AppMetrics"].gb_a_month / gb_a_month(self.senders)

    @property
    def link_gb(self) -> float:
        """GB a month over the VPN gateway; every peer, one over a circuit too, gets the same amount."""
        if self.usage.link_gb is not None:
            return self.usage.link_gb
        return self.usage.transactions * _TRANSACTION_BYTES * self.vpn_peers / max(1, self.peers) / _GB

    def connection_gb(self, connection: Planned) -> float:
        """GB over one of the VPN gateway's connections: each peer gets as much, over all of its connections."""
        beside = sum(each.parent == connection.parent for each in self.connections)
        return self.link_gb / self.vpn_peers / beside

    @property
    def egress_gb(self) -> float:
        """GB through the NAT gateway: telemetry and downloads of VMs."""
        if self.usage.egress_gb is not None:
            return self.usage.egress_gb
        return self.vms * _UPDATES_GB

    @property
    def balancer_gb(self) -> float:
        """GB through the load balancers: each transaction comes from an application or a peer."""
        if self.usage.balancer_gb is not None:
            return self.usage.balancer_gb
        return self.usage.transactions * _TRANSACTION_BYTES / _GB

    @property
    def endpoint_gb(self) -> float:
        """GB through all private endpoints: requests, and each transaction to the share's journals."""
        if self.usage.endpoint_gb is not None:
            return self.usage.endpoint_gb
        asked = self.operations
        requests = (asked.renewals + asked.lists + asked.reads + asked.secrets) * _OPERATION_BYTES
        return (requests + self.usage.transactions * _TRANSACTION_BYTES) / _GB
