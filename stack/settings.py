"""One member's configuration as one validated, typed object. Read once, before anything is registered."""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import pulumi
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import BasicConstraints, Certificate, load_pem_x509_certificates
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    Strict,
    StrictBool,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, from_json

from components.key_store import RPC_PASSWORD_LENGTH
from components.ledger_database import check_sku, general_purpose_sku, vcores, vcores_of
from components.ledger_storage import SHARE_GIB
from contract.addresses import is_public
from contract.artifacts import Artifact
from contract.authority_configuration import Approval
from contract.card import (
    COEXISTENCE_ASN,
    MAX_COUNTER,
    Asn,
    IpsecPolicy,
    KeyGenerations,
    LinkKind,
    MemberName,
    PrivateSpace,
)
from contract.frontend import ApplicationPorts
from contract.identities import identity_name
from contract.key_document import MAX_SECRET_BYTES
from contract.legal_name import LegalName, LegalNameText, name_key
from contract.messages import one_line
from contract.platform import AGENT_USER, MAX_CA_GENERATION, MAX_IDENTITIES, AuthorityNeeds, Platform
from contract.secrets import RpcUser
from contract.vm_configuration import Zone
from ledger import PLATFORMS
from stack.azure_values import (
    MAX_APPLICATION_NETWORKS,
    MAX_TAGS,
    MIN_RSA_BITS,
    SUBSCRIPTION,
    check_application_network,
    check_circuit_id,
    check_image_id,
    check_ssh_public_key,
    check_vm_size,
    wrong_tags,
)
from stack.mistakes import (
    NO_FILE,
    Flaw,
    FlawsError,
    Form,
    Mistake,
    each_once,
    form_of,
    mistakes_of,
    nulls_of,
    refuse,
    repeated,
)
from stack.regions import REGIONS, Region, ServerOffer

LOCATION_KEY = "azure-native:location"
SUBSCRIPTION_KEY, TENANT_KEY = "azure-native:subscriptionId", "azure-native:tenantId"
EXPRESS_ROUTE_KEY = "expressRouteAuthorizationKey"
"""Configuration key of the circuit's authorization key; a separate key, since Pulumi encrypts whole keys."""


class SettingsError(ValueError):
    """The configuration is wrong. The message has one line a mistake: key, value, what was wanted."""


class Size(StrEnum):
    """The three sizes of the reference scenario."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class HighAvailability(StrEnum):
    """Place of the database server's standby, in Azure's words."""

    ZONE_REDUNDANT = "ZoneRedundant"
    SAME_ZONE = "SameZone"
    DISABLED = "Disabled"


@dataclass(frozen=True)
class SizeProfile:
    """The defaults of a size."""

    count: int
    """Node VMs."""
    monitoring: bool
    vm_size: str
    database_high_availability: HighAvailability
    needs_zones: bool


# Counts and monitoring: learn.microsoft.com/azure/architecture/example-scenario/apps/decentralized-trust.
# VM sizes: a Corda node takes about 1 GiB of heap and needs more than 4 GiB of memory in its VM. AMD's VMs are a
# tenth cheaper than Intel's with the same vCPUs, memory and disks.
SIZES: dict[Size, SizeProfile] = {
    Size.SMALL: SizeProfile(
        count=2,
        monitoring=False,
        vm_size="Standard_D2as_v5",
        database_high_availability=HighAvailability.DISABLED,
        needs_zones=False,
    ),
    Size.MEDIUM: SizeProfile(
        count=7,
        monitoring=True,
        vm_size="Standard_D4as_v5",
        database_high_availability=HighAvailability.ZONE_REDUNDANT,
        needs_zones=True,
    ),
    Size.LARGE: SizeProfile(
        count=15,
        monitoring=True,
        vm_size="Standard_D4as_v5",
        database_high_availability=HighAvailability.ZONE_REDUNDANT,
        needs_zones=True,
    ),
}
"""The defaults by size."""

MIN_VMS, MAX_VMS = 2, 15
"""Node VMs of one member; the scenario's first template had 2 to 15."""


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


CONNECTIONS_OF_LINK: dict[LinkKind, int] = {LinkKind.VNET_TO_VNET: 1, LinkKind.IPSEC: 2, LinkKind.EXPRESS_ROUTE: 0}
"""Connections of our gateway that one link takes: over IPsec one to each instance of an active-active peer."""
TUNNELS_OF_LINK: dict[LinkKind, int] = {LinkKind.VNET_TO_VNET: 4, LinkKind.IPSEC: 4, LinkKind.EXPRESS_ROUTE: 0}
"""Tunnels of one link between two active-active gateways: from each instance of one to each of the other, of whatever
kind the link is, learn.microsoft.com/azure/vpn-gateway/vpn-gateway-highlyavailable."""
TUNNELS_OF_CONNECTION: dict[LinkKind, int] = {
    link: TUNNELS_OF_LINK[link] // connections for link, connections in CONNECTIONS_OF_LINK.items() if connections
}
"""Tunnels of one connection of our gateway, for each kind of link that takes connections."""


def _existing_file(path: Path) -> Path:
    try:
        there = path.is_file()
    except OSError:
        # For example a path that is too long.
        there = False
    if not there:
        raise PydanticCustomError(NO_FILE, "no such file")
    return path


ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
"""A path of an existing file. Pydantic's `FilePath` would end the run with an OSError."""


MAX_ROOT_BYTES = 2048
"""Largest root certificate of a zone, which is in a VM's custom data: one with an RSA key of 4096 bits has about
1,500."""


def _certificate(path: Path) -> Path:
    found = _certificates(path)
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} certificates in it; wanted a PEM file with the network's root certificate alone"
        )
    try:
        found[0].verify_directly_issued_by(found[0])
        is_authority = found[0].extensions.get_extension_for_class(BasicConstraints).value.ca
    except Exception:
        is_authority = False
    if not is_authority:
        raise ValueError("its certificate is not a self-signed CA certificate; wanted the network's root certificate")
    start, end = found[0].not_valid_before_utc, found[0].not_valid_after_utc
    if not start <= datetime.now(UTC) <= end:
        raise ValueError(f"its certificate is valid from {start:%F} to {end:%F}; wanted one that is valid now")
    size = len(found[0].public_bytes(Encoding.DER))
    if size > MAX_ROOT_BYTES:
        raise ValueError(
            f"its certificate has {size} bytes; wanted {MAX_ROOT_BYTES} at most: a VM's custom data holds no more"
        )
    return path


def _certificates(path: Path) -> list[Certificate]:
    """The certificates in a PEM file; none if one can't be read."""
    try:
        return load_pem_x509_certificates(path.read_bytes())
    except Exception:
        # A malformed certificate may raise any exception.
        return []


