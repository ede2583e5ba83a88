"""One member's configuration as one validated, typed object. Read once, before anything is registered."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args
from uuid import UUID

import pulumi
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from cryptography.x509 import load_pem_x509_certificates
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ledger.platform import AGENT_USER, AuthorityNeeds, Platform, identity_name
from ledger.platforms import PLATFORMS
from membership import Asn, IpsecPolicy, KeyGenerations, LinkKind, MemberName, PrivateSpace
from regions import REGIONS, Region

LOCATION_KEY = "azure-native:location"
EXPRESS_ROUTE_KEY = "expressRouteAuthorizationKey"
"""Configuration key of the circuit's authorization key; a key of its own, since Pulumi encrypts whole keys."""


class SettingsError(ValueError):
    """The configuration is wrong. The message has one line a mistake: key, value, what was wanted."""


class Size(StrEnum):
    """The three sizes of the reference scenario."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class HighAvailability(StrEnum):
    """Where the database's server has its standby, in Azure's words."""

    ZONE_REDUNDANT = "ZoneRedundant"
    SAME_ZONE = "SameZone"
    DISABLED = "Disabled"


@dataclass(frozen=True)
class SizeProfile:
    """What a size stands for, where the configuration says nothing else."""

    count: int
    """Node VMs."""
    monitoring: bool
    vm_size: str
    database_high_availability: HighAvailability
    needs_zones: bool


# Counts and monitoring: learn.microsoft.com/azure/architecture/example-scenario/apps/decentralized-trust.
# VM sizes: a Corda node takes about 1 GiB of heap and wants more than 4 GiB of memory in its VM.
SIZES: dict[Size, SizeProfile] = {
    Size.SMALL: SizeProfile(
        count=2,
        monitoring=False,
        vm_size="Standard_D2s_v5",
        database_high_availability=HighAvailability.DISABLED,
        needs_zones=False,
    ),
    Size.MEDIUM: SizeProfile(
        count=7,
        monitoring=True,
        vm_size="Standard_D4s_v5",
        database_high_availability=HighAvailability.ZONE_REDUNDANT,
        needs_zones=True,
    ),
    Size.LARGE: SizeProfile(
        count=15,
        monitoring=True,
        vm_size="Standard_D4s_v5",
        database_high_availability=HighAvailability.ZONE_REDUNDANT,
        needs_zones=True,
    ),
}

MIN_NODES, MAX_NODES = 2, 15
"""Node VMs of one member; 2 to 15 was the reach of the scenario's first template."""


class GatewaySku(StrEnum):
    """VPN gateway SKUs that can still be created: the zone-redundant ones."""

    VPN_GW1AZ = "VpnGw1AZ"
    VPN_GW2AZ = "VpnGw2AZ"
    VPN_GW3AZ = "VpnGw3AZ"
    VPN_GW4AZ = "VpnGw4AZ"
    VPN_GW5AZ = "VpnGw5AZ"

    @property
    def max_connections(self) -> int:
        """Site-to-site and VNet-to-VNet connections, learn.microsoft.com/azure/vpn-gateway/about-gateway-skus."""
        return 100 if self in (GatewaySku.VPN_GW4AZ, GatewaySku.VPN_GW5AZ) else 30


CONNECTIONS: dict[LinkKind, int] = {LinkKind.VNET_TO_VNET: 1, LinkKind.IPSEC: 2, LinkKind.EXPRESS_ROUTE: 0}
"""Connections of our gateway that one link takes: over IPsec one to each instance of an active-active peer."""
TUNNELS: dict[LinkKind, int] = {LinkKind.VNET_TO_VNET: 2, LinkKind.IPSEC: 4, LinkKind.EXPRESS_ROUTE: 0}
"""Tunnels of one link between two active-active gateways."""


def _ssh_public_key(text: str) -> str:
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("wanted an OpenSSH public key, ssh-ed25519 or ssh-rsa") from error
    if isinstance(key, Ed25519PublicKey) or (isinstance(key, RSAPublicKey) and key.key_size >= 3072):
        return text.strip()
    raise ValueError("wanted ssh-ed25519, or ssh-rsa of 3072 bits or more")


