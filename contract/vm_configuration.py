"""Configuration of the agent on a node VM: a JSON file without secrets."""

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated

from pydantic import Field

from contract.artifacts import Artifact
from contract.legal_name import LegalNameText
from contract.models import StrictModel
from contract.ports import POSTGRESQL_PORT

FOLDER = Path("/etc/decentralized-trust")
MODEL_FILE = FOLDER / "model"
"""Hash of a VM's custom data."""
AGENT_FILE = FOLDER / "agent.json"
"""`AgentConfiguration` of a node VM."""
AUTHORITY_FILE = FOLDER / "authority.json"
"""`AuthorityConfiguration` of an authority's VM."""
EGRESS_FILE = FOLDER / "egress.nft"
"""nftables rules of a node VM."""
SHARE = Path("/mnt/ledger")
"""Mount point of the ledger's share on a node VM."""
PRESENCE_PREFIX = "vms/"
"""Prefix of the lease container's blobs by which VMs say that they are healthy; identities' names have no slash."""
INSTALLATION = Path("/opt/decentralized-trust/ledger")
"""Folder of the ledger's artifacts on every VM."""


class DatabaseServer(StrictModel):
    """The server of the identities' databases."""

    host: str
    port: int = POSTGRESQL_PORT
    administrator: str
    """Database role of the VM identity, which signs in with an Entra token."""
    root_certificates: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    """Trust roots for the server's certificate; by default the system's."""


class AuthorityAddress(StrictModel):
    """The member that certifies names for the network."""

    url: str
    """Base URL."""


class Zone(StrictModel):
    """A network that a third party operates."""

    registration_url: str
    network_map_url: str
    trust_root: str
    """The zone's root certificate, PEM."""


class LedgerNetwork(StrictModel):
    """Configuration of the ledger's network."""

    authority: AuthorityAddress | None = None
    zone: Zone | None = None
    trust_root: str | None = None
    """Pins the root certificate: `sha256:` and 64 hex digits over its DER."""
    document: str | None = None
    """Pins the network document: `sha256:` and 64 hex digits over the file."""


class AgentConfiguration(StrictModel):
    """Configuration of the agent on a node VM."""

    member: str
    """The bank's name in the consortium."""
    address_space: IPv4Network
    """The bank's range: its own VMs connect from addresses in it."""
    platform: str
    version: str
    """Version of the ledger software."""
    legal_name: str
    """The bank's legal name."""
    identities: Annotated[int, Field(ge=1)]

    roles: dict[str, str] = Field(default_factory=dict)
    """Roles by identity name; by default the platform's first."""
    legal_names: dict[str, LegalNameText] = Field(default_factory=dict)
    """Legal names as a zone certified them, by identity name; by default `platform.node_legal_name`."""
    frontend: str
    """The load balancer's address, to which peers and applications connect."""
    network: LedgerNetwork = LedgerNetwork()
    installation: Path
    """Folder of the ledger's artifacts."""
    artifact: Artifact | None = None
    """The ledger software installed there, if it is not the platform's known artifact."""
    applications: tuple[Artifact, ...] = ()
    """The bank's applications installed there."""
    client_id: str
    """Client id of the VMs' user-assigned identity."""
    key_vault_url: str
    """Vault of the identities' keys, which agents write."""
    bank_vault_url: str
    """Vault that the infrastructure writes and VMs only read."""
    blob_url: str
    lease_container: str
    network_container: str
    share: Path
    """Mount point of the share."""
    database: DatabaseServer | None
    connection_string: str | None
    """Connection string of Application Insights; None sends no telemetry."""

    def to_json(self) -> str:
        """The file's content."""
        return self.model_dump_json(by_alias=True, indent=1)