ROOT_OPEN_AT_MOST = timedelta(hours=24)
"""Longest time that the root may be open."""
_UTC_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _root_open_until(value: object) -> datetime | None:
    """When the root closes. A past time in a file is valid and has no effect."""
    wanted = f"wanted a UTC time such as {datetime.now(UTC) + timedelta(hours=8):{_UTC_TIME}}, with the Z"
    try:
        until = datetime.strptime(value, _UTC_TIME).replace(tzinfo=UTC) if isinstance(value, str) else None
    except ValueError:
        until = None
    # strptime takes a month of one digit too.
    if until is None or f"{until:{_UTC_TIME}}" != value:
        raise ValueError(wanted)
    left = until - datetime.now(UTC)
    if left > ROOT_OPEN_AT_MOST:
        hours = ROOT_OPEN_AT_MOST // timedelta(hours=1)
        raise ValueError(f"{left / timedelta(hours=1):.1f} hours ahead; wanted {hours} at most, from now")
    return until


def _each_name_once(names: tuple[str, ...]) -> tuple[str, ...]:
    refuse(repeated(names, name_key))
    return names


def _text(value: object) -> object:
    # 7 would be 0.0.0.7/32.
    if not isinstance(value, str | IPv4Network):
        raise PydanticCustomError("ip_v4_network", "not text")
    return value


def _with_prefix(value: object) -> object:
    # 10.50.0.0 would be one address.
    if isinstance(value, str) and "/" not in value:
        raise ValueError("wanted a network with its prefix, such as 10.50.0.0/16")
    return _text(value)


def _true_or_false(value: object) -> object:
    # Pulumi gives a top-level value as text.
    if value not in (True, False, "true", "false") or (isinstance(value, int) and not isinstance(value, bool)):
        raise ValueError("wanted true or false")
    return value


def _no_node(name: str) -> str:
    # A VM takes a fault at a peer of its identity's name for its own.
    if name in map(identity_name, range(MAX_IDENTITIES)):
        last = identity_name(MAX_IDENTITIES - 1)
        raise ValueError(f"wanted another name: nodes have those from {identity_name(0)} to {last}")
    return name


MAX_NOTARIES = 20
"""Most notaries of a network: their names are in the custom data of the authority's VMs."""

MAX_PLATFORM_VERSION = 200
"""Above each release's platform version: 12 for 4.10, 140 for 4.12. One that no node has would exclude all."""

Pin = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$"), Form("sha256: and 64 hex digits")]
MemberText = Annotated[
    MemberName,
    AfterValidator(_no_node),
    Form("lower-case letters, digits and single hyphens, a letter first, 24 characters at most"),
]
NodeText = Annotated[str, Form("a node's legal name, such as OU=node-1, O=Bank A, L=London, C=GB")]
BankText = Annotated[str, Form("an X.500 name with O, L and C, such as O=Bank A, L=London, C=GB")]
_Notaries = Annotated[tuple[NodeText, ...], Field(max_length=MAX_NOTARIES), AfterValidator(_each_name_once)]


_LABEL = "([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"([a-z0-9]{_LABEL}\.)+[a-z]{_LABEL}")
"""A host name; its last label is not a number, since resolvers take 127.1 for an address."""
# iana.org/assignments/special-use-domain-names, but the names of examples; and what RFC 6762 lists beside .local.
_NO_PUBLIC_DOMAIN = tuple(
    f".{each}"
    for each in "alt arpa corp home internal intranet invalid lan local localdomain localhost onion "
    "private test".split()
)


# Without a user, since anybody with access to a VM can read it; on the one port that security rules let nodes reach.
def _public_host(url: str) -> str:
    host = urlsplit(url).hostname or ""
    try:
        address = IPv4Address(host)
        # Python regards multicast and Azure's wire server as global.
        public = address.is_global and is_public(address)
    except ValueError:
        public = len(host) <= 253 and bool(_DOMAIN.fullmatch(host)) and not host.endswith(_NO_PUBLIC_DOMAIN)
    if not public:
        raise ValueError(
            f"host {host}; wanted a public one: VMs reach public addresses alone, an image holds the rest"
        )
    return url


HttpsUrl = Annotated[
    str,
    # A path of RFC 3986.
    StringConstraints(
        pattern=r"^https://[^\s/:@?#]+(:443)?(/([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?$", max_length=2000
    ),
    AfterValidator(_public_host),
    Form("an https:// URL, port 443, without a user"),
]