def _application_network(network: IPv4Network) -> IPv4Network:
    if network.prefixlen < 8:
        raise ValueError("wanted a /8 or smaller: RPC is for the bank's own applications, not for everyone")
    return network


def _certificate(path: Path) -> Path:
    try:
        found = len(load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError):
        found = 0
    if found != 1:
        raise ValueError(f"{found} certificates in it; wanted a PEM file with the network's root certificate alone")
    return path


_T = TypeVar("_T")


def _unique(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if twice := sorted({str(value) for value in values if values.count(value) > 1}):
        raise ValueError(f"wanted each once; more than once: {', '.join(twice)}")
    return values


Pin = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
# Without a user, since whoever is on a VM reads it; on the one port that security rules let nodes reach.
HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://[^\s/:@?#]+(:443)?(/[^\s?#]*)?$")]


class _Section(BaseModel):
    """One object of the configuration: camelCase keys, none that is not declared."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True)


class Bank(_Section):
    """Who this member is in the consortium."""

    name: MemberName = Field(
        description="unique in the consortium; lower-case letters, digits and hyphens, 24 at most"
    )
    legal_name: str = Field(description="X.500 name with O, L and C; each node adds an OU of its own")
    asn: Asn = Field(description="private BGP autonomous system number, unique in the consortium")


class Image(_Section):
    """Where the node VMs' disk comes from."""

    id: Annotated[str, StringConstraints(pattern=r"^/subscriptions/.+/images/.+")] = Field(
        description="resource id of an image, or of an image version of a compute gallery"
    )


class Nodes(_Section):
    """The node VMs."""

    count: Annotated[int, Field(ge=MIN_NODES, le=MAX_NODES)] | None = Field(
        None, description=f"VMs, {MIN_NODES} to {MAX_NODES}; as the size says where it is not set"
    )
    standby: Annotated[int, Field(ge=0)] = Field(
        1, description="VMs of `count` that wait for an identity to become free"
    )
    vm_size: Annotated[str, StringConstraints(pattern=r"^Standard_[A-Za-z0-9_]+$")] | None = Field(
        None, description="Azure VM size; as the size says where it is not set"
    )
    image: Image | None = Field(
        None, description="`{id}` of a prepared image; without it Ubuntu 24.04 LTS, set up by cloud-init"
    )
    ssh_public_key: Annotated[str, AfterValidator(_ssh_public_key)] = Field(
        description="OpenSSH public key of the administrator: ssh-ed25519, or ssh-rsa of 3072 bits or more"
    )
    encryption_at_host: bool = Field(
        True,
        description="encrypts disks and caches on the host; the subscription must have the feature registered",
    )


class Peer(_Section):
    """One other member that this one is linked to, and whose stack is up."""

    name: MemberName = Field(description="the peer's `bank.name`")
    stack: Annotated[str, StringConstraints(pattern=r"^[^/\s]+/[^/\s]+/[^/\s]+$")] | None = Field(
        None, description="`organization/project/stack` whose output `member` is the peer's card"
    )
    card: FilePath | None = Field(None, description="JSON file with the peer's card, instead of `stack`")
    link: LinkKind | None = Field(
        None,
        description="`vnet-to-vnet` (default in one Entra tenant), `ipsec` (default across tenants), `express-route`",
    )
    fingerprint: Pin | None = Field(
        None, description="`sha256:` and 64 hex digits of the peer's signing key; required with `card`"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.stack is None) == (self.card is None):
            raise ValueError("wanted either `stack` or `card`")
        if self.card is not None and self.fingerprint is None:
            raise ValueError("a card from a file has no `fingerprint`; wanted the one that the peer told you")
        return self


class LinkPolicy(IpsecPolicy):
    """The policy of all links, where the default can't be."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


class Vpn(_Section):
    """The VPN gateway."""

    sku: GatewaySku = Field(
        GatewaySku.VPN_GW1AZ,
        description="gateway SKU; 30 connections up to VpnGw3AZ, 100 from VpnGw4AZ on. From VpnGw1AZ to another, or "
        "back, is a new gateway with new addresses: who may grow begins with VpnGw2AZ",
    )
    ipsec_policy: LinkPolicy = Field(LinkPolicy(), description="IKEv2 and IPsec proposal, the same on both sides")


class ExpressRoute(_Section):
    """The bank's ExpressRoute circuit."""

    circuit_id: Annotated[
        str,
        StringConstraints(pattern=r"^/subscriptions/.+/providers/Microsoft\.Network/expressRouteCircuits/[^/]+$"),
    ] = Field(description="resource id of the circuit")


class Connectivity(_Section):
    """How the member reaches its peers."""

    vpn: Vpn | None = Field(None, description="VPN gateway `{sku, ipsecPolicy}`; the default")
    express_route: ExpressRoute | None = Field(
        None,
        description=f"`{{circuitId}}`, besides or instead of `vpn`; wants the secret `{EXPRESS_ROUTE_KEY}`",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.vpn is None and self.express_route is None:
            raise ValueError("wanted `vpn`, `expressRoute` or both")
        return self


class Artifact(_Section):
    """A file of a Maven repository."""

    coordinates: Annotated[str, StringConstraints(pattern=r"^[\w.-]+:[\w.-]+:[\w.-]+$")] = Field(
        description="`GROUP:NAME:VERSION` in a Maven repository"
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="of the file: 64 hex digits; a VM takes no other"
    )


class RpcUser(_Section):
    """One of the bank's applications, as its nodes know it."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")] = Field(
        description=f"unique; letters, digits and `_`, a letter first, 32 at most; `{AGENT_USER}` is the agent's"
    )
    permissions: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        description="what it may do, in the platform's words, such as `StartFlow.com.bank.credit.Report` or "
        "`InvokeRpc.nodeInfo`"
    )


class Approval(StrEnum):
    """Who says yes to a request for a certificate that proves the member and names one of its nodes."""

    MANUAL = "manual"
    AUTO = "auto"


class Zone(_Section):
    """A network that others run."""

    registration_url: HttpsUrl = Field(
        description="`https://` URL, port 443, without a user, of its registration service"
    )
    network_map_url: HttpsUrl = Field(description="`https://` URL, port 443, without a user, of its network map")
    trust_root: Annotated[FilePath, AfterValidator(_certificate)] = Field(
        description="PEM file with its root certificate"
    )


class Network(_Section):
    """Who certifies the names of the ledger's network."""

    authority: MemberName | None = Field(
        None, description="the member that certifies names: this one, or one of `peers`"
    )
    zone: Zone | None = Field(
        None,
        description="a network that others run, instead: `{registrationUrl, networkMapUrl, trustRoot}`",
    )
    trust_root: Pin | None = Field(
        None,
        description="pins the network's root certificate: `sha256:` and 64 hex digits over its DER; without it the "
        "first one that the authority proves to be its own is kept",
    )
    document: Pin | None = Field(
        None, description="pins the network's shared document: `sha256:` and 64 hex digits over the file"
    )
    # By hand unless the bank says otherwise: a certified name has a voice in the network, and taking it back is work.
    approval: Approval = Field(
        Approval.MANUAL,
        description="of the own authority: `auto` certifies each name that stands on the asking member's card, "
        "`manual` asks a person first",
    )
    notaries: Annotated[tuple[str, ...], AfterValidator(_unique)] = Field(
        (),
        description="of the own authority: legal names of the notaries; none means all own identities of that role",
    )
    # The next four as Corda's own bootstrapper has them, but the first: what the oldest supported release has.
    minimum_platform_version: Annotated[int, Field(ge=1)] = Field(
        10, description="of the own authority: nodes of an older platform version take no part"
    )
    max_message_bytes: Annotated[int, Field(ge=65_536, le=104_857_600)] = Field(
        10_485_760, description="of the own authority: largest message between nodes, 65536 to 104857600"
    )
    max_transaction_bytes: Annotated[int, Field(ge=65_536, le=2_147_483_647)] = Field(
        524_288_000, description="of the own authority: largest transaction with its attachments, 65536 or more"
    )
    event_horizon_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="of the own authority: days after which a silent node is forgotten, 1 to 3650"
    )

    @model_validator(mode="after")
    def _one_kind(self, info: ValidationInfo) -> Self:
        if (self.authority is None) == (self.zone is None):
            raise ValueError("wanted either `authority` or `zone`")
        member = (info.context or {}).get("member")
        stated = {str(type(self).model_fields[name].alias): name for name in self.model_fields_set}
        if self.zone is not None:
            if useless := sorted(set(stated) - {"zone"}):
                raise ValueError(f"{', '.join(useless)} beside `zone`; wanted none: the zone says it")
        elif self.authority != member and (
            useless := sorted(key for key, name in stated.items() if name in _OF_THE_OWN_AUTHORITY)
        ):
            raise ValueError(
                f"{', '.join(useless)} of {self.authority}'s network; wanted none: {self.authority} says it"
            )
        if self.max_message_bytes > self.max_transaction_bytes:
            raise ValueError("maxMessageBytes exceeds maxTransactionBytes; wanted it no larger")
        return self


_OF_THE_OWN_AUTHORITY = frozenset(
    {
        "approval",
        "notaries",
        "minimum_platform_version",
        "max_message_bytes",
        "max_transaction_bytes",
        "event_horizon_days",
    }
)


class Ledger(_Section):
    """The ledger software, and its network."""

    platform: str = Field("corda", description="ledger platform")
    version: str | None = Field(None, description="version of the platform; the platform's default if not set")
    artifact: Artifact | None = Field(
        None, description="`{coordinates, sha256}` of the software itself, where it is not the platform's default"
    )
    repository: HttpsUrl | None = Field(
        None,
        description="`https://` URL, port 443, without a user, of the Maven repository; "
        "what the VM's Maven is set up for, if not set",
    )
    applications: tuple[Artifact, ...] = Field(
        (), description="what the bank runs on its nodes: `{coordinates, sha256}` each"
    )
    roles: dict[str, str] = Field(
        {}, description="what an identity is, where it is not the platform's first role: `{node-1: notary}`"
    )
    rpc_users: tuple[RpcUser, ...] = Field(
        (),
        description="the bank's applications: `{name, permissions}`; their passwords are made, and lie in the vault",
    )
    network: Network | None = Field(
        None, description="who certifies names; without it the nodes wait: `{authority, ...}` or `{zone}`"
    )

    @field_validator("platform")
    @classmethod
    def _known_platform(cls, name: str) -> str:
        if name not in PLATFORMS:
            raise ValueError(f"wanted one of {', '.join(PLATFORMS)}")
        return name

    @field_validator("applications")
    @classmethod
    def _each_once(cls, applications: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
        _unique(tuple(each.coordinates for each in applications))
        return applications

    @field_validator("roles")
    @classmethod
    def _known_roles(cls, roles: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if "platform" in info.data:
            for identity, role in roles.items():
                try:
                    PLATFORMS[info.data["platform"]].role(role)
                except ValueError as error:
                    raise ValueError(f"{identity}: {error}") from error
        return roles

    @field_validator("rpc_users")
    @classmethod
    def _known_permissions(cls, users: tuple[RpcUser, ...], info: ValidationInfo) -> tuple[RpcUser, ...]:
        names = _unique(tuple(user.name for user in users))
        if AGENT_USER in names:
            raise ValueError(f"{AGENT_USER} is the agent's own; wanted other names")
        if "platform" in info.data:
            for user in users:
                for permission in user.permissions:
                    try:
                        PLATFORMS[info.data["platform"]].check_permission(permission)
                    except ValueError as error:
                        raise ValueError(f"permissions of {user.name}: {error}") from error
        return users

    @field_validator("network")
    @classmethod
    def _certified_by_a_member(cls, network: Network | None, info: ValidationInfo) -> Network | None:
        platform = PLATFORMS.get(info.data.get("platform", ""))
        if network and network.authority and platform and platform.authority is None:
            raise ValueError(f"no member certifies names of {platform.name}; wanted no `authority`")
        return network

    @model_validator(mode="after")
    def _known_version(self) -> Self:
        versions = PLATFORMS[self.platform].versions
        if self.version is not None and self.version not in versions:
            raise ValueError(f"version is {self.version}; wanted one of {', '.join(versions)}")
        return self


class Alerts(_Section):
    """Who hears of alerts."""

    emails: tuple[Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")], ...] = Field(
        (), description="addresses that get each alert"
    )


class KeyVault(_Section):
    """What protects the vault's deleted objects."""

    purge_protection: bool = Field(
        True, description="nobody can purge what is deleted before its time; can't be switched off again"
    )
    soft_delete_days: Annotated[int, Field(ge=7, le=90)] = Field(
        90, description="days that deleted objects can be restored, 7 to 90; fixed when the vault is made"
    )


class Database(_Section):
    """What of the database's server a region may refuse."""

    high_availability: HighAvailability | None = Field(
        None,
        description="where the server has its standby: `ZoneRedundant`, `SameZone` or `Disabled`; as the size says "
        "where it is not set",
    )
    geo_redundant_backup: bool | None = Field(
        None,
        description="backups in the paired region too; where it is not set, wherever there is one; fixed when the "
        "server is made",
    )


class Settings(_Section):
    """One member's configuration. Each field is a configuration key of the project."""

    location: str = Field(alias=LOCATION_KEY, description="Azure region")
    size: Size = Field(description="`small`, `medium` or `large`: 2, 7 or 15 VMs; monitoring off, on, on")
    nodes: Nodes = Field(
        description="the node VMs: `{count, standby, vmSize, image, sshPublicKey, encryptionAtHost}`"
    )
    ledger: Ledger = Field(
        Ledger(),
        description="the ledger software and its network: `{platform, version, artifact, repository, applications, "
        "roles, rpcUsers, network}`",
    )
    bank: Bank = Field(description="who this member is: `{name, legalName, asn}`")
    address_space: PrivateSpace = Field(description="the member's private IPv4 range, /16 to /22")
    connectivity: Connectivity = Field(
        Connectivity(vpn=Vpn()), description="how the member reaches its peers: `{vpn, expressRoute}`"
    )
    gateway_readers: Annotated[tuple[UUID, ...], AfterValidator(_unique)] = Field(
        (),
        description="object ids of the service principals that deploy peers' halves of `vnet-to-vnet` links: "
        "they may read our gateway, which Azure checks; listed before that peer joins",
    )
    express_route_authorization_key: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None, validate_default=True, description="secret: authorization key of the ExpressRoute circuit"
    )
    peers: tuple[Peer, ...] = Field(
        (),
        validate_default=True,
        description="the members to link to: `{name, stack or card, link, fingerprint}`",
    )
    application_networks: Annotated[
        tuple[Annotated[IPv4Network, AfterValidator(_application_network)], ...], AfterValidator(_unique)
    ] = Field((), description="CIDRs of the bank's own applications: RPC, and HTTPS to the private endpoints")
    operators: Annotated[tuple[UUID, ...], AfterValidator(_unique)] = Field(
        (),
        description="object ids of the Entra groups that may read the applications' passwords, the nodes' "
        "certificates and logs",
    )
    alerts: Alerts = Field(Alerts(), description="who hears of alerts: `{emails}`")
    tags: dict[str, str] = Field({}, description="tags for every resource that takes them, for example a cost centre")
    database: Database = Field(
        Database(), description="the database's server: `{highAvailability, geoRedundantBackup}`"
    )
    key_vault: KeyVault = Field(KeyVault(), description="`{purgeProtection, softDeleteDays}`")
    key_generations: KeyGenerations = Field(
        KeyGenerations(), description="`{link, signing}`: raised by one to make a new key pair"
    )
    deletion_protection: bool = Field(
        True,
        description="protects what can't be made again: vaults, an authority's keys, storage with its containers and "
        "share, database, gateway and its addresses",
    )

    @field_validator("location")
    @classmethod
    def _known_region(cls, name: str) -> str:
        if name not in REGIONS:
            near = get_close_matches(name.lower().replace(" ", ""), REGIONS, n=1, cutoff=0.6)
            hint = f" such as {near[0]}" if near else f": {', '.join(sorted(REGIONS))}"
            raise ValueError(f"wanted the name of a public Azure region{hint}")
        return name

    @field_validator("bank")
    @classmethod
    def _legal_name_of_platform(cls, bank: Bank, info: ValidationInfo) -> Bank:
        ledger = info.data.get("ledger")
        if ledger is None:
            return bank
        try:
            legal_name = PLATFORMS[ledger.platform].check_legal_name(bank.legal_name)
        except ValueError as error:
            raise ValueError(f"legalName: {error}") from error
        return bank.model_copy(update={"legal_name": legal_name})

    @field_validator("size")
    @classmethod
    def _region_can(cls, size: Size, info: ValidationInfo) -> Size:
        location = info.data.get("location")
        if location and SIZES[size].needs_zones and not REGIONS[location].zones:
            raise ValueError(
                f"it needs availability zones, which {location} does not have; wanted {Size.SMALL}, "
                f"or a region with zones"
            )
        return size

    @field_validator("nodes")
    @classmethod
    def _someone_runs(cls, nodes: Nodes, info: ValidationInfo) -> Nodes:
        size = info.data.get("size")
        count = nodes.count or (SIZES[size].count if size else MAX_NODES)
        if nodes.standby >= count:
            raise ValueError(f"standby is {nodes.standby} of {count} VMs; wanted at least one that runs a node")
        return nodes

    @field_validator("ledger")
    @classmethod
    def _ordered(cls, ledger: Ledger, info: ValidationInfo) -> Ledger:
        nodes, size = info.data.get("nodes"), info.data.get("size")
        if nodes and size:
            running = [identity_name(index) for index in range((nodes.count or SIZES[size].count) - nodes.standby)]
            if unknown := sorted(set(ledger.roles) - set(running)):
                raise ValueError(
                    f"roles of {', '.join(unknown)}; wanted identities that there are, {running[0]} to {running[-1]}"
                )
        platform = PLATFORMS[ledger.platform]
        chosen = ledger.version not in (None, platform.default_version)
        if nodes and chosen and platform.install and ledger.artifact is None and nodes.image is None:
            raise ValueError(
                f"version {ledger.version} has no `artifact`; wanted its coordinates and SHA-256, or `nodes.image`"
            )
        needs, network = platform.authority, ledger.network
        own = network is not None and network.authority == (info.context or {}).get("member")
        if needs and network and own and not network.notaries and needs.notary_role not in ledger.roles.values():
            raise ValueError(
                f"the own network has no notary; wanted `roles` with a {needs.notary_role}, or `network.notaries`"
            )
        return ledger

    @field_validator("database")
    @classmethod
    def _region_takes(cls, database: Database, info: ValidationInfo) -> Database:
        location = info.data.get("location")
        if location and database.geo_redundant_backup and REGIONS[location].pair is None:
            raise ValueError(f"geoRedundantBackup is true, and {location} has no paired region; wanted false")
        if location and database.high_availability is HighAvailability.ZONE_REDUNDANT and not REGIONS[location].zones:
            raise ValueError(
                f"highAvailability is {HighAvailability.ZONE_REDUNDANT}, and {location} has no availability zones; "
                f"wanted {HighAvailability.SAME_ZONE} or {HighAvailability.DISABLED}"
            )
        return database

    @field_validator("gateway_readers")
    @classmethod
    def _gateway_to_read(cls, readers: tuple[UUID, ...], info: ValidationInfo) -> tuple[UUID, ...]:
        connectivity = info.data.get("connectivity")
        if readers and connectivity is not None and connectivity.vpn is None:
            raise ValueError("there is no VPN gateway to read; wanted `connectivity.vpn`, or no readers")
        return readers

    @field_validator("express_route_authorization_key")
    @classmethod
    def _circuit_opens(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        connectivity = info.data.get("connectivity")
        wanted = connectivity is not None and connectivity.express_route is not None
        secret = EXPRESS_ROUTE_KEY in (info.context or {}).get("secret_keys", ())
        if wanted and key is None:
            raise ValueError(f"not set; wanted `pulumi config set --secret {EXPRESS_ROUTE_KEY}` for the circuit")
        if key is not None and connectivity is not None and not wanted:
            raise ValueError("set, but `connectivity.expressRoute` is not; wanted both or neither")
        if key is not None and not secret:
            raise ValueError("stands in clear; wanted it encrypted: `pulumi config set --secret`")
        return key

    @field_validator("peers")
    @classmethod
    def _linkable(cls, peers: tuple[Peer, ...], info: ValidationInfo) -> tuple[Peer, ...]:
        mistakes = []
        names = [peer.name for peer in peers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            mistakes.append(f"wanted each peer once; more than once: {', '.join(twice)}")
        bank, connectivity = info.data.get("bank"), info.data.get("connectivity")
        ledger = info.data.get("ledger")
        if bank and bank.name in names:
            mistakes.append(f"{bank.name} is this member itself; wanted other members only")
        authority = ledger.network.authority if ledger and ledger.network else None
        if bank and authority not in (None, bank.name, *names):
            mistakes.append(f"`ledger.network.authority` is {authority}; wanted it listed, or {bank.name} itself")
        if connectivity:
            mistakes.extend(_unlinkable(peers, connectivity))
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return peers

    @property
    def profile(self) -> SizeProfile:
        """What the size stands for."""
        return SIZES[self.size]

    @property
    def region(self) -> Region:
        """What the member's region offers."""
        return REGIONS[self.location]

    @property
    def platform(self) -> Platform:
        """The ledger platform."""
        return PLATFORMS[self.ledger.platform]

    @property
    def ledger_version(self) -> str:
        """Version of the ledger platform."""
        return self.ledger.version or self.platform.default_version

    @property
    def is_authority(self) -> bool:
        """Whether this member certifies the network's names."""
        return self.ledger.network is not None and self.ledger.network.authority == self.bank.name

    @property
    def authority_needs(self) -> AuthorityNeeds | None:
        """What this member's network authority needs; None where it is none."""
        return self.platform.authority if self.is_authority else None

    @property
    def node_count(self) -> int:
        """Node VMs, standbys among them."""
        return self.nodes.count or self.profile.count

    @property
    def identity_count(self) -> int:
        """Ledger nodes that run at one time."""
        return self.node_count - self.nodes.standby

    @property
    def vm_size(self) -> str:
        """Azure VM size of the node VMs."""
        return self.nodes.vm_size or self.profile.vm_size

    @property
    def database_high_availability(self) -> HighAvailability:
        """Where the database's server has its standby."""
        return self.database.high_availability or self.profile.database_high_availability

    @property
    def geo_redundant_backup(self) -> bool:
        """Whether the database's backups lie in the paired region too."""
        chosen = self.database.geo_redundant_backup
        return self.region.pair is not None if chosen is None else chosen


def _unlinkable(peers: tuple[Peer, ...], connectivity: Connectivity) -> list[str]:
    mistakes = [
        f"the link to {peer.name} is {peer.link}; wanted `connectivity.{key}` for it"
        for peer in peers
        if peer.link is not None
        for key, there in (
            ("expressRoute", connectivity.express_route)
            if peer.link is LinkKind.EXPRESS_ROUTE
            else ("vpn", connectivity.vpn),
        )
        if there is None
    ]
    if connectivity.vpn:
        # A link whose kind the card decides takes at least as many as VNet-to-VNet.
        links = [peer.link or LinkKind.VNET_TO_VNET for peer in peers]
        mistakes.extend(over_budget(links, connectivity.vpn.sku))
    return mistakes


def over_budget(links: Iterable[LinkKind], sku: GatewaySku) -> list[str]:
    """What is wrong with so many links for a gateway: one sentence, or nothing."""
    connections = sum(CONNECTIONS[link] for link in links)
    if connections <= sku.max_connections:
        return []
    return [f"the links take {connections} connections; wanted {sku.max_connections} at most with {sku}"]


def parse_settings(project: str, values: Mapping[str, str], secret_keys: frozenset[str] = frozenset()) -> Settings:
    """One member's settings from the stack's configuration.

    Args:
        project: the project's name, the namespace of its keys.
        values: every key of the stack with its namespace; objects and lists as JSON.
        secret_keys: the keys, with their namespace, that are encrypted in the stack's file.

    Raises:
        SettingsError: with one line for each mistake; no secret value stands in it.
    """
    namespace = f"{project}:"
    known = {
        key if key == LOCATION_KEY else key.removeprefix(namespace): _decode(text)
        for key, text in values.items()
        if key == LOCATION_KEY or key.startswith(namespace)
    }
    secret = frozenset(key.removeprefix(namespace) for key in secret_keys)
    try:
        return Settings.model_validate(known, context={"secret_keys": secret, "member": _name(known.get("bank"))})
    except ValidationError as error:
        lines = [_line(namespace, each, secret) for each in error.errors(include_url=False)]
    # Raised outside of the handler: pydantic's own report would show the values of secrets.
    raise SettingsError("\n".join(lines))


def _name(bank: object) -> object:
    """The member's name, for checks that come before its own."""
    return bank.get("name") if isinstance(bank, dict) else None


def _decode(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _line(namespace: str, error: ErrorDetails, secret: frozenset[str]) -> str:
    steps = error["loc"]
    # pydantic names a default that it validates by the field's Python name
    field = Settings.model_fields.get(str(steps[0]))
    steps = (str(field.alias), *steps[1:]) if field else steps
    top = str(steps[0])
    path = top + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps[1:])
    key = path if top == LOCATION_KEY else f"{namespace}{path}"
    if error["type"] == "extra_forbidden":
        siblings = ", ".join(sorted(_keys(steps[:-1])))
        return f"{key}: unknown key; wanted one of {siblings}"
    if error["type"] == "missing":
        return f"{key}: not set; wanted {_description(steps)}"
    shown = "[secret]" if top in secret or top == EXPRESS_ROUTE_KEY else _short(error["input"])
    if top in secret and top != EXPRESS_ROUTE_KEY:
        return f"{key}: [secret]: wanted {_description(steps)}"
    if steps[-1] == "sshPublicKey" and "PRIVATE KEY" in shown:
        shown = "[a private key]"
    return f"{key}: {shown}: {_wanted(error, steps)}"


def _wanted(error: ErrorDetails, steps: tuple[int | str, ...]) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "enum" | "literal_error":
            return f"wanted one of {context['expected']}"
        case "path_not_file":
            return f"no such file; wanted the path of a {_description(steps)}"
        case "ip_v4_network":
            return "wanted an IPv4 network such as 10.20.0.0/16, without host bits"
        case "string_pattern_mismatch" | "string_too_long":
            return f"wanted {_description(steps)}"
        case _:
            return f"{error['msg'].lower()}; wanted {_description(steps)}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _models(steps: tuple[int | str, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The section that a path of keys lies in, and the field that it ends at, if there is one."""
    model: type[BaseModel] = Settings
    field: FieldInfo | None = None
    for step in steps:
        if isinstance(step, int):
            continue
        field = next((each for each in model.model_fields.values() if each.alias == step), None)
        if field is None:
            break
        section = section_of(field)
        if not section:
            break
        model = section[0]
    return model, field


def section_of(field: FieldInfo) -> list[type[BaseModel]]:
    """The section that a field holds, alone or in a list; empty where it holds a plain value."""

    def search(annotation: object) -> list[type[BaseModel]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return [annotation]
        return [found for argument in get_args(annotation) for found in search(argument)]

    return search(field.annotation)


def _keys(steps: tuple[int | str, ...]) -> list[str]:
    return [str(field.alias) for field in _models(steps)[0].model_fields.values()]


def _description(steps: tuple[int | str, ...]) -> str:
    field = _models(steps)[1]
    return (field.description if field and field.description else "another value").replace("`", "")


def load_settings() -> Settings:
    """The settings of the stack that the program runs for.

    Raises:
        RunError: the configuration is wrong; Pulumi prints it as one message, before anything is registered.
    """
    # Pulumi has no public call that lists the keys, and an unknown key must not go unseen.
    values = {**get_config_env(), **CONFIG.get()}
    try:
        return parse_settings(pulumi.get_project(), values, frozenset(key for key in values if is_config_secret(key)))
    except SettingsError as error:
        message = f"the configuration of stack {pulumi.get_stack()} can't be used:\n{error}"
    raise pulumi.RunError(message)
