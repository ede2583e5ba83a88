"""Configuration of the program on a network authority's VM: a JSON file without secrets."""

from enum import StrEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from contract.artifacts import Artifact, Installation
from contract.legal_name import LegalName, LegalNameText
from contract.models import StrictModel


class Approval(StrEnum):
    """The approver of requests for a name that is on the member's card and belongs to its bank."""

    MANUAL = "manual"
    """A person, by the command `approve`."""
    AUTO = "auto"
    """The program: the card is enough."""


def _bank_name(text: str) -> str:
    return str(LegalName.of_bank(text))


_Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/]+$")]


class NetworkParameterSettings(StrictModel):
    """The network parameters that can be configured."""

    minimum_platform_version: Annotated[int, Field(ge=1)]
    max_message_bytes: Annotated[int, Field(ge=65_536)]
    max_transaction_bytes: Annotated[int, Field(ge=65_536)]
    event_horizon_days: Annotated[int, Field(ge=1)]


class AuthorityConfiguration(StrictModel):
    """Configuration of one VM of a network authority."""

    member: str
    """The bank whose authority it is."""
    address_space: IPv4Network
    """The bank's range: its own VMs connect from addresses in it."""
    legal_names: tuple[LegalNameText, ...]
    """Legal names of this member's nodes; those of peers are on their cards."""
    client_id: str
    """Client id of the VMs' user-assigned identity."""
    vault_url: str
    """Vault of the authority: its keys except the root's, the peers' cards and the enrolment keys."""
    root_vault_url: str
    """Vault of the root key: this VM can sign with it only while the root is open."""
    blob_url: str
    container: str
    """Blob container of the register."""
    url: _Url
    """Base URL of the authority, as members connect to it."""
    crl_url: _Url
    """Base URL of the revocation lists, as nodes connect to it: `http://HOST:PORT`."""
    ca_generation: Annotated[int, Field(ge=1)] = 1
    """Generation of the CA that certifies names; raising it makes a new CA, while the root is open."""
    approval: Approval
    subject: Annotated[str, AfterValidator(_bank_name)]
    """The bank's legal name: subject of its certificates, without the CN."""
    trust_root: str | None = None
    """The pinned fingerprint of the network's root certificate; None: not pinned."""
    notaries: tuple[LegalNameText, ...]
    """Legal names of the notaries."""
    parameters: NetworkParameterSettings
    installation: Path
    """Folder of the ledger's artifacts: Corda's own code writes the network parameters."""
    version: str
    """Version of Corda."""
    artifact: Artifact | None = None
    """Corda, if it is not the known artifact of this version."""
    applications: tuple[Artifact, ...] = ()
    """Installed too: authority and nodes share one image."""
    connection_string: str | None
    """Connection string of Application Insights; None sends no telemetry."""

    @property
    def expected_installation(self) -> Installation:
        """The installation that the VM must have."""
        return Installation(self.version, self.installation, artifact=self.artifact, applications=self.applications)

    def to_json(self) -> str:
        """The file's content."""
        return self.model_dump_json(by_alias=True, indent=1)