class _Section(BaseModel):
    """One object of the configuration: camelCase keys, none that is not declared."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )


class BankSettings(_Section):
    """This member's identity in the consortium."""

    name: MemberText = Field(
        description="unique in the consortium; lower-case letters, digits and hyphens, 24 at most"
    )
    legal_name: BankText = Field(
        description="X.500 name with O, L and C in printable basic Latin; each node adds its own OU"
    )
    asn: Annotated[Asn, Strict(), Form("a private BGP autonomous system number such as 64512")] = Field(
        description="private BGP autonomous system number, unique in the consortium; with ExpressRoute also 65515"
    )
    # Above it as many changes are left as below: a card with a counter over `MAX_COUNTER` is none for peers.
    card_counter: Annotated[int, Field(ge=1, le=MAX_COUNTER // 2, strict=True)] = Field(
        1,
        description="lowest counter of this member's card; after the state was restored from a backup or the "
        "stack was destroyed, one above the highest counter that peers have seen",
    )


class ImageSettings(_Section):
    """The image of the node VMs' disk."""

    id: Annotated[str, AfterValidator(check_image_id), Form("the resource id of an image's version")] = Field(
        description="resource id of one version of a compute gallery's image"
    )


VmSize = Annotated[str, AfterValidator(check_vm_size), Form("an Azure VM size such as Standard_D4as_v5")]
SshPublicKey = Annotated[
    str, AfterValidator(check_ssh_public_key), Form("one OpenSSH public key, ssh-ed25519 or ssh-rsa")
]


class NodesSettings(_Section):
    """The node VMs."""

    count: Annotated[int, Field(ge=MIN_VMS, le=MAX_VMS, strict=True)] | None = Field(
        None, description=f"number of VMs, {MIN_VMS} to {MAX_VMS}; if not set, the size decides"
    )
    standby: Annotated[int, Field(ge=0, le=MAX_VMS - 1, strict=True)] = Field(
        1, description="how many of the VMs are standbys: they run no node and wait to take an identity over"
    )
    vm_size: VmSize | None = Field(None, description="Azure VM size; if not set, the size decides")
    image: ImageSettings | None = Field(
        None,
        description="`{id}` of a prepared image; without it VMs are Ubuntu 24.04 LTS, set up by cloud-init, and "
        "lack the share's mount helper, so that no node starts; to add or remove it replaces all VMs at once: the "
        "new ones are made first, so they need quota beside the old ones",
    )
    ssh_public_key: SshPublicKey = Field(
        description=f"OpenSSH public key of the administrator: ssh-ed25519, or ssh-rsa of {MIN_RSA_BITS} bits or more"
    )
    encryption_at_host: StrictBool = Field(
        True,
        description="encrypts disks and caches on the host; the subscription must have the feature registered. "
        "`false` is for one without it: a live member's VMs may stay encrypted",
    )


StackName = Annotated[
    str, StringConstraints(pattern=r"^[^/\s]+/[^/\s]+/[^/\s]+$"), Form("organization/project/stack")
]


class PeerSettings(_Section):
    """Another member to which this one is linked; its stack must be deployed."""

    name: MemberText = Field(description="the peer's `bank.name`")
    legal_name: BankText | None = Field(
        None,
        description="legal name of the peer's bank, agreed out of band like `fingerprint`: each name on its card "
        "must be that name and an OU, and no other is certified for it; required if the platform's names are "
        "certified",
    )
    stack: StackName | None = Field(
        None, description="`organization/project/stack` whose output `member` is the peer's card"
    )
    card: Annotated[ExistingFile, Form("the path of a JSON file with the peer's card")] | None = Field(
        None, description="JSON file with the peer's card, by its path from the project's folder, instead of `stack`"
    )
    link: LinkKind | None = Field(
        None,
        description="`vnet-to-vnet` (default in one Entra tenant), `ipsec` (default across tenants), `express-route`",
    )
    fingerprint: Pin | None = Field(
        None, description="`sha256:` and 64 hex digits of the peer's signing key; required with `card`"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._flaws())
        return self

    def _flaws(self) -> Iterator[Flaw]:
        if self.stack is None and self.card is None:
            yield Flaw("not set; wanted `stack`, or `card` with a file", ("stack",))
        elif self.stack is not None and self.card is not None:
            yield Flaw("set beside `stack`; wanted one of the two", ("card",))
        if self.card is not None and self.fingerprint is None:
            yield Flaw(
                "not set; wanted the peer's fingerprint, as agreed out of band, beside a `card`", ("fingerprint",)
            )


class LinkPolicy(IpsecPolicy):
    """The policy of all links, if it is not the default."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False, strict=True)


class KeyGenerationSettings(KeyGenerations):
    """Configured generations. Unknown keys are refused: a misspelt one would leave a leaked key in use."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False, strict=True)


class VpnSettings(_Section):
    """The VPN gateway."""

    sku: GatewaySku = Field(
        GatewaySku.VPN_GW1AZ,
        description="gateway SKU; 30 connections up to VpnGw3AZ, 100 from VpnGw4AZ on. VpnGw1AZ can't be resized, "
        "only replaced, with all links down for hours: start with VpnGw2AZ to scale later",
    )
    ipsec_policy: LinkPolicy = Field(
        {}, validate_default=True, description="IKEv2 and IPsec proposal, the same on both sides"
    )


class ExpressRouteSettings(_Section):
    """The bank's ExpressRoute circuit."""

    circuit_id: Annotated[str, AfterValidator(check_circuit_id), Form("the resource id of a circuit")] = Field(
        description="resource id of the circuit"
    )


class ConnectivitySettings(_Section):
    """How the member reaches its peers."""

    vpn: VpnSettings | None = Field(None, description="VPN gateway `{sku, ipsecPolicy}`; the default")
    express_route: ExpressRouteSettings | None = Field(
        None,
        description=f"`{{circuitId}}`, besides or instead of `vpn`; requires the secret `{EXPRESS_ROUTE_KEY}`",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.vpn is None and self.express_route is None:
            raise ValueError("wanted `vpn`, `expressRoute` or both")
        return self


class ZoneSettings(_Section):
    """A network that others operate."""

    registration_url: HttpsUrl = Field(
        description="`https://` URL, port 443, without a user, of its registration service"
    )
    network_map_url: HttpsUrl = Field(description="`https://` URL, port 443, without a user, of its network map")
    trust_root: Annotated[
        ExistingFile, AfterValidator(_certificate), Form("the path of a PEM file with its root certificate")
    ] = Field(description="PEM file with its root certificate")

    def zone(self) -> Zone:
        """The settings that VMs need."""
        return Zone(
            registration_url=self.registration_url,
            network_map_url=self.network_map_url,
            # Other content of the file, such as a private key, must not get into custom data.
            trust_root=_certificates(self.trust_root)[0].public_bytes(Encoding.PEM).decode(),
        )


class NetworkSettings(_Section):
    """The ledger's network: who certifies names, and its parameters."""

    authority: MemberText | None = Field(
        None, description="the member that certifies names: this one, or one of `peers`"
    )
    zone: ZoneSettings | None = Field(
        None,
        description="a network that others run, instead: `{registrationUrl, networkMapUrl, trustRoot}`",
    )
    trust_root: Pin | None = Field(
        None,
        description="pins the network's root certificate: `sha256:` and 64 hex digits over its DER; without it the "
        "first root certificate that the authority proves to be its own is pinned. The authority serves no other "
        "root, whatever is in its register",
    )
    document: Pin | None = Field(
        None,
        description="pins the network document, for Corda the signed network parameters: `sha256:` and 64 hex digits "
        "over the file",
    )
    # Manual by default: a certified name may sign in the network, and revoking it is laborious.
    approval: Approval = Field(
        Approval.MANUAL,
        description="if this member is the authority: `auto` certifies each name on the requesting member's card, "
        "`manual` waits until an operator approves it; either way only under the legal name agreed with that member",
    )
    root_open_until: Annotated[datetime | None, BeforeValidator(_root_open_until)] = Field(
        None,
        description="if this member is the authority: UTC time, at most 24 hours ahead, until which its VMs may "
        "sign with the root's key; the first run after that time revokes the right. Needed in the first run, and to "
        "renew what the root signs",
    )
    ca_generation: Annotated[int, Field(ge=1, le=MAX_CA_GENERATION, strict=True)] = Field(
        1,
        description="if this member is the authority: raise it by one, with the root open, to certify names by a "
        "new CA with a new key; never lower it",
    )
    notaries: _Notaries = Field(
        (),
        description="if this member is the authority: legal names of the network's notaries; if empty, all of this "
        "member's identities with that role",
    )
    # The next four as Corda's own bootstrapper has them, but the first: what the oldest supported release has.
    minimum_platform_version: Annotated[int, Field(ge=1, le=MAX_PLATFORM_VERSION, strict=True)] = Field(
        10, description="if this member is the authority: nodes with an older platform version can't take part"
    )
    max_message_bytes: Annotated[int, Field(ge=65_536, le=104_857_600, strict=True)] = Field(
        10_485_760,
        description="if this member is the authority: largest message between nodes in bytes, 65536 to 104857600",
    )
    max_transaction_bytes: Annotated[int, Field(ge=65_536, le=2_147_483_647, strict=True)] = Field(
        524_288_000,
        description="if this member is the authority: largest transaction with its attachments in bytes, 65536 or "
        "more",
    )
    event_horizon_days: Annotated[int, Field(ge=1, le=3650, strict=True)] = Field(
        30, description="if this member is the authority: days after which a silent node is forgotten, 1 to 3650"
    )

    @model_validator(mode="after")
    def _one_kind(self, info: ValidationInfo) -> Self:
        refuse(self._flaws((info.context or {}).get("member")))
        return self

    def _flaws(self, member: str | None) -> Iterator[Flaw]:
        if self.authority is None and self.zone is None:
            yield Flaw("wanted either `authority` or `zone` in it")
        elif self.authority is not None and self.zone is not None:
            yield Flaw("set beside `zone`; wanted one of the two", ("authority",))
        stated = {str(type(self).model_fields[name].alias): name for name in self.model_fields_set}
        for key, name in sorted(stated.items()):
            if self.zone is not None and key not in ("authority", "zone"):
                yield Flaw("set beside `zone`; wanted no such key: the zone decides it", (key,))
            elif self.authority not in (None, member) and member and name in _OF_THE_OWN_AUTHORITY:
                decided = f"set in the network of {self.authority}; wanted no such key: {self.authority} decides it"
                yield Flaw(decided, (key,))
        if self.max_message_bytes > self.max_transaction_bytes:
            one, other = "maxMessageBytes", "maxTransactionBytes"
            if one in stated:
                yield Flaw(f"more than {other}, {self.max_transaction_bytes}; wanted it no larger", (one,))
            else:
                yield Flaw(f"less than {one}, {self.max_message_bytes}; wanted it no smaller", (other,))


_OF_THE_OWN_AUTHORITY = frozenset(NetworkSettings.model_fields) - {"authority", "zone", "trust_root", "document"}


_MAX_APPLICATIONS = 100
MAX_APPLICATION_BYTES = 5500
"""Most bytes of the applications, packed: they are twice in a VM's custom data, of which Azure accepts 64 kB."""


class LedgerSettings(_Section):
    """The ledger software and its network."""

    platform: Annotated[str, Form(f"one of {', '.join(PLATFORMS)}")] = Field("corda", description="ledger platform")
    version: Annotated[str, Form('text such as "4.12"')] | None = Field(
        None, description="version of the platform; if not set, the platform's default"
    )
    artifact: Artifact | None = Field(
        None, description="`{coordinates, sha256}` of the ledger software, if it is not the platform's default"
    )
    repository: HttpsUrl | None = Field(
        None,
        description="`https://` URL, port 443, without a user, of the Maven repository; if not set, the one that "
        "the VM's Maven is set up for",
    )
    applications: Annotated[tuple[Artifact, ...], Field(max_length=_MAX_APPLICATIONS)] = Field(
        (), description="what the bank runs on its nodes: `{coordinates, sha256}` each"
    )
    roles: dict[str, Annotated[str, Form("the name of a role")]] = Field(
        {}, description="roles of the identities that do not have the platform's first role: `{node-1: notary}`"
    )
    names: dict[str, Annotated[LegalNameText, Form("a node's legal name")]] = Field(
        {},
        description="only with `network.zone`: legal names that the zone certified, by names of identities, each "
        "the bank's and an OU: `{node-1: 'OU=Ledger 1, O=...'}`; if not set, the OU is the identity's name",
    )
    rpc_users: tuple[RpcUser, ...] = Field(
        (),
        description="the bank's applications: `{name, permissions}`; their passwords are generated and stored in "
        "the vault",
    )
    application_ports: ApplicationPorts = Field(
        ApplicationPorts.SHARED,
        description="how the bank's applications reach its nodes: `shared`, by the port that all nodes share; "
        "`each`, also by a port of each node, for states that belong to one node; each port is a rule of the "
        "balancer",
    )
    share_gib: Annotated[int, Field(ge=SHARE_GIB[0], le=SHARE_GIB[-1], strict=True)] = Field(
        SHARE_GIB[0],
        description="GiB of the share, where nodes store what is not in their databases, "
        f"{SHARE_GIB[0]} to {SHARE_GIB[-1]}; may be raised, never lowered",
    )
    network: NetworkSettings | None = Field(
        None, description="who certifies names: `{authority, ...}` or `{zone}`; without it no node starts"
    )

    @field_validator("platform")
    @classmethod
    def _known_platform(cls, name: str) -> str:
        if name not in PLATFORMS:
            raise ValueError(f"wanted one of {', '.join(PLATFORMS)}")
        return name

    @field_validator("applications")
    @classmethod
    def _in_one_version(cls, applications: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
        # A node does not start with one of them in two versions, and its folder has one file NAME-VERSION.jar.
        refuse(repeated(applications, lambda each: each.coordinates.rpartition(":")[0], below=("coordinates",)))
        refuse(
            repeated(
                applications, lambda each: each.coordinates.split(":", 1)[1].replace(":", "-"), below=("coordinates",)
            )
        )
        packed = len(zlib.compress("".join(map(str, applications)).encode()))
        if packed > MAX_APPLICATION_BYTES:
            raise ValueError(
                f"{packed} bytes of coordinates and hashes, packed; wanted {MAX_APPLICATION_BYTES} at most: a VM's "
                "custom data holds no more"
            )
        return applications

    @field_validator("rpc_users")
    @classmethod
    def _known_permissions(cls, users: tuple[RpcUser, ...], info: ValidationInfo) -> tuple[RpcUser, ...]:
        refuse(_unusable(users, PLATFORMS.get(info.data.get("platform", ""))))
        return users

    @field_validator("network")
    @classmethod
    def _certified_by_a_member(cls, network: NetworkSettings | None, info: ValidationInfo) -> NetworkSettings | None:
        platform = PLATFORMS.get(info.data.get("platform", ""))
        if network and network.authority and platform and platform.authority is None:
            refuse([Flaw(f"no member certifies names of {platform.name}; wanted no such key", ("authority",))])
        return network

    @model_validator(mode="after")
    def _named_by_a_zone(self) -> Self:
        if self.names and not (self.network and self.network.zone):
            decided = "an authority certifies the bank's legal name with the identity's name as OU"
            refuse([Flaw(f"set without `ledger.network.zone`; wanted no such key: {decided}", ("names",))])
        first: dict[str, str] = {}
        refuse(
            Flaw(f"the same legal name as that of {first[name_key(name)]}; wanted each once", ("names", identity))
            for identity, name in self.names.items()
            if first.setdefault(name_key(name), identity) != identity
        )
        return self

    @model_validator(mode="after")
    def _known_version(self) -> Self:
        versions = PLATFORMS[self.platform].versions
        if self.version is not None and self.version not in versions:
            refuse([Flaw(f"wanted one of {', '.join(versions)}", ("version",))])
        version = self.version or PLATFORMS[self.platform].default_version
        coordinates = self.artifact.coordinates if self.artifact else None
        if coordinates and not re.fullmatch(rf"{re.escape(version)}([.-].+)?", coordinates.rpartition(":")[2]):
            wanted = f"wanted one of version {version}, or its own as `ledger.version`"
            refuse([Flaw(wanted, ("artifact", "coordinates"))])
        number = PLATFORMS[self.platform].platform_version
        if self.network and number and self.network.minimum_platform_version > (own := number(version)):
            above = f"above {own}, that of {version}, which this member's nodes run; wanted it no higher"
            refuse([Flaw(above, ("network", "minimumPlatformVersion"))])
        return self


def _unusable(users: tuple[RpcUser, ...], platform: Platform | None) -> Iterator[Flaw]:
    """Users with whom a node would not start."""
    yield from repeated(users, lambda user: user.name, below=("name",))
    accounts = [user.with_password("x" * RPC_PASSWORD_LENGTH).model_dump(by_alias=True) for user in users]
    if (size := len(json.dumps(accounts))) > MAX_SECRET_BYTES:
        yield Flaw(f"they take {size} bytes with passwords; wanted {MAX_SECRET_BYTES}, as one secret holds")
    for place, user in enumerate(users):
        if user.name == AGENT_USER:
            yield Flaw("the agent's own; wanted another name", (place, "name"))
        for index, permission in enumerate(user.permissions):
            try:
                (platform.check_permission if platform else str)(permission)
            except ValueError as error:
                yield Flaw(str(error), (place, "permissions", index))


_ATOM = "[A-Za-z0-9!#$%&*+/=?^_`{|}~-]+"
_DOMAIN_PART = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
Email = Annotated[
    str,
    # An atom's dots stand between its characters, RFC 5322; without the apostrophe, which quotes it somewhere.
    StringConstraints(pattern=rf"^{_ATOM}(\.{_ATOM})*@{_DOMAIN_PART}(\.{_DOMAIN_PART})+$", max_length=254),
    Form("an e-mail address such as operations@bank.example"),
]
_MAX_EMAILS = 50
"""Most addresses of a budget's mail."""


def _each_address_once(emails: tuple[str, ...]) -> tuple[str, ...]:
    # Receivers are named by their addresses, and Azure's names ignore case.
    refuse(repeated(emails, str.casefold))
    return emails


class AlertsSettings(_Section):
    """The receivers of alerts."""

    emails: Annotated[tuple[Email, ...], Field(max_length=_MAX_EMAILS), AfterValidator(_each_address_once)] = Field(
        (), description=f"addresses that get each alert, {_MAX_EMAILS} at most"
    )


_MAX_BUDGET = 1_000_000_000
"""More than a member costs in any currency; Pulumi accepts no number of 400 digits."""


class MonitoringSettings(_Section):
    """Monitoring of the member."""

    budget: Annotated[int, Field(ge=1, le=_MAX_BUDGET, strict=True)] | None = Field(
        None,
        description="what the resource group may cost a month, in the currency of the subscription's bills: "
        "`alerts.emails` get a mail when the cost reaches it, or is forecast to; not at size `small`",
    )


class KeyVaultSettings(_Section):
    """Protection of the vault's deleted objects."""

    purge_protection: StrictBool = Field(
        True,
        description="nobody can purge a deleted object before `softDeleteDays` are over; once on, it stays on",
    )
    soft_delete_days: Annotated[int, Field(ge=7, le=90, strict=True)] = Field(
        90, description="days that deleted objects can be restored, 7 to 90; fixed when the vault is made"
    )


class DatabaseSettings(_Section):
    """Settings of the database's server that a region may refuse."""

    high_availability: HighAvailability | None = Field(
        None,
        description="where the server has its standby: `ZoneRedundant`, `SameZone` or `Disabled`; if not set, size "
        "and region decide",
    )
    geo_redundant_backup: StrictBool | None = Field(
        None,
        description="copies backups to the paired region too; if not set, wherever Azure offers it; fixed when the "
        "server is made",
    )
    sku: Annotated[str, AfterValidator(check_sku), Form("a server's size such as Standard_D4ds_v5")] | None = Field(
        None,
        description="size of the server, such as `Standard_D4ds_v5`; if not set, as many vCores as the nodes need, "
        "of the newest generation up to v5 that the region has",
    )


_MAX_LISTED = 100
"""Most operators and readers: a subscription has at most 4000 role assignments."""
_MAX_PEERS = 250
"""Most peers: their enrolment keys fit into one secret; most of them over ExpressRoute."""


def _somebody(principal: UUID) -> UUID:
    if not principal.int:
        raise ValueError("the null GUID; wanted the object id of a principal in Entra")
    return principal


Principals = Annotated[
    tuple[Annotated[UUID, AfterValidator(_somebody)], ...], Field(max_length=_MAX_LISTED), AfterValidator(each_once)
]
AuthorizationKey = Annotated[SecretStr, Field(min_length=1), Form("the circuit's authorization key")]


class Settings(_Section):
    """One member's configuration. Each field is a configuration key of the project."""

    _server_offer: ServerOffer | None = PrivateAttr(None)
    _live_region: Region | None = PrivateAttr(None)

    location: Annotated[str, Form("the name of an Azure region such as swedencentral")] = Field(
        alias=LOCATION_KEY, description="Azure region"
    )
    size: Size = Field(
        description="`small`, `medium` or `large`: decides the VMs, monitoring and the database's standby"
    )
    nodes: NodesSettings = Field(
        description="the node VMs: `{count, standby, vmSize, image, sshPublicKey, encryptionAtHost}`"
    )
    ledger: LedgerSettings = Field(
        {},
        validate_default=True,
        description="the ledger software and its network: `{platform, version, artifact, repository, applications, "
        "roles, names, rpcUsers, applicationPorts, shareGib, network}`",
    )
    bank: BankSettings = Field(description="who this member is: `{name, legalName, asn, cardCounter}`")
    address_space: Annotated[
        PrivateSpace,
        BeforeValidator(_text),
        Form("a private IPv4 network of /16 to /22 such as 10.20.0.0/16, without host bits"),
    ] = Field(description="the member's private IPv4 range, /16 to /22")
    connectivity: ConnectivitySettings = Field(
        {"vpn": {}}, validate_default=True, description="how the member reaches its peers: `{vpn, expressRoute}`"
    )
    gateway_readers: Principals = Field(
        (),
        description="object ids of the service principals that deploy peers' halves of `vnet-to-vnet` links: they "
        "may read this member's gateway, which Azure requires; list them before that peer joins",
    )
    express_route_authorization_key: AuthorizationKey | None = Field(
        None, validate_default=True, description="secret: authorization key of the ExpressRoute circuit"
    )
    peers: Annotated[tuple[PeerSettings, ...], Field(max_length=_MAX_PEERS)] = Field(
        (),
        validate_default=True,
        description="the members to link to: `{name, legalName, stack or card, link, fingerprint}`",
    )
    application_networks: Annotated[
        tuple[Annotated[IPv4Network, BeforeValidator(_with_prefix), AfterValidator(check_application_network)], ...],
        Field(max_length=MAX_APPLICATION_NETWORKS),
        AfterValidator(each_once),
    ] = Field(
        (), description="CIDRs of the bank's own applications: they may call RPC, and the private endpoints by HTTPS"
    )
    operators: Principals = Field(
        (),
        description="object ids of the Entra groups that may read the applications' passwords, the nodes' "
        "certificates and logs",
    )
    alerts: AlertsSettings = Field({}, validate_default=True, description="who gets the alerts: `{emails}`")
    monitoring: MonitoringSettings = Field(
        {}, validate_default=True, description="what is watched in addition to the resources: `{budget}`"
    )
    tags: dict[str, Annotated[str, Form("text in quotes")]] = Field(
        {},
        description=f"tags for every resource that takes them, for example a cost centre; {MAX_TAGS} at most. "
        "Private DNS zones take only names of letters, digits, - and _, so they go without the others. Keys "
        "in a vault and gateways' maintenance windows keep the first ones",
    )
    database: DatabaseSettings = Field(
        {}, validate_default=True, description="the database's server: `{highAvailability, geoRedundantBackup, sku}`"
    )
    key_vault: KeyVaultSettings = Field({}, validate_default=True, description="`{purgeProtection, softDeleteDays}`")
    key_generations: KeyGenerationSettings = Field(
        {}, validate_default=True, description="`{link, signing}`: raised by one to make a new key pair"
    )
    deletion_protection: Annotated[bool, BeforeValidator(_true_or_false)] = Field(
        True,
        description="Pulumi refuses to delete what can't be made again: the card's keys, vaults, an authority's "
        "keys, storage with its containers and share, database, logs, gateway and its addresses",
    )

    @field_validator("operators")
    @classmethod
    def _groups_alone(cls, operators: tuple[UUID, ...], info: ValidationInfo) -> tuple[UUID, ...]:
        # A role assignment states the kind of its principal, and Azure refuses another kind.
        readers = info.data.get("gateway_readers") or ()
        refuse(
            Flaw("also in `gatewayReaders`, which are service principals; wanted a group", (place,))
            for place, each in enumerate(operators)
            if each in readers
        )
        return operators

    @field_validator("monitoring")
    @classmethod
    def _somebody_hears(cls, monitoring: MonitoringSettings, info: ValidationInfo) -> MonitoringSettings:
        alerts, size = info.data.get("alerts"), info.data.get("size")
        if monitoring.budget is not None and size and not SIZES[size].monitoring:
            watched = " or ".join(each for each, profile in SIZES.items() if profile.monitoring)
            refuse([Flaw(f"at size {size}, which is not watched; wanted size {watched}", ("budget",))])
        if monitoring.budget is not None and alerts and not alerts.emails:
            unheard = "set without `alerts.emails`; wanted an address for its mail"
            refuse([Flaw(unheard, ("budget",))])
        return monitoring

    @field_validator("tags")
    @classmethod
    def _taken_by_all(cls, tags: dict[str, str]) -> dict[str, str]:
        refuse(Flaw(text, (name,) if name is not None else ()) for name, text in wrong_tags(tags))
        return tags

    @field_validator("application_networks")
    @classmethod
    def _of_the_bank(cls, networks: tuple[IPv4Network, ...], info: ValidationInfo) -> tuple[IPv4Network, ...]:
        own = info.data.get("address_space")
        refuse(
            Flaw(f"overlaps the member's own {own}; wanted a network outside of it", (place,))
            for place, each in enumerate(networks)
            if own and each.overlaps(own)
        )
        # Azure refuses a security rule whose networks overlap.
        refuse(
            Flaw(f"overlaps {earlier}; wanted networks that do not overlap", (place,))
            for place, each in enumerate(networks)
            for earlier in networks[:place]
            if each.overlaps(earlier)
        )
        return networks

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
    def _legal_name_of_platform(cls, bank: BankSettings, info: ValidationInfo) -> BankSettings:
        ledger = info.data.get("ledger")
        if ledger is None:
            return bank
        try:
            legal_name = PLATFORMS[ledger.platform].check_legal_name(bank.legal_name)
        except ValueError as error:
            raise FlawsError([Flaw(str(error), ("legalName",))]) from error
        refuse(_not_certified(ledger, legal_name))
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
    def _someone_runs(cls, nodes: NodesSettings, info: ValidationInfo) -> NodesSettings:
        size = info.data.get("size")
        count = nodes.count or (SIZES[size].count if size else MAX_VMS)
        if nodes.standby >= count:
            unused = f"all of {count} VMs; wanted at least one that runs a node"
            refuse([Flaw(unused, ("standby",), value=nodes.standby)])
        return nodes

    @field_validator("ledger")
    @classmethod
    def _ledger_fits(cls, ledger: LedgerSettings, info: ValidationInfo) -> LedgerSettings:
        nodes, size = info.data.get("nodes"), info.data.get("size")
        count = (nodes.count or SIZES[size].count) - nodes.standby if nodes and size else None
        refuse(
            [
                *_of_no_identity(ledger, count),
                *_without_software(ledger, nodes),
                *_without_notary(ledger, (info.context or {}).get("member")),
            ]
        )
        return ledger

    @field_validator("database")
    @classmethod
    def _region_takes(cls, database: DatabaseSettings, info: ValidationInfo) -> DatabaseSettings:
        location = info.data.get("location")
        flaws = []
        if location and database.geo_redundant_backup and REGIONS[location].pair is None:
            flaws.append(Flaw(f"{location} has no paired region; wanted false", ("geoRedundantBackup",)))
        if location and database.high_availability is HighAvailability.ZONE_REDUNDANT and not REGIONS[location].zones:
            wanted = f"wanted {HighAvailability.SAME_ZONE} or {HighAvailability.DISABLED}"
            flaws.append(Flaw(f"{location} has no availability zones; {wanted}", ("highAvailability",)))
        refuse(flaws)
        return database

    @field_validator("database")
    @classmethod
    def _takes_all_nodes(cls, database: DatabaseSettings, info: ValidationInfo) -> DatabaseSettings:
        nodes, size, ledger = (info.data.get(name) for name in ("nodes", "size", "ledger"))
        if not (database.sku and nodes and size and ledger and (needs := PLATFORMS[ledger.platform].database)):
            return database
        running = (nodes.count or SIZES[size].count) - nodes.standby
        if vcores_of(database.sku) < (
            wanted := vcores(running, needs.identities_per_vcore, needs.connections_per_identity)
        ):
            few = f"of {vcores_of(database.sku)} vCores; wanted {wanted} or more for {running} nodes"
            refuse([Flaw(few, ("sku",))])
        return database

    @field_validator("connectivity")
    @classmethod
    def _asn_fits(cls, connectivity: ConnectivitySettings, info: ValidationInfo) -> ConnectivitySettings:
        bank = info.data.get("bank")
        if bank and bank.asn == COEXISTENCE_ASN and not (connectivity.vpn and connectivity.express_route):
            alone = (
                "for a VPN gateway beside an ExpressRoute gateway; wanted `connectivity.vpn` and "
                "`connectivity.expressRoute`, or a private ASN"
            )
            refuse([Flaw(alone, ("bank", "asn"), elsewhere=True)])
        return connectivity

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
            refuse([Flaw(f"not set; wanted `pulumi config set --secret {EXPRESS_ROUTE_KEY}` for the circuit")])
        if key is not None and connectivity is not None and not wanted:
            raise ValueError("set, but `connectivity.expressRoute` is not; wanted both or neither")
        if key is not None and key.get_secret_value().split() != [key.get_secret_value()]:
            raise ValueError("has white space in it or is empty; wanted the key alone")
        if key is not None and not secret:
            raise ValueError("is in plain text; wanted it encrypted: `pulumi config set --secret`")
        return key

    @field_validator("peers")
    @classmethod
    def _linkable(cls, peers: tuple[PeerSettings, ...], info: ValidationInfo) -> tuple[PeerSettings, ...]:
        bank, connectivity = info.data.get("bank"), info.data.get("connectivity")
        ledger = info.data.get("ledger")
        names = [peer.name for peer in peers]
        flaws = [*repeated(peers, lambda peer: peer.name, below=("name",))]
        if bank and bank.name in names:
            flaws.append(Flaw("this member itself; wanted other members only", (names.index(bank.name), "name")))
        authority = ledger.network.authority if ledger and ledger.network else None
        if bank and authority not in (None, bank.name, *names):
            unlisted = f"not in `peers`; wanted it listed there, or {bank.name} itself"
            flaws.append(Flaw(unlisted, ("ledger", "network", "authority"), elsewhere=True))
        if connectivity:
            flaws.extend(_unlinkable(peers, connectivity))
        if ledger:
            peers, wrong = _named(peers, bank, PLATFORMS[ledger.platform])
            flaws.extend(wrong)
        agreed = json.dumps({peer.name: peer.legal_name for peer in peers})
        if bank and authority == bank.name and len(agreed) > MAX_SECRET_BYTES:
            # All of them are in one secret of the authority's vault.
            flaws.append(
                Flaw(f"their names take {len(agreed)} bytes; wanted {MAX_SECRET_BYTES} at most, as one secret holds")
            )
        refuse(flaws)
        return peers

    @property
    def profile(self) -> SizeProfile:
        """The defaults of the size."""
        return SIZES[self.size]

    def with_zones_of(self, zones: tuple[str, ...] | None, pair: str | None) -> Self:
        """These settings, for a member that was made in these zones; None: an older program made it, so that the
        region's present zones count.

        Azure changes no address's zones, and no account's copies, when its region gets zones.
        """
        copy = self.model_copy()
        copy._live_region = None if zones is None else replace(self.region, zones=zones, pair=pair)
        return copy

    @property
    def region(self) -> Region:
        """The offer of the member's region, with the zones and the pair that it had when the member was made."""
        return self._live_region or REGIONS[self.location]

    @property
    def server_offer(self) -> ServerOffer:
        """The region's offer when the database's server was created; its present offer if there is none yet."""
        return self._server_offer or self.region.server_offer

    def with_server_of(self, offer: ServerOffer | None) -> Self:
        """These settings, for a server that was created with `offer`; None: there is no server yet."""
        copy = self.model_copy()
        copy._server_offer = offer
        return copy

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
        """Requirements of this member's network authority; None if it runs none."""
        return self.platform.authority if self.is_authority else None

    @property
    def root_open(self) -> bool:
        """Whether this member's network authority may sign with the root's key until the next run."""
        until = self.ledger.network.root_open_until if self.ledger.network else None
        return until is not None and until > datetime.now(UTC)

    @property
    def ca_generation(self) -> int:
        """Generation of the CA with which this member's network authority certifies names."""
        return self.ledger.network.ca_generation if self.ledger.network else 1

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
        """Place of the database server's standby."""
        wanted = self.database.high_availability or self.profile.database_high_availability
        if self.database.high_availability is None and wanted is HighAvailability.ZONE_REDUNDANT:
            return wanted if self.server_offer.zone_redundant else HighAvailability.SAME_ZONE
        return wanted

    @property
    def database_sku(self) -> str | None:
        """SKU of the database's server; None if the platform has no database."""
        needs = self.platform.database
        if needs is None:
            return None
        cores = vcores(self.identity_count, needs.identities_per_vcore, needs.connections_per_identity)
        return self.database.sku or general_purpose_sku(cores, self.server_offer.generation)

    @property
    def geo_redundant_backup(self) -> bool:
        """Whether the database's backups are copied to the paired region too."""
        chosen = self.database.geo_redundant_backup
        return self.server_offer.geo_redundant_backup if chosen is None else chosen


def _not_certified(ledger: LedgerSettings, legal_name: str) -> Iterator[Flaw]:
    """Flaws of `ledger.names`: each must be the bank's legal name with an OU."""
    for identity, name in ledger.names.items():
        steps = ("ledger", "names", identity)
        try:
            certified = PLATFORMS[ledger.platform].bank_of(name)
        except ValueError as error:
            yield Flaw(str(error), steps, elsewhere=True)
            continue
        if certified != legal_name:
            yield Flaw(f"wanted {legal_name}, as `bank.legalName`, and an OU", steps, elsewhere=True)


def _of_no_identity(ledger: LedgerSettings, count: int | None) -> Iterator[Flaw]:
    """Flaws of `ledger.roles` and `ledger.names`: unknown identities, unknown roles, OUs of other identities.

    Args:
        ledger: the settings with roles and names.
        count: the number of identities; None if it is not known, since other settings are wrong.
    """
    platform = PLATFORMS[ledger.platform]
    roles = [role.name for role in platform.roles]
    running = [identity_name(index) for index in range(count)] if count is not None else None
    for key, given in (("roles", ledger.roles), ("names", ledger.names)):
        for identity, value in given.items():
            if running and identity not in running:
                yield Flaw(f"there is no such identity; wanted {running[0]} to {running[-1]}", (key, identity))
            if key == "roles" and value not in roles:
                yield Flaw(f"wanted one of {', '.join(roles)}", (key, identity))
    for identity, name in ledger.names.items():
        unit = (LegalName.parse(name).get("OU") or "").casefold()
        if unit in (running or ()) and unit != identity:
            yield Flaw(f"has the OU {unit}, another identity's; wanted a different one", ("names", identity))


def _without_software(ledger: LedgerSettings, nodes: NodesSettings | None) -> Iterator[Flaw]:
    platform = PLATFORMS[ledger.platform]
    chosen = ledger.version not in (None, platform.default_version)
    if nodes and chosen and platform.install and ledger.artifact is None and nodes.image is None:
        wanted = "wanted its coordinates and SHA-256, or `nodes.image`"
        yield Flaw(f"set without `ledger.artifact`; {wanted}", ("version",))


def _without_notary(ledger: LedgerSettings, member: str | None) -> Iterator[Flaw]:
    needs, network = PLATFORMS[ledger.platform].authority, ledger.network
    if needs is None or network is None or network.authority is None or network.authority != member:
        return
    if not network.notaries and needs.notary_role not in ledger.roles.values():
        wanted = f"wanted role {needs.notary_role} for one identity, or `ledger.network.notaries`"
        yield Flaw(f"this network has no notary; {wanted}", ("roles",), value=ledger.roles)


def _named(
    peers: tuple[PeerSettings, ...], bank: BankSettings | None, platform: Platform
) -> tuple[tuple[PeerSettings, ...], list[Flaw]]:
    """The peers with their legal names in canonical form, and the flaws of those names."""
    flaws = []
    named = []
    held = {_attributes(bank.legal_name): (bank.name, bank.legal_name)} if bank else {}
    for place, peer in enumerate(peers):
        steps = (place, "legalName")
        if peer.legal_name is None:
            if platform.authority is not None:
                flaws.append(Flaw("not set; wanted that of its bank, agreed out of band", steps))
            named.append(peer)
            continue
        try:
            legal_name = platform.check_legal_name(peer.legal_name)
        except ValueError as error:
            flaws.append(Flaw(str(error), steps))
            continue
        attributes = _attributes(legal_name)
        for others, (holder, other) in held.items():
            if holder == peer.name:
                continue
            if attributes == others:
                flaws.append(Flaw(f"that of {holder} too; wanted a different legal name for each", steps))
            elif attributes < others or others < attributes:
                # X.500's constraints are subtrees: nodes of the shorter name have a CA that may certify the longer.
                differs = f"that of {holder} but for ST, {other}; wanted a difference in O, L or C, or ST in both"
                flaws.append(Flaw(differs, steps))
        held.setdefault(attributes, (peer.name, legal_name))
        named.append(peer.model_copy(update={"legal_name": legal_name}))
    return tuple(named), flaws


def _attributes(legal_name: str) -> frozenset[str]:
    return frozenset(name_key(legal_name).split("\n"))


def _unlinkable(peers: tuple[PeerSettings, ...], connectivity: ConnectivitySettings) -> Iterator[Flaw]:
    for place, peer in enumerate(peers):
        over_circuit = peer.link is LinkKind.EXPRESS_ROUTE
        if peer.link is not None and (connectivity.express_route if over_circuit else connectivity.vpn) is None:
            key = "expressRoute" if over_circuit else "vpn"
            yield Flaw(f"there is no `connectivity.{key}`; wanted it for such a link", (place, "link"))
    if connectivity.vpn:
        # A link whose kind the card decides takes at least as many as VNet-to-VNet.
        links = [peer.link or LinkKind.VNET_TO_VNET for peer in peers]
        for said in too_many_connections(links, connectivity.vpn.sku):
            yield Flaw(said, ("connectivity", "vpn", "sku"), elsewhere=True, value=connectivity.vpn.sku)


def too_many_connections(links: Iterable[LinkKind], sku: GatewaySku) -> list[str]:
    """Why the links are too many for a gateway, in one sentence; empty if they are not."""
    connections = sum(CONNECTIONS_OF_LINK[link] for link in links)
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
        SettingsError: with one line for each mistake; without any secret value.
    """
    namespace = f"{project}:"
    lines = [line for key in values if (line := _misspelt(key, project, located=LOCATION_KEY in values))]
    lines += _of_another_cloud(values)
    known = {
        key if key == LOCATION_KEY else key.removeprefix(namespace): _decode(text)
        for key, text in values.items()
        if key == LOCATION_KEY or key.startswith(namespace)
    }
    secret = frozenset(key.removeprefix(namespace) for key in secret_keys)
    nulls = [mistake for key in known for mistake in nulls_of(Settings, known[key], (key,))]
    lines += [_line(namespace, each, secret) for each in nulls]
    try:
        settings = Settings.model_validate(known, context={"secret_keys": secret, "member": _name(known.get("bank"))})
        if not lines:
            return settings
    except ValidationError as error:
        # One line for one mistake: a null is not text either, and leaves its section without it.
        found = [
            _line(namespace, each, secret)
            for each in mistakes_of(error, Settings, known)
            if not any(each.steps == null.steps[: len(each.steps)] for null in nulls)
        ]
        # One line for one mistake: a misspelt key is missing too.
        absent = tuple(f"{line.rpartition('wanted ')[2]}: not set;" for line in lines)
        lines += [line for line in found if not line.startswith(absent)]
    # Raised outside of the handler: pydantic's own report would show the values of secrets.
    raise SettingsError("\n".join(map(one_line, lines)))


_PROVIDER, _PULUMI = "azure-native", "pulumi"
# pulumi.com/registry/packages/azure-native/installation-configuration
_PROVIDER_KEYS = tuple(
    """auxiliaryTenantIds clientCertificatePassword clientCertificatePath clientId clientSecret
    disableInstanceDiscovery disablePulumiPartnerId environment location metadataHost msiEndpoint oidcRequestToken
    oidcRequestUrl oidcToken oidcTokenFilePath partnerId subscriptionId tenantId useDefaultAzureCredential useMsi
    useOidc""".split()
)


def _of_another_cloud(values: Mapping[str, str]) -> Iterator[str]:
    environment = values.get(f"{_PROVIDER}:environment", "public")
    if environment.lower() != "public":
        yield f"{_PROVIDER}:environment: {environment}: wanted public: regions and private zones are of that cloud"
    subscription = values.get(SUBSCRIPTION_KEY)
    if subscription is not None and not re.fullmatch(SUBSCRIPTION, subscription):
        # Not the value, which may be a secret that was set under the wrong key.
        yield f"{SUBSCRIPTION_KEY}: not a GUID; wanted {form_of(Settings, ('operators', 0))}"


def _misspelt(key: str, project: str, *, located: bool) -> str | None:
    """The message for a key that would be ignored, since its namespace or its name is misspelt; None if it is not.

    Args:
        key: the key with its namespace.
        project: the project's name.
        located: whether the region is set; if not, `location` in another namespace was meant to set it.
    """
    namespace, _, name = key.partition(":")
    ours = {str(field.alias) for field in Settings.model_fields.values()}
    if namespace not in (project, _PULUMI) and name in ours:
        return f"{key}: unknown namespace; wanted {project}:{name}"
    if namespace == _PROVIDER:
        near = get_close_matches(name, _PROVIDER_KEYS, n=1, cutoff=0.75)
        return f"{key}: unknown key; wanted {_PROVIDER}:{near[0]}" if near and name not in _PROVIDER_KEYS else None
    if namespace == project:
        return None
    near = get_close_matches(namespace, (project, _PROVIDER), n=1, cutoff=0.85)
    if not near and not located and f"{_PROVIDER}:{name}" == LOCATION_KEY:
        near = [_PROVIDER]
    return f"{key}: unknown namespace; wanted {near[0]}:{name}" if near else None


def _name(bank: object) -> str | None:
    """The member's name, for checks before its own; None if it is refused."""
    try:
        return TypeAdapter(MemberName).validate_python(bank.get("name") if isinstance(bank, dict) else None)
    except ValidationError:
        return None


def _decode(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return text
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, TypeError):
        # The field's check reports it.
        return text


def _line(namespace: str, mistake: Mistake, secret: frozenset[str]) -> str:
    top = str(mistake.steps[0])
    if mistake.has_value and top in (*secret, EXPRESS_ROUTE_KEY):
        # A message may quote the value; those about the authorization key never do.
        said = mistake.said if top == EXPRESS_ROUTE_KEY else f"wanted {mistake.form}"
        mistake = replace(mistake, said=said, value="[secret]", quoted=False)
    elif "PRIVATE KEY" in str(mistake.value):
        mistake = replace(mistake, value="[a private key]")
    return mistake.line if top == LOCATION_KEY else f"{namespace}{mistake.line}"


def load_settings() -> Settings:
    """The settings of the stack that the program runs for.

    Raises:
        RunError: the configuration is wrong; Pulumi prints it as one message, before anything is registered.
    """
    # Pulumi has no public call that lists the keys, and unknown keys must be refused.
    values = {**get_config_env(), **CONFIG.get()}
    try:
        return parse_settings(pulumi.get_project(), values, frozenset(key for key in values if is_config_secret(key)))
    except SettingsError as error:
        message = f"the configuration of stack {pulumi.get_stack()} can't be used:\n{error}"
    raise pulumi.RunError(message)
